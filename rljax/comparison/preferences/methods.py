"""What is compared: rows of the method table with their papers' figures, and claims about them."""

from typing import NamedTuple

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


class Claim(NamedTuple):
    """An ordering of two methods in a measure, at a rate of swapped labels."""

    better: str
    other: str
    measure: str
    noise: float
    source: str


_ROBUST, _STUDY = "arXiv:2403.00409", "arXiv:2405.14734, Llama-3-Instruct"
CLAIMS = (
    *(Claim("simpo", "dpo", "gold", 0.0, _STUDY),),
    *(Claim("dpo", other, "gold", 0.0, _STUDY) for other in ("ipo", "kto", "orpo")),
    *(Claim("robust_dpo", "dpo", "reward_accuracy", e, _ROBUST) for e in NOISES[1:]),
    *(Claim("robust_dpo", "cdpo", "reward_accuracy", e, _ROBUST) for e in NOISES[1:]),
    *(Claim("mdpo", "dpo", "reward_accuracy", e, "arXiv:2410.12138") for e in NOISES[2:]),
    *(Claim("step_kto", "kto", "gold", e, "arXiv:2501.10799") for e in (0.0, 0.2)),
)
