"""Who sees whom: segments, causality and windows, as boolean masks."""

import jax.numpy as jnp
from jax import Array


def attention_mask(
    segment_ids: Array, *, causal: bool, positions: Array | None = None, window: int = 0
) -> Array:
    """[N, S] i32 -> [N, 1, S, S] bool: within a segment, never to padding (segment 0).

    Segments 1 1 2 2 0 give, causally, the rows 1.... / 11... / ..1.. / ..11. / .....

    Args:
        segment_ids: [N, S] i32; 0 is padding.
        causal: whether only earlier slots are seen, the own one included.
        positions: [N, S] i32, read with a window.
        window: positions seen back to, the own one included; 0: all. Without `causal` also forward.
    """
    same = segment_ids[:, :, None] == segment_ids[:, None, :]
    mask = same & (segment_ids[:, None, :] > 0)
    if causal:
        steps = jnp.arange(segment_ids.shape[1])
        mask &= steps[:, None] >= steps[None, :]
    if window:
        mask &= within(positions, positions, window)
    return mask[:, None]


def within(queries: Array, keys: Array, window: int) -> Array:
    """Positions [..., S] and [..., C] -> [..., S, C] bool: less than `window` apart."""
    return jnp.abs(queries[..., :, None] - keys[..., None, :]) < window
