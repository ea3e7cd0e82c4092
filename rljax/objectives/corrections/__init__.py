"""The sampler is not the trainer: weights and rejections that make up for the difference.

The sampler draws with other kernels, another precision or older parameters, so the log-probability
that it reports, `behavior_logprobs`, is not the trainer's own, `old_logprobs`. Two tables of
parts answer, each with weights for the surrogate [N, T], what is kept [N, T] and metrics:

    CORRECTIONS   importance weights, bounded
    REJECTIONS    weights of 0 or 1: tokens and sequences that differ too much

They combine as a product. **The aggregation's weights come from the mask before the rejection**, as
in AReaL: dividing by the tokens that are left would make the gradient of the others larger, the
more are rejected. (What narrows the batch itself, denominators included, is a selection.)

Three policies: the ratio is current / old, the weight old / behavior. Two policies: take the ratio
against `behavior_logprobs` and no weight. Both at once would count the difference twice.

| file | what it holds |
| --- | --- |
| `importance.py` | weights trainer / sampler, truncated or set to 0 beyond bounds |
| `rejection.py` | tokens and sequences that differ too much |
| `proximal.py` | the policy before the update, estimated without a forward pass |
"""

from collections.abc import Callable, Mapping

from jax import Array

from rljax.objectives.corrections.importance import (
    Corrected,
    none,
    sampler_log_ratio,
    truncated,
    zeroed,
)
from rljax.objectives.corrections.proximal import proximal_logprobs
from rljax.objectives.corrections.rejection import (
    keep_all,
    off_policy,
    sequences,
    tokens,
    tokens_and_sequences,
)
from rljax.objectives.parts import apply

CORRECTIONS = {"none": none, "truncated": truncated, "zeroed": zeroed}

REJECTIONS = {
    "none": keep_all,
    "tokens": tokens,
    "sequences": sequences,
    "tokens_and_sequences": tokens_and_sequences,
    "off_policy": off_policy,
}

_SEQUENCE_TIS = dict(correction="truncated", correction_level="sequence", correction_cap=2.0)

# Settings with a name of their own, as options and fields of an objective.
PRESETS: dict[str, dict[str, str | float]] = {
    "token_tis": dict(correction="truncated", correction_level="token", correction_cap=2.0),
    "sequence_tis": _SEQUENCE_TIS,
    "icepop": dict(correction="zeroed", correction_floor=0.5, correction_cap=5.0),
    "sequence_mis": _SEQUENCE_TIS
    | dict(
        rejection="sequences",
        reject_sequence_statistic="k1",
        reject_sequence_reduction="sum",
        reject_sequence_low=0.5,
        reject_sequence_high=2.0,
    ),
    "geometric_rejection": dict(
        rejection="sequences",
        reject_sequence_statistic="k1",
        reject_sequence_reduction="mean",
        reject_sequence_low=0.999,
        reject_sequence_high=1.001,
    ),
    "trl": dict(correction="zeroed", correction_level="sequence", correction_cap=3.0),
    "areal": dict(correction="zeroed", correction_level="token", correction_cap=5.0),
}


def corrected(
    arrays: Mapping[str, Array], *, correction: Callable, rejection: Callable
) -> Corrected:
    """Weights and rejection of one batch together; what the surrogate is multiplied with.

    Args:
        arrays: by name; what the two parts read.
        correction: a value of `CORRECTIONS`, its fields bound.
        rejection: a value of `REJECTIONS`, its fields bound.
    """
    first, second = apply(correction, arrays), apply(rejection, arrays)
    return Corrected(
        first.weights * second.weights, first.kept & second.kept, first.metrics | second.metrics
    )


__all__ = [
    "CORRECTIONS",
    "Corrected",
    "PRESETS",
    "REJECTIONS",
    "corrected",
    "proximal_logprobs",
    "sampler_log_ratio",
]
