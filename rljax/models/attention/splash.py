"""Attention on TPU by Pallas' splash kernels: scores stay on the chip, unseen blocks are skipped.

Rows are cut into blocks of queries and keys. A static mask (causal, a window, or everything) says
which blocks are computed; segment ids mask inside them.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental.pallas.ops.tpu import splash_attention as kernels

from rljax.models.config import ModelConfig
from rljax.parallel.rules import partition_spec

LANES = 128  # of the vector unit: block sizes are multiples of it
BLOCKS = (512, 256, LANES)


def splash(
    q: Array,
    k: Array,
    v: Array,
    segment_ids: Array,
    config: ModelConfig,
    *,
    window: int,
    interpret: bool = False,
) -> Array:
    """Attention within segments, split over the mesh by rows and heads.

    Rows whose length is no multiple of 128 are padded here. Padding (segment 0) sees the padding of
    its row, not nothing: no token sees it either way. A window counts slots, which in a segment are
    as far apart as positions.

    Args:
        q: [N, S, H, h]; k, v: [N, S, K, h].
        segment_ids: [N, S] i32.
        config: for causality, the scale of the scores and their soft-cap.
        window: as in `attention_mask`.
        interpret: emulates the kernels, on any platform.

    Returns:
        [N, S, H, h] in the dtype of q.
    """
    kernel = functools.partial(
        _on_one_device,
        causal=config.causal,
        window=window,
        softcap=config.attention_softcap,
        interpret=interpret,
    )
    # In float32: a scale rounded to bfloat16 would be off by up to 0.4 %, in all scores alike.
    q = (q.astype(jnp.float32) * config.score_scale).astype(q.dtype)
    if jax.sharding.get_abstract_mesh().empty:
        return kernel(q, k, v, segment_ids)
    heads = partition_spec(("batch", None, "attention_heads", None))
    # check_vma: the kernels' outputs do not say over which axes of the mesh they vary.
    return jax.shard_map(
        kernel,
        in_specs=(heads, heads, heads, partition_spec(("batch", None))),
        out_specs=heads,
        check_vma=False,
    )(q, k, v, segment_ids)


def _on_one_device(
    q: Array,
    k: Array,
    v: Array,
    segment_ids: Array,
    *,
    causal: bool,
    window: int,
    softcap: float,
    interpret: bool,
) -> Array:
    _, length, heads, _ = q.shape
    slots = math.ceil(length / LANES) * LANES

    def pad(x: Array) -> Array:
        return jnp.pad(x, [(0, 0), (0, slots - length)] + [(0, 0)] * (x.ndim - 2))

    block = next(size for size in BLOCKS if slots % size == 0)
    sizes = ("block_q", "block_kv", "block_q_dkv", "block_kv_dkv", "block_q_dq", "block_kv_dq")
    attend = kernels.make_splash_mha_single_device(
        kernels.MultiHeadMask([_mask(slots, causal, window)] * heads),
        block_sizes=kernels.BlockSizes(**dict.fromkeys(sizes, block)),
        attn_logits_soft_cap=softcap or None,
        interpret=interpret,
    )
    segments = pad(segment_ids)
    q, k, v = (pad(x).swapaxes(1, 2) for x in (q, k, v))
    mixed = jax.vmap(attend)(q, k, v, kernels.SegmentIds(segments, segments))
    return mixed.swapaxes(1, 2)[:, :length]


def _mask(slots: int, causal: bool, window: int) -> kernels.Mask:
    shape = (slots, slots)
    if window:
        return kernels.LocalMask(shape, (window - 1, 0 if causal else window - 1), offset=0)
    return kernels.CausalMask(shape) if causal else kernels.FullMask(shape)
