"""Which class a stage's family is."""

from rljax.config.stage import Stage
from rljax.training.families import Family
from rljax.training.families.distillation import Distillation
from rljax.training.families.evidence import Evidence
from rljax.training.families.evolution import Evolution
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.families.posterior import Posterior
from rljax.training.families.preference import Preference
from rljax.training.families.reward import RewardModel
from rljax.training.families.supervised import Supervised
from rljax.training.families.unpaired import Unpaired

FAMILY_CLASSES: dict[str, type[Family]] = {
    "supervised": Supervised,
    "distillation": Distillation,
    "policy_gradient": PolicyGradient,
    "preference": Preference,
    "unpaired": Unpaired,
    "evidence": Evidence,
    "posterior": Posterior,
    "evolution": Evolution,
    "reward": RewardModel,
}


def family_class(stage: Stage) -> type[Family]:
    """The class of a stage."""
    return FAMILY_CLASSES[stage.objective.family]
