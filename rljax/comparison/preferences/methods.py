"""What is compared: rows of the method table with their papers' figures, and claims about them."""

from rljax.comparison.orderings import Claim
from rljax.registry import Objective, resolve_objective

METHODS = (
    "dpo",
    "cdpo",
    "robust_dpo",
    "ipo",
    "kto",
    "simpo",
    "orpo",
    "mdpo",
    "step_kto",
)
NOISES = (0.0, 0.1, 0.2, 0.3, 0.4)
BASELINE = "dpo"
ASSUME_NOISE = ("cdpo", "robust_dpo")  # are told the rate at which labels are swapped


def objective_of(method: str, noise: float) -> Objective:
    """The row of a method; `ASSUME_NOISE` get the rate as their label smoothing.

    Args:
        method: a row of the preference or the unpaired family.
        noise: the rate at which labels are swapped.
    """
    changed = {"label_smoothing": noise} if method in ASSUME_NOISE else {}
    return resolve_objective(method, changed)


_ROBUST, _STUDY = "arXiv:2403.00409", "arXiv:2405.14734, Llama-3-Instruct"


def _claims(method: str, other: str, measure: str, source: str, *noises: float) -> list[Claim]:
    """An ordering at some rates of swapped labels."""
    return [Claim(method, ">", other, measure, source, f"{noise:g}") for noise in noises]


CLAIMS = (
    *_claims("simpo", "dpo", "gold", _STUDY, 0.0),
    *_claims("dpo", "ipo", "gold", _STUDY, 0.0),
    *_claims("dpo", "kto", "gold", _STUDY, 0.0),
    *_claims("dpo", "orpo", "gold", _STUDY, 0.0),
    *_claims("robust_dpo", "dpo", "reward_accuracy", _ROBUST, *NOISES[1:]),
    *_claims("robust_dpo", "cdpo", "reward_accuracy", _ROBUST, *NOISES[1:]),
    *_claims("mdpo", "dpo", "reward_accuracy", "arXiv:2410.12138", *NOISES[2:]),
    *_claims("step_kto", "kto", "gold", "arXiv:2501.10799", 0.0, 0.2),
)
