"""Composed rewards and the methods that read more of them than their sum: what fits together."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from rljax.config.curriculum import refuse_others
from rljax.config.stage import Stage
from rljax.data.sample_rules import OF_CONSTRAINTS
from rljax.rewards.member import FIELD, parse_rewards

# Arrays of the rewards of a step's samples, besides their sum.
OF_REWARDS = frozenset({"satisfied", "components", "base_scores"})

# What is left for a method that reads them: rows that are whole samples, judged by the rewards.
WITH_REWARDS = {"rollouts": "whole", "answer_reward": "none", "demonstrations": "none"}


def check_composition(config: ConfigDict, stages: Sequence[Stage]) -> None:
    """Raises ValueError for constraints that nothing reads, and for methods without their rewards.

    Args:
        config: of the run, complete.
        stages: resolved.
    """
    members = parse_rewards(config.scoring.rewards)
    constraints = [member.label for member in members if member.constraint]
    if constraints and not any(map(reads_constraints, stages)):
        raise ValueError(
            f"The reward {constraints[0]!r} is a constraint, which no stage reads: take a method "
            f"that does, or a gate ({FIELD}[{constraints[0]}].constraint)."
        )
    for stage in stages:
        where = f"config.{stage.name}"
        if reads_constraints(stage) and not constraints:
            raise ValueError(
                f"Stage {stage.name!r} rewards what satisfies constraints, and there is none: mark "
                f"a reward with constraint=True ({FIELD}, {where}.method)."
            )
        _check_stage(stage, where, sum(member.counts for member in members))


def reads_constraints(stage: Stage) -> bool:
    """Whether a stage asks whether samples satisfy the constraints."""
    return "satisfied" in stage.objective.inputs or stage.data.get("pair_rule") in OF_CONSTRAINTS


def _check_stage(stage: Stage, where: str, rewards: int) -> None:
    read = OF_REWARDS & stage.objective.inputs
    if not read:
        return
    refuse_others(stage, WITH_REWARDS, f"method={stage.objective.method.name!r}", where)
    if "base_scores" in read or stage.objective.choices["advantage"] == "component_zscore":
        # What they read is not shaped, nor has it a KL: both would count on one side, or nowhere.
        because = f"advantage={stage.objective.choices['advantage']!r}"
        refuse_others(
            stage, {"reward_shaping": "none", "kl_placement": ("none", "loss")}, because, where
        )
    if "components" not in read:
        return
    if "reward" in stage.models:
        raise ValueError(
            f"Method {stage.objective.method.name!r} reads the rewards of config.scoring one by "
            f"one, and a reward model is none of them ({where}.models.reward.start_from)."
        )
    if rewards < 2:
        raise ValueError(
            f"Method {stage.objective.method.name!r} weighs several rewards, and there is one that "
            f"is trained on ({FIELD})."
        )
