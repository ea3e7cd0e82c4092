"""A quadratic penalty on the log-ratio instead of a clip."""

from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field
from rljax.objectives.surrogates.inputs import cleaned


def dro(
    log_ratio: Array,
    logprobs: Array,
    advantages: Array,
    mask: Array,
    *,
    quadratic_weight: float = 0.5,
) -> tuple[Array, dict[str, SumCount]]:
    """Policy gradient with a quadratic penalty (DRO, arXiv:2405.19107, here for each token).

        loss = -A * logprobs + quadratic_weight / 2 * log_ratio^2

    Args:
        log_ratio: [N, T] f32, differentiated.
        logprobs: [N, T] f32, differentiated.
        advantages: [N, T] f32, constant.
        mask: [N, T] bool.
        quadratic_weight: factor of the penalty.

    Returns:
        [N, T] loss, zero outside the mask, and the metric `log_ratio_squared`.

    Raises:
        ValueError: if `quadratic_weight` is negative.
    """
    check_field("quadratic_weight", quadratic_weight, lambda x: x >= 0, ">= 0")
    log_ratio, logprobs, advantages = cleaned(log_ratio, logprobs, advantages, mask)
    squared = log_ratio**2
    loss = -advantages * logprobs + 0.5 * quadratic_weight * squared
    return loss, {"log_ratio_squared": masked(squared, mask)}
