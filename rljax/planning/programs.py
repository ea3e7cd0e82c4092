"""The programs of a run, each lowered for a slice with descriptions of arrays only.

    run = open_run("configs/pods/qwen3_8b_grpo_v5e.py", (), read_topology("v5e:8x8"))
    run.programs["update"].lower()

A program is lowered as training jits it, with the same shardings; nothing is allocated.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rljax.config.curriculum import OF_PROMPTS
from rljax.config.load import load_config
from rljax.config.stage import Stage
from rljax.config.validate import validate
from rljax.errors import unknown_name
from rljax.models.frozen_base import parameter_shardings
from rljax.models.lora import split_frozen
from rljax.models.network import Params
from rljax.parallel.mesh import make_mesh
from rljax.planning.batches import step_rows
from rljax.planning.chips import Topology
from rljax.planning.frozen_models import others_of, scoring_of_others, scoring_passes
from rljax.planning.parts import Part, devices_of, parts_of
from rljax.planning.program import (
    GRADIENT_NORMS,
    PROMPT_VALUES,
    Program,
    chip_bytes,
    described,
    lowered,
)
from rljax.planning.sampling_programs import sampling_programs
from rljax.planning.useful import candidates
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.collect.by_variance import SampledByVariance
from rljax.training.collect.prompt_values import prompt_scorer
from rljax.training.families import Family
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.families.table import family_class
from rljax.training.learner.needs import needs_scores, reads_values
from rljax.training.learner.prompt_values import prompt_rows
from rljax.training.run.context import Context, build_context
from rljax.training.run.meshes import sampler_sizes
from rljax.training.run.models import models_of
from rljax.training.update.logprobs import model_rows
from rljax.training.update.optimizers import build_optimizer
from rljax.training.update.rows import completion_rows
from rljax.training.update.state import TrainState, abstract_state, placed, state_shardings

# Families whose programs are known here.
PLANNED = (
    *("policy_gradient", "evidence", "preference", "unpaired", "supervised", "reward"),
    "distillation",
)
# Stages of these families prepare others, and are planned by default where nothing else can be.
PREPARING = ("supervised", "reward")


@dataclasses.dataclass(frozen=True)
class Run:
    """A stage of a run on a slice that is not there.

    Attributes:
        context: of the stage.
        stage: that is planned.
        programs: by name: update, sampling, load, scores, reference, values, teacher, reward.
        resident: bytes on a chip, all step long, of what the trainer holds.
        topology: the whole slice.
        split: its chips that train and those that only sample; None: all do both in turn.
    """

    context: Context
    stage: Stage
    programs: Mapping[str, Program]
    resident: Mapping[str, int]
    topology: Topology
    split: tuple[Part, Part] | None

    @property
    def mesh(self) -> Mesh:
        """The trainer's mesh."""
        return self.context.mesh

    def mesh_of(self, program: str) -> Mesh:
        """The mesh of a program; that of the sampler may be another one."""
        return self.programs[program].mesh or self.mesh

    def topology_of(self, program: str) -> Topology:
        """The slice that a program is compiled for."""
        if self.split is None:
            return self.topology
        return self.split[self.programs[program].side == "sampler"].topology


def open_run(
    config_file: str, overrides: tuple[str, ...], topology: Topology, stage: str = ""
) -> Run:
    """A stage of a config, for a slice.

    Args:
        config_file: FILE[:ARG].
        overrides: words --config.a.b=value.
        topology: the slice.
        stage: by name; "": that of `chosen`.

    Raises:
        ValueError: for what training refuses, a mesh that does not divide the slice, and for what
            cannot be planned.
    """
    config = load_config(config_file, overrides)
    stages = validate(config)
    planned = chosen(config_file, stages, stage)
    name = planned.name
    check_no_episodes(config, [planned])
    with config.unlocked():
        stages = validate(without_reference_rows(config, stages))
        # No answer is scored while planning.
        config.scoring.workers, config.scoring.try_first = 0, False
    split = None
    if config.asynchronous.sampler_devices:
        split = parts_of(topology, config.asynchronous.sampler_devices)
    meshes = _meshes(config, topology, split)
    context = build_context(config, stages, Path("plan"), meshes=meshes, weights=False)
    try:
        index = [each.name for each in context.stages].index(name)
        found, models = context.stages[index], models_of(context.network, context.stages, index)
        context = dataclasses.replace(context.of(name), models=models)
        return Run(context, found, *_programs(context, found), topology, split)
    finally:
        context.close()


def chosen(config_file: str, stages: Sequence[Stage], name: str) -> Stage:
    """The stage to plan: the named one, else the first that prepares no other.

    Raises:
        ValueError: for a name that the config does not have, and a family that is not planned.
    """
    known = ", ".join(f"{stage.name} ({stage.objective.family})" for stage in stages)
    planned = [stage for stage in stages if stage.objective.family in PLANNED]
    if name:
        planned = [stage for stage in planned if stage.name == name]
        if name not in [stage.name for stage in stages]:
            raise unknown_name("stage", name, [stage.name for stage in stages], "--stage")
    if not planned:
        raise ValueError(
            f"{config_file} has no {f'such stage {name!r}' if name else 'stage'} that can be "
            f"planned: its stages are {known}, planned are the families {', '.join(PLANNED)} "
            f"({'--stage' if name else 'config.stages'})."
        )
    later = [stage for stage in planned if stage.objective.family not in PREPARING]
    stage = (later or planned)[0]
    _check_models(stage)
    _check_sampling(stage)
    if len(stage.objective.completion_slots) > 1:
        raise ValueError(
            f"Stage {stage.name} scores reference answers in rows of their own, which are not "
            f"planned: plan it with answer_reward='none' (config.{stage.name}.objective."
            "answer_reward)."
        )
    return stage


def check_no_episodes(config: ConfigDict, stages: Sequence[Stage]) -> None:
    """Raises ValueError where a stage samples episodes: how long they are, their answers say."""
    for stage in stages:
        if config.environment.name and stage.online:
            raise ValueError(
                f"Stage {stage.name} plays episodes of {config.environment.name!r}, and how many "
                "replies they have is known once they are there: a plan has none; leave the "
                "environment out (config.environment.name)."
            )


def _check_sampling(stage: Stage) -> None:
    """Raises ValueError for a step that samples again in a way that is not planned."""
    objective = stage.objective
    if "start_values" in objective.inputs and objective.choices["rollouts"] == "whole":
        raise ValueError(
            f"Stage {stage.name} has advantage={objective.choices['advantage']!r}, which samples "
            "from inside of its completions; how often is known once they are there, and a plan "
            f"has none (config.{stage.name}.objective.advantage)."
        )


def without_reference_rows(config: ConfigDict, stages: Sequence[Stage]) -> ConfigDict:
    """The config whose reward models need no weights before the first step.

    What the scores of reference completions are divided by are two numbers. The programs of a step
    are the same without them.
    """
    for stage in stages:
        if stage.models.get("reward", {}).get("normalise") == "reference":
            config[stage.name].models.reward.normalise = "none"
            config[stage.name].models.reward.reference_path = ""
    return config


def _check_models(stage: Stage) -> None:
    """Raises ValueError for frozen models whose passes are not planned."""
    where = f"config.{stage.name}.models"
    if "judge" in stage.models:
        raise ValueError(
            f"Stage {stage.name} asks a judge model, whose passes are not planned: set it to "
            f"another reward, or name another stage ({where}.judge, --stage)."
        )


def _meshes(
    config: ConfigDict, topology: Topology, split: tuple[Part, Part] | None
) -> tuple[Mesh, Mesh | None]:
    """The meshes of training/run/meshes.py, over chips that are not there."""
    sizes = config.mesh.to_dict()
    if split is None:
        return make_mesh(sizes, devices_of(topology)), None
    trains, samples = split
    own = sampler_sizes(config) or {"data": -1}
    return make_mesh(sizes, trains.devices), make_mesh(own, samples.devices)


def _programs(context: Context, stage: Stage) -> tuple[dict[str, Program], dict[str, int]]:
    """Programs of a stage, and what the trainer holds all along on a chip.

    Small constants are computed here, before the mesh is set.
    """
    family = family_class(stage)(context, stage, None, 0)
    optimizer = build_optimizer(stage)
    carried = family.carried(context, stage)
    shardings = state_shardings(context.network, optimizer, context.mesh, carried)
    state = abstract_state(context.network, optimizer, shardings, carried)
    params = jax.tree.map(
        placed, context.network.shapes, parameter_shardings(context.network, context.mesh)
    )
    _, frozen = split_frozen(params)
    rounding = purpose_key(context.config.seed, Purpose.ROUNDING)
    update = family.make_update(optimizer, rounding)
    resident = {
        "parameters": chip_bytes(state.params) + chip_bytes(frozen),
        "optimizer": chip_bytes(state.optimizer_state),
        "carried": chip_bytes(state.carried),
        # Base answers are sampled with a copy of the reference of their own.
        "reference": chip_bytes(params)
        * (stage.freezes_reference + ("base_scores" in stage.objective.inputs)),
    }
    resident |= {
        role: chip_bytes(model.arrays(context.mesh)) for role, model in others_of(context).items()
    }
    rows, batch = step_rows(context, stage, family, state, params)
    programs = {}
    if stage.online:
        programs, kept = sampling_programs(context, stage, family, params)
        resident |= kept
    scored = described(context.mesh, model_rows(rows))
    programs |= _slopes(context, stage, family, params)
    programs |= _scoring(stage, family, params, state, scored)
    programs |= _values_of_prompts(context, stage, family, params, state)
    programs |= scoring_of_others(context, stage, family, rows)
    if stage.needs_reference and "reference" not in family.in_loss:
        score = family.learner.logprobs if _is_compared(family) else family.score
        programs["reference"] = Program(
            lambda: lowered(score, params, scored),
            scoring_passes(stage),
            held=("reference" if stage.freezes_reference else "carried",),
        )
    learned = described(context.mesh, batch)
    programs["update"] = Program(
        lambda: update.lower(state, frozen, learned),
        stage.batch.updates_per_step,
        held=("parameters", "optimizer", "carried", *family.in_loss),
    )
    return programs, resident


def _is_compared(family: Family) -> bool:
    return isinstance(family, PolicyGradient)


def _values_of_prompts(
    context: Context, stage: Stage, family: Family, params: Any, state: TrainState
) -> dict[str, Program]:
    """What the critic says of a step's candidates, where it chooses among prompts."""
    if stage.objective.choices.get("value_target") != OF_PROMPTS:
        return {}
    score, micro_batch = prompt_scorer(context, stage, family.learner)
    shape = candidates(stage, micro_batch), context.config.data.max_prompt_tokens
    made = prompt_rows(np.zeros(shape, np.int32), np.ones(shape, bool), 0)
    rows = described(context.mesh, made)
    critic = state.carried["critic"].params
    lower = functools.partial(score.lower, critic, params, rows)
    return {PROMPT_VALUES: Program(lower, 1, held=("parameters", "carried"))}


def _slopes(context: Context, stage: Stage, family: Family, params: Params) -> dict[str, Program]:
    """Gradient norms of a step's pilot samples, all of which may be right."""
    allocation = getattr(family.source, "allocation", None)
    if not isinstance(allocation, SampledByVariance):
        return {}
    count = stage.batch.prompts_per_step * allocation.plan.pilot_samples
    prompts = np.ones((count, context.config.data.max_prompt_tokens), np.int32)
    tokens = np.ones((count, stage.max_new_tokens), np.int32)
    rows = described(context.mesh, completion_rows(prompts, prompts > 0, tokens, tokens > 0))
    compute = allocation.norms.compute
    return {GRADIENT_NORMS: Program(lambda: lowered(compute, params, rows), 1, ("parameters",))}


def _scoring(
    stage: Stage, family: Family, params: Any, state: TrainState, scored: Any
) -> dict[str, Program]:
    """The passes before the first update, besides the reference's."""
    found = {}
    if stage.objective.family == "evidence":
        found["scores"] = Program(
            lambda: lowered(family.score, params, scored), 1, held=("parameters",)
        )
    if not _is_compared(family):
        return found
    learner = family.learner
    if needs_scores(stage):
        found["scores"] = Program(
            lambda: lowered(learner.scores, params, scored),
            scoring_passes(stage),
            held=("parameters",),
        )
    if learner.critic is not None and reads_values(stage):
        critic = state.carried["critic"].params
        found["values"] = Program(
            lambda: learner.values.lower(critic, params, scored),
            1,
            held=("parameters", "carried"),
        )
    return found
