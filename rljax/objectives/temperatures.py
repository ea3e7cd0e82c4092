"""The temperatures at which samples are drawn, computed from the step before."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from rljax.objectives.batch_inputs.entropy_level import entropy_statistics
from rljax.objectives.parts import check_field

# The unscaled form never goes below a tenth of T0; the paper sets no bound.
UNSCALED_LIMIT = 0.9


def by_entropy(
    old_entropy: Array,
    mask: Array,
    *,
    temperature_slope: float = 0.05,
    temperature_scaled: bool = True,
    entropy_pivot: float = 0.8,
) -> Array:
    """Hotter where the next token is uncertain, colder where it is not (HAPO, arXiv:2509.16591, A).

        T = T0 (1 + slope h)

    h in [-1, 1] is the level of the token's log-entropy among those of this step: see
    `entropy_level` (objectives/batch_inputs). Training still reads log-probabilities at T0.

    Args:
        old_entropy: [N, T] f32, nats, of this step's samples.
        mask: [N, T] bool.
        temperature_slope: how much h changes the temperature: 0.05 in the code, 0.1 in the paper.
        temperature_scaled: False: h = (log-entropy - pivot) / spread, the paper's second version.
        entropy_pivot: quantile of the entropies whose level is 0.

    Returns:
        [4] f32, for the samples of the next step: pivot, rise, fall and limit
        (`sloped_temperature`, sampling/distribution.py). Zeros, which leave T0, where nothing is
        sampled.

    Raises:
        ValueError: for a slope outside of [0, 1) or a quantile outside of [0, 1].
    """
    check_field("temperature_slope", temperature_slope, lambda x: 0 <= x < 1, "in [0, 1)")
    pivot, spread, highest, lowest = entropy_statistics(
        old_entropy, mask, entropy_pivot=entropy_pivot
    )
    if temperature_scaled:
        widths, limit = (spread * highest, -spread * lowest), temperature_slope
    else:
        widths, limit = (spread, spread), UNSCALED_LIMIT
    slopes = [
        jnp.where(width > 0, temperature_slope / jnp.where(width > 0, width, 1.0), 0.0)
        for width in widths
    ]
    return jnp.stack([pivot, *slopes, jnp.full_like(pivot, limit)])


TEMPERATURES: dict[str, Callable | None] = {"constant": None, "by_entropy": by_entropy}
