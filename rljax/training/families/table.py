"""Family name -> its class."""

from rljax.training.families.evidence import Evidence
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.families.preference import Preference
from rljax.training.families.supervised import Supervised

FAMILY_CLASSES = {
    "supervised": Supervised,
    "policy_gradient": PolicyGradient,
    "preference": Preference,
    "evidence": Evidence,
}
