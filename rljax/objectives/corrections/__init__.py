"""The sampler is not the trainer: weights and rejections that make up for the difference.

The sampler draws with other kernels, another precision or older parameters, so the log-probability
that it reports, `behavior_logprobs`, is not the trainer's own, `old_logprobs`. Two tables of
parts answer, each with weights for the surrogate [N, T], what is kept [N, T] and metrics:

    CORRECTIONS   importance weights, bounded
    REJECTIONS    weights of 0 or 1: tokens and sequences that differ too much

They combine as a product. **The aggregation's weights come from the mask before the rejection**, as
in AReaL: a loss divided by the tokens that are left would give these a larger gradient, the more
tokens are rejected. (What narrows the batch itself, denominators included, is a selection.)

With three policies the ratio is current / old and the weight is old / behavior. With two policies
the ratio is taken against `behavior_logprobs`, and there is no weight. Both at once would count the
difference twice.

Settings that have names are methods: `tis`, `mis`, `icepop`, `geo_rs`, `areal`
(rljax/registry/methods/off_policy.py).

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
    "REJECTIONS",
    "corrected",
    "proximal_logprobs",
    "sampler_log_ratio",
]
