"""Composed rewards and the methods that read more of them than their sum: what fits together."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from rljax.config.curriculum import refuse_others
from rljax.config.stage import Stage
from rljax.data.sample_rules import OF_CONSTRAINTS
from rljax.objectives.advantages import SCALE_FREE
from rljax.rewards.member import FIELD, RewardSpec, parse_rewards

# Arrays of the rewards of a step's samples, besides their sum.
OF_REWARDS = frozenset({"satisfied", "components", "base_scores"})

# Advantages that read each reward, and not their sum.
BY_COMPONENT = ("component_zscore", "reweighted_components")

# What is left where weights are moved by the gradients of a whole step before it is compared.
WITH_GRADIENTS = {"group_filter": "none", "likelihood": "autoregressive"}

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
        _check_stage(stage, where, members)


def reads_constraints(stage: Stage) -> bool:
    """Whether a stage asks whether samples satisfy the constraints."""
    return "satisfied" in stage.objective.inputs or stage.data.get("pair_rule") in OF_CONSTRAINTS


def _check_stage(stage: Stage, where: str, members: Sequence[RewardSpec]) -> None:
    read, trained = OF_REWARDS & stage.objective.inputs, [x for x in members if x.counts]
    if not read:
        return
    refuse_others(stage, WITH_REWARDS, f"method={stage.objective.method.name!r}", where)
    if "base_scores" in read or stage.objective.choices["advantage"] in BY_COMPONENT:
        # What they read is not shaped, nor has it a KL: both would count on one side, or nowhere.
        because = f"advantage={stage.objective.choices['advantage']!r}"
        if "base_scores" in read and "reference" in stage.models:
            raise ValueError(
                f"{because} compares with what the stage's start says, and start_from="
                f"{stage.models['reference']['start_from']!r} puts another model in its place: "
                f"leave it out ({where}.models.reference.start_from)."
            )
        refuse_others(
            stage, {"reward_shaping": "none", "kl_placement": ("none", "loss")}, because, where
        )
    if "components" not in read:
        return
    _check_meta_reward(stage, where)
    if stage.objective.choices["reward_shaping"] == "gradient_weighted":
        because = "reward_shaping='gradient_weighted'"
        _refuse_weights(trained, because)
        refuse_others(stage, WITH_GRADIENTS, because, where)
    if "reward" in stage.models:
        raise ValueError(
            f"Method {stage.objective.method.name!r} reads the rewards of config.scoring one by "
            f"one, and a reward model is none of them ({where}.models.reward.start_from)."
        )
    if stage.objective.choices["advantage"] == "mixed_components":
        _check_thresholds(stage, where, trained)
    elif len(trained) < 2:
        raise ValueError(
            f"Method {stage.objective.method.name!r} weighs several rewards, and there is one that "
            f"is trained on ({FIELD})."
        )


def _refuse_weights(trained: Sequence[RewardSpec], because: str) -> None:
    """Raises ValueError for a weight where rewards have weights that are learned."""
    for member in trained:
        if member.weight != 1:
            raise ValueError(
                f"{because} gives each reward a weight that is learned, and the weight "
                f"{member.weight:g} of {member.label!r} would never be read: leave it out "
                f"({FIELD}[{member.label}].weight)."
            )


def _check_meta_reward(stage: Stage, where: str) -> None:
    """Raises ValueError where advantages would undo the factor of all rewards."""
    objective, name = stage.objective, stage.objective.choices["advantage"]
    undone = name in SCALE_FREE or objective.values.get("whiten_advantages", False)
    if undone and objective.values.get("meta_applied_to") == "rewards":
        because = f"advantage={name!r}"
        because += "" if name in SCALE_FREE else " with whiten_advantages=True"
        raise ValueError(
            f"{because} stays the same when all rewards are multiplied, as reward_shaping="
            f"'hypervolume' does: set meta_applied_to='advantages', or take an advantage such as "
            f"'group_leave_one_out' ({where}.objective.meta_applied_to, "
            f"{where}.objective.advantage)."
        )


def _check_thresholds(stage: Stage, where: str, trained: Sequence[RewardSpec]) -> None:
    """Raises ValueError unless each reward has a threshold, and the KL is another component."""
    objective, because = stage.objective, "advantage='mixed_components'"
    thresholds, labels = objective.values["thresholds"], ", ".join(x.label for x in trained)
    if len(thresholds) != len(trained):
        raise ValueError(
            f"thresholds={tuple(thresholds)!r} must hold {len(trained)} numbers, one for each "
            f"reward that is trained on: {labels} ({where}.objective.thresholds, {FIELD})."
        )
    _refuse_weights(trained, because)
    others = {"reward_shaping": "none", "kl_placement": "reward", "teacher": "none"}
    refuse_others(stage, others, because, where)
    if objective.kl is None:
        raise ValueError(
            f"kl_weight=0 leaves {because} without its first component: the KL must have a weight "
            f"> 0 ({where}.objective.kl_weight)."
        )
    if objective.values["advantage_sign"] != "both":
        raise ValueError(
            f"advantage_sign={objective.values['advantage_sign']!r} is never read with {because}, "
            f"whose advantages are mixed in each update: it must be 'both' "
            f"({where}.objective.advantage_sign)."
        )
