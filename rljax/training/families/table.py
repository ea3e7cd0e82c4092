"""Which class a stage's family is."""

from rljax.config.stage import Stage
from rljax.training.families import Family
from rljax.training.families.evidence import Evidence
from rljax.training.families.evolution import Evolution
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.families.preference import Preference
from rljax.training.families.prefix_values import PrefixValues
from rljax.training.families.reward import RewardModel
from rljax.training.families.supervised import Supervised
from rljax.training.families.tree import TreeRollouts
from rljax.training.families.windowed import WindowedPolicyGradient

FAMILY_CLASSES: dict[str, type[Family]] = {
    "supervised": Supervised,
    "preference": Preference,
    "evidence": Evidence,
    "evolution": Evolution,
    "reward": RewardModel,
}

# Policy gradients by the choice "rollouts".
ROLLOUT_CLASSES: dict[str, type[PolicyGradient]] = {
    "whole": PolicyGradient,
    "windows": WindowedPolicyGradient,
    "tree": TreeRollouts,
}


def family_class(stage: Stage) -> type[Family]:
    """The class of a stage."""
    family = stage.objective.family
    if family == "policy_gradient":
        rollouts = stage.objective.choices["rollouts"]
        if rollouts == "whole" and "start_values" in stage.objective.inputs:
            return PrefixValues
        return ROLLOUT_CLASSES[rollouts]
    return FAMILY_CLASSES[family]
