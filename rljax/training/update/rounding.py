"""Adding updates to parameters, with stochastic rounding where these are bfloat16."""

import zlib

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.lora import flatten, unflatten
from rljax.models.network import Params


def stochastic_round(x: Array, *, key: Array) -> Array:
    """Rounds float32 to one of the two bfloat16 neighbours, so that the mean over keys is x.

    Adds 16 random bits below those that are kept, then cuts (arXiv:2010.06192). Exact
    numbers, infinities and NaN stay as they are.
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    cut = (bits + noise) & jnp.uint32(0xFFFF0000)
    rounded = jax.lax.bitcast_convert_type(cut, jnp.float32)
    return jnp.where(jnp.isfinite(x), rounded, x).astype(jnp.bfloat16)


def apply_updates(params: Params, changes: Params, *, key: Array | None) -> Params:
    """params + changes, added in float32.

    With round-to-nearest an update below half a unit in the last place, 2^-9 of the parameter, is
    lost: nearly every one at the learning rates of reinforcement learning. bfloat16 parameters are
    therefore rounded stochastically, with noise of its own for each leaf, the same on all devices.

    Args:
        params: of any float dtypes, which they keep.
        changes: what the optimizer returns.
        key: of this update; None rounds to nearest.
    """
    leaves, added = flatten(params), flatten(changes)
    moved = {}
    for path, leaf in leaves.items():
        total = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) + added[path]
        if leaf.dtype == jnp.bfloat16 and key is not None:
            # A checksum of the name: the noise of a leaf does not depend on what else there is.
            own = jax.random.fold_in(key, zlib.crc32("/".join(path).encode()))
            moved[path] = stochastic_round(total, key=own)
        else:
            moved[path] = total.astype(leaf.dtype)
    return unflatten(moved)
