"""Which source of experience a stage has: its prompts, rollouts, rewards and annotators."""

import functools
import math

import jax
import numpy as np
from jax import Array

from rljax.config.guide import guide_plan
from rljax.config.stage import Stage
from rljax.models.lora import has_adapters, without_adapters
from rljax.models.network import Network, Params
from rljax.parallel.rules import put_rows
from rljax.rewards.pool import Scores
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.engine import Engine
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.collect.agent_episodes import AgentPlayer
from rljax.training.collect.answer_likelihood import AnswerLikelihood
from rljax.training.collect.by_variance import GradientNorms, SampledByVariance
from rljax.training.collect.curriculum import prompt_source
from rljax.training.collect.demonstrations import demonstrations
from rljax.training.collect.episode_roles import EpisodeRoles
from rljax.training.collect.episodes import EpisodeRollouts, Player, reply_tokens
from rljax.training.collect.experience import ExperienceSource
from rljax.training.collect.greedy import GreedyScores
from rljax.training.collect.grouped import step_group
from rljax.training.collect.guide_rollouts import GuideRollouts
from rljax.training.collect.guided import GuidedSamples
from rljax.training.collect.prefix_values import PrefixValues
from rljax.training.collect.prompt_values import prompt_values
from rljax.training.collect.prompts import ShuffledPrompts
from rljax.training.collect.rewards import Reward, make_reward
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.rounds import drawn_at_once, most_rounds
from rljax.training.collect.sampled import (
    Allocation,
    Annotator,
    SampledExperience,
    Sampler,
    WholeRollouts,
    timed_scores,
)
from rljax.training.collect.scaffolded import ScaffoldedSamples
from rljax.training.collect.screened import Continuation
from rljax.training.collect.search_tree import SearchRules
from rljax.training.collect.searched import SearchedExperience
from rljax.training.collect.successive import Successive
from rljax.training.collect.tree_edges import TreeEdges
from rljax.training.collect.tree_samples import TreeSampler, TreeShape
from rljax.training.collect.tree_search import TreeSearch
from rljax.training.collect.turn_rewards import turn_rewards
from rljax.training.collect.windowed import WindowedExperience
from rljax.training.learner.compare import kept_groups
from rljax.training.learner.group import step_arrays
from rljax.training.learner.learner import Learner
from rljax.training.run.context import Context


def shuffled_problems(context: Context) -> ShuffledPrompts:
    """The run's training problems, in the order of its seed."""
    return ShuffledPrompts(context.train_problems, seed=context.config.seed)


def policy_gradient_source(
    context: Context,
    stage: Stage,
    learner: Learner,
    first_step: int,
    reference: Params | None = None,
) -> ExperienceSource:
    """Samples with scores: whole completions, windows or trees, as the objective says.

    Args:
        context: of the run.
        stage: of policy gradients.
        learner: compiled; annotators that need the trainer's log-probabilities call it.
        first_step: steps of the run before the stage.
        reference: parameters of the stage's start, where a part reads what it answers.
    """
    if stage.objective.choices["rollouts"] == "windows":
        return _windows(context, stage, first_step)
    if stage.objective.choices["rollouts"] == "search":
        return _searched(context, stage, first_step)
    rollouts = _rollouts(context, stage, first_step)
    reward = make_reward(context, stage)
    demonstrate = functools.partial(demonstrations, context, stage)
    filtered = stage.objective.choices["group_filter"] != "none"
    return SampledExperience(
        prompt_source(context, stage, first_step),
        rollouts,
        prompts_per_step=stage.batch.prompts_per_step,
        reward=reward,
        annotators=[
            *([rollouts.annotate] if isinstance(rollouts, GuideRollouts) else []),
            *_annotators(context, stage, learner, reward, first_step, reference),
        ],
        demonstrate=demonstrate if stage.objective.rows_beside else None,
        keep=GroupFilter(stage) if filtered else None,
        most_rounds=most_rounds(stage),
        prompt_values=prompt_values(context, stage, learner),
        allocation=_allocation(context, stage, rollouts, reward),
        guide=_guide(context, stage, rollouts, reward),
        scaffold=_scaffold(context, stage, rollouts, reward),
        more=_more(context, stage, rollouts, reward),
    )


def _allocation(
    context: Context, stage: Stage, rollouts: WholeRollouts, reward: Reward
) -> Allocation | None:
    chosen = stage.objective.choices["allocation"]
    if chosen in ("fixed", "screening"):
        return None
    scored = functools.partial(timed_scores, reward)
    if chosen == "successive":
        return Successive(context, stage, rollouts.sample, scored)
    one = stage_engine(context, stage, samples=1)
    single = WholeRollouts(context, one, key=rollouts.key, first_step=rollouts.first_step)
    norms = GradientNorms(context, stage)
    return SampledByVariance(stage, rollouts.sample, single.sample, scored, norms)


def _guide(
    context: Context, stage: Stage, rollouts: WholeRollouts, reward: Reward
) -> GuidedSamples | None:
    if not stage.objective.guided:
        return None
    own = dict(key=rollouts.key, first_step=rollouts.first_step)
    return GuidedSamples(context, stage, rollouts.sampler, reward, **own)


def _more(
    context: Context, stage: Stage, rollouts: WholeRollouts, reward: Reward
) -> Continuation | None:
    rest = stage.batch.samples_per_prompt - drawn_at_once(stage)
    if stage.objective.choices["allocation"] != "screening" or not rest:
        return None
    engine = stage_engine(context, stage, samples=rest)
    others = WholeRollouts(context, engine, key=rollouts.key, first_step=rollouts.first_step)
    scored = functools.partial(timed_scores, reward)
    return Continuation(others.sample, scored, call=most_rounds(stage))


def _scaffold(
    context: Context, stage: Stage, rollouts: WholeRollouts, reward: Reward
) -> ScaffoldedSamples | None:
    if stage.objective.choices["demonstrations"] != "scaffolded":
        return None
    own = dict(key=rollouts.key, first_step=rollouts.first_step)
    return ScaffoldedSamples(context, stage, stage_engine(context, stage, samples=1), reward, **own)


def _rollouts(
    context: Context,
    stage: Stage,
    first_step: int,
    *,
    greedy: bool = False,
    network: Network | None = None,
) -> WholeRollouts | EpisodeRollouts | GuideRollouts:
    """What answers the prompts of a stage; greedy: once each, by the likeliest tokens.

    By the run's network, or by that which is given.
    """
    noise = {
        "key": purpose_key(context.config.seed, Purpose.ROLLOUTS),
        "first_step": first_step,
    }
    token_filter = stage.token_filter.at_temperature(0.0) if greedy else None
    samples = 1 if greedy else stage.batch.samples_per_prompt
    if context.agents is not None:
        agents = AgentPlayer(
            context,
            context.rollout_mesh,
            samples=samples,
            room=stage.max_new_tokens,
            token_filter=token_filter or stage.token_filter,
            stop_strings=stage.stop_strings,
        )
        return EpisodeRollouts(context, agents, **noise)
    if context.stepper is not None:
        engine = stage_engine(
            context,
            stage,
            samples=1,
            max_new_tokens=reply_tokens(context, stage.max_new_tokens),
            token_filter=token_filter,
            network=network,
        )
        episodes = 1 if greedy else samples // context.stepper.players
        player = Player(context, engine, samples=episodes, room=stage.max_new_tokens)
        return EpisodeRollouts(context, player, **noise)
    if greedy:
        engine = stage_engine(context, stage, samples=1, token_filter=token_filter, network=network)
        return WholeRollouts(context, engine, **noise)
    if guide_plan(stage) is not None:
        guide = context.with_network(context.models["guide"].network)
        engines = (_engines(each, stage) for each in (context, guide))
        return GuideRollouts(context, stage, *engines, **noise)
    return WholeRollouts(context, _sampler(context, stage), **noise)


def _engines(context: Context, stage: Stage) -> tuple[Engine, Engine]:
    """With the samples of a prompt, and with one."""
    group = stage.batch.samples_per_prompt
    return stage_engine(context, stage, samples=group), stage_engine(context, stage, samples=1)


def _sampler(context: Context, stage: Stage) -> Sampler:
    """Whole completions by one engine, or trees by an engine for each level."""
    if stage.objective.choices["rollouts"] == "whole":
        return stage_engine(context, stage, samples=drawn_at_once(stage))
    tree = tree_shape(stage)
    engines = [
        stage_engine(context, stage, samples=level.branches, max_new_tokens=level.room)
        for level in tree.levels
    ]
    return TreeSampler(tree, engines)


def _windows(context: Context, stage: Stage, first_step: int) -> WindowedExperience:
    window = min(stage.objective.values["window_tokens"], stage.max_new_tokens)
    return WindowedExperience(
        context,
        stage,
        shuffled_problems(context),
        stage_engine(context, stage, samples=1, max_new_tokens=window),
        make_reward(context, stage),
        key=purpose_key(context.config.seed, Purpose.ROLLOUTS),
        first_step=first_step,
    )


def _searched(context: Context, stage: Stage, first_step: int) -> SearchedExperience:
    values = stage.objective.values
    engines = (
        stage_engine(
            context,
            stage,
            samples=values["search_width"],
            max_new_tokens=min(values["segment_tokens"], stage.max_new_tokens),
        ),
        stage_engine(context, stage, samples=stage.batch.samples_per_prompt),
        stage_engine(context, stage, samples=values["screen_samples"]),
    )
    key = purpose_key(context.config.seed, Purpose.ROLLOUTS)
    reward = make_reward(context, stage)
    return SearchedExperience(
        context, stage, engines, tree_search(stage), reward, key=key, first_step=first_step
    )


def tree_search(stage: Stage) -> TreeSearch:
    """The search of a stage with rollouts='search'."""
    values = stage.objective.values
    rules = SearchRules(
        width=values["search_width"],
        depth_limit=math.ceil(stage.max_new_tokens / values["segment_tokens"]),
        exploration=values["exploration"],
        parent_weight=values["parent_weight"],
        entropy_weight=values["entropy_bonus"],
        depth_weight=values["depth_weight"],
        depth_bonus=values["depth_bonus"],
        backup_floor=values["backup_floor"],
    )
    return TreeSearch(
        rules,
        trajectories=stage.batch.samples_per_prompt,
        incomplete_value=values["incomplete_value"],
        most_expansions=values["most_expansions"],
    )


def _annotators(
    context: Context,
    stage: Stage,
    learner: Learner,
    reward: Reward,
    first_step: int,
    reference: Params | None,
) -> list[Annotator]:
    """What adds the arrays that the objective reads and no score or policy gives."""
    objective, found = stage.objective, []
    if context.stepper is not None and context.stepper.roles:
        found.append(EpisodeRoles(context, stage))
    if context.config.environment.turn_credit:
        found.append(functools.partial(turn_rewards, context))
    if "answer_logprobs" in objective.inputs:
        found.append(AnswerLikelihood(context, stage))
    for name, start in (("greedy_scores", None), ("base_scores", reference)):
        if name in objective.inputs:
            # A start whose adapters are zero comes without them (training/run/stages.py).
            bare = start is not None and not has_adapters(start)
            network = without_adapters(context.network) if bare else context.network
            rollouts = _rollouts(context, stage, first_step, greedy=True, network=network)
            found.append(GreedyScores(rollouts, reward, stage.batch.rows_per_prompt, start))
    if objective.choices["rollouts"] == "tree":
        fields = ("edge_style", "edge_epsilon", "unfinished_score")
        values = {name: objective.values[name] for name in fields}
        found.append(TreeEdges(tree_shape(stage), **values))
    elif "start_values" in objective.inputs:
        found.append(_prefix_values(context, stage, learner, first_step))
    return found


def stage_engine(
    context: Context,
    stage: Stage,
    *,
    samples: int,
    max_new_tokens: int | None = None,
    token_filter: TokenFilter | None = None,
    network: Network | None = None,
) -> Engine:
    """A sampler with the settings of a stage, and so many samples per prompt."""
    return context.make_engine(
        samples_per_prompt=samples,
        max_new_tokens=max_new_tokens or stage.max_new_tokens,
        token_filter=token_filter or stage.token_filter,
        stop_strings=stage.stop_strings,
        mesh=context.rollout_mesh,
        network=network,
    )


def tree_shape(stage: Stage) -> TreeShape:
    """The trees of a stage with rollouts='tree'."""
    values = stage.objective.values
    return TreeShape(tuple(values["branching"]), values["segment_tokens"], stage.max_new_tokens)


def _prefix_values(
    context: Context, stage: Stage, learner: Learner, first_step: int
) -> PrefixValues:
    key = purpose_key(context.config.seed, Purpose.ROLLOUTS)
    engine = stage_engine(context, stage, samples=stage.objective.values["value_samples"])

    def score(params: dict, rows: dict) -> dict[str, Array]:
        return learner.scores(params, put_rows(rows, context.mesh))

    return PrefixValues(context, stage, engine, score, key=key, first_step=first_step)


class GroupFilter:
    """Which prompts of a round have groups that the objective's filter keeps."""

    def __init__(self, stage: Stage) -> None:
        self._kept = jax.jit(functools.partial(kept_groups, stage.objective))

    def __call__(self, samples: Samples, scores: Scores) -> np.ndarray:
        """[B] bool."""
        kept = self._kept(step_arrays(step_group(samples, scores)))
        return np.asarray(kept).reshape(len(samples.records), -1).any(axis=1)
