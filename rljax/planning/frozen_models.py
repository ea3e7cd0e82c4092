"""The passes of frozen models beside the policy: a teacher's and a reward model's."""

import functools
import math

import numpy as np

from rljax.config.stage import Stage
from rljax.models.network import Network
from rljax.planning.program import Program, described, lowered
from rljax.sampling.engine import bucket
from rljax.training.collect.judge_scorer import JudgeScorer
from rljax.training.collect.model_scorer import ModelScorer, with_question
from rljax.training.collect.rewards import ModelReward
from rljax.training.families import Family
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.families.table import family_class
from rljax.training.run.context import Context
from rljax.training.run.models import Model, role_names
from rljax.training.update.likelihood import draws
from rljax.training.update.logprobs import model_rows
from rljax.training.update.moving_copy import REFERENCE, TEACHER
from rljax.training.update.rows import Rows, completion_rows

# Roles whose network is the policy's own, or a head beside it.
OF_POLICY = ("policy", "value", "reference")


def others_of(context: Context) -> dict[str, Model]:
    """The frozen models of a stage besides its reference, by role."""
    return {role: model for role, model in context.models.items() if role not in OF_POLICY}


def copies_of(context: Context, stage: Stage) -> dict[str, Network]:
    """The copies of the policy that the stage's state carries (update/moving_copy.py), by role."""
    carried = family_class(stage).carried(context, stage).shardings
    return {role: context.network for role in (REFERENCE, TEACHER) if role in carried}


def asked_of(context: Context, stage: Stage) -> dict[str, Network]:
    """The networks that a step asks besides the policy and its reference, by role."""
    networks = {role: model.network for role, model in others_of(context).items()}
    copies = copies_of(context, stage)
    return networks | {role: copies[role] for role in copies if role not in OF_POLICY}


def scoring_passes(stage: Stage) -> int:
    """How often a step scores its samples: once, or anew for each epoch's masks."""
    return stage.batch.epochs_per_step if draws(stage) else 1


def reward_passes(stage: Stage) -> int:
    """Passes of each reward model over the samples of a step (collect/model_scorer.py)."""
    samples = stage.batch.prompts_per_step * stage.batch.samples_per_prompt
    orders = 2 if stage.models["reward"]["judge"] == "pair" else 1
    return math.ceil(orders * samples / stage.batch.sequences_per_micro_batch)


def scoring_of_others(
    context: Context, stage: Stage, family: Family, rows: Rows
) -> dict[str, Program]:
    """The scoring passes of each teacher, and of each reward model.

    Args:
        context: of the stage.
        stage: that is planned.
        family: of the stage.
        rows: of a step's samples.
    """
    if not isinstance(family, PolicyGradient):
        return {}
    found = {}
    if family.teacher is not None:
        scored = described(context.mesh, model_rows(rows))
        roles = role_names(stage, "teacher")
        for role, score in zip(roles, family.teacher.scores, strict=True):
            lower = functools.partial(lowered, score.func, *score.args, scored)
            found[role] = Program(lower, 1, held=(role,))
    reward = getattr(family.source, "reward", None)
    if isinstance(reward, ModelReward):
        for role, scorer in zip(role_names(stage, "reward"), reward.members, strict=True):
            found[role] = _reward_program(context, stage, role, scorer)
    return found


def _reward_program(
    context: Context, stage: Stage, role: str, scorer: ModelScorer | JudgeScorer
) -> Program:
    """A reward model's program, of the rows of one pass."""
    size = scorer.rows_per_pass
    prompts = np.zeros((size, context.config.data.max_prompt_tokens), np.int32)
    tokens = np.zeros((size, stage.max_new_tokens), np.int32)
    rows = completion_rows(prompts, prompts > 0, tokens, tokens > 0)
    if isinstance(scorer, JudgeScorer):
        slots = bucket(rows["tokens"].shape[1] + len(scorer.question))
        rows = scorer.rows([[0] * slots] * size, slots)
    elif scorer.question:
        rows = with_question(rows, scorer.question)
    params, scored = context.models[role].arrays(context.mesh), described(context.mesh, rows)
    return Program(lambda: scorer.program.lower(params, scored), reward_passes(stage), held=(role,))
