"""Which source of experience a stage has: its prompts, rollouts, rewards and annotators."""

import functools
from collections.abc import Sequence

import jax
import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.parallel.rules import put_rows
from rljax.rewards.pool import Scores
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.engine import Engine
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.collect.demonstrations import demonstrations
from rljax.training.collect.experience import ExperienceSource
from rljax.training.collect.greedy import GreedyScores
from rljax.training.collect.grouped import step_group
from rljax.training.collect.prefix_values import PrefixValues
from rljax.training.collect.prompts import ShuffledPrompts
from rljax.training.collect.rewards import make_reward
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.sampled import Annotator, SampledExperience, WholeRollouts
from rljax.training.collect.tree_edges import TreeEdges
from rljax.training.collect.tree_samples import TreeSampler, TreeShape
from rljax.training.collect.windowed import WindowedExperience
from rljax.training.learner.compare import kept_groups
from rljax.training.learner.group import step_arrays
from rljax.training.learner.learner import Learner
from rljax.training.run.context import Context


def shuffled_problems(context: Context) -> ShuffledPrompts:
    """The run's training problems, in the order of its seed."""
    return ShuffledPrompts(context.train_problems, seed=context.config.seed)


def policy_gradient_source(
    context: Context, stage: Stage, learner: Learner, first_step: int
) -> ExperienceSource:
    """Samples with scores: whole completions, windows or trees, as the objective says.

    Args:
        context: of the run.
        stage: of policy gradients.
        learner: compiled; annotators that need the trainer's log-probabilities call it.
        first_step: steps of the run before the stage.
    """
    objective, batch = stage.objective, stage.batch
    key = purpose_key(context.config.seed, Purpose.ROLLOUTS)
    prompts, reward = shuffled_problems(context), make_reward(context, stage).score
    if objective.choices["rollouts"] == "windows":
        window = min(objective.values["window_tokens"], stage.max_new_tokens)
        engine = stage_engine(context, stage, samples=1, max_new_tokens=window)
        return WindowedExperience(
            context, stage, prompts, engine, reward, key=key, first_step=first_step
        )
    tree = tree_shape(stage) if objective.choices["rollouts"] == "tree" else None
    if tree is None:
        sampler = stage_engine(context, stage, samples=batch.samples_per_prompt)
    else:
        sampler = TreeSampler(tree, _level_engines(context, stage, tree))
    annotators: list[Annotator] = []
    if "greedy_scores" in objective.inputs:
        one = stage_engine(context, stage, samples=1, token_filter=TokenFilter(temperature=0.0))
        greedy = WholeRollouts(context, one, key=key, first_step=first_step)
        annotators.append(GreedyScores(greedy, reward, batch.rows_per_prompt))
    if tree is not None:
        fields = ("edge_style", "edge_epsilon", "unfinished_score")
        annotators.append(TreeEdges(tree, **{name: objective.values[name] for name in fields}))
    elif "start_values" in objective.inputs:
        annotators.append(_prefix_values(context, stage, learner, key))
    filtered = objective.choices["group_filter"] != "none"
    return SampledExperience(
        prompts,
        WholeRollouts(context, sampler, key=key, first_step=first_step),
        prompts_per_step=batch.prompts_per_step,
        reward=reward,
        annotators=annotators,
        demonstrate=(
            functools.partial(demonstrations, context, stage)
            if batch.demonstrations_per_prompt
            else None
        ),
        keep=GroupFilter(stage) if filtered else None,
        most_rounds=objective.values["filter_rounds"] if filtered else 1,
    )


def stage_engine(
    context: Context,
    stage: Stage,
    *,
    samples: int,
    max_new_tokens: int | None = None,
    token_filter: TokenFilter | None = None,
) -> Engine:
    """A sampler with the settings of a stage, and so many samples per prompt."""
    return context.make_engine(
        samples_per_prompt=samples,
        max_new_tokens=max_new_tokens or stage.max_new_tokens,
        token_filter=token_filter or stage.token_filter,
        stop_strings=stage.stop_strings,
    )


def tree_shape(stage: Stage) -> TreeShape:
    """The trees of a stage with rollouts='tree'."""
    values = stage.objective.values
    return TreeShape(tuple(values["branching"]), values["segment_tokens"], stage.max_new_tokens)


def _level_engines(context: Context, stage: Stage, tree: TreeShape) -> Sequence[Engine]:
    return [
        stage_engine(context, stage, samples=level.branches, max_new_tokens=level.room)
        for level in tree.levels
    ]


def _prefix_values(context: Context, stage: Stage, learner: Learner, key: Array) -> PrefixValues:
    engine = stage_engine(context, stage, samples=stage.objective.values["value_samples"])

    def score(params: dict, rows: dict) -> dict[str, Array]:
        return learner.scores(params, put_rows(rows, context.mesh))

    return PrefixValues(context, stage, engine, score, key)


class GroupFilter:
    """Which prompts of a round have groups that the objective's filter keeps."""

    def __init__(self, stage: Stage) -> None:
        self._kept = jax.jit(functools.partial(kept_groups, stage.objective))

    def __call__(self, samples: Samples, scores: Scores) -> np.ndarray:
        """[B] bool."""
        kept = self._kept(step_arrays(step_group(samples, scores)))
        return np.asarray(kept).reshape(len(samples.records), -1).any(axis=1)
