"""Attention on GPU by cuDNN's fused kernels, through `jax.nn.dot_product_attention`."""

import jax
from jax import Array

from rljax.models.config import ModelConfig

HEAD_DIM = 128  # the largest that every GPU with fused attention serves


def cudnn(q: Array, k: Array, v: Array, mask: Array, config: ModelConfig) -> Array:
    """q [N,S,H,h], k and v [N,S,K,h], mask [N,1,S,S] -> [N,S,H,h].

    Padding, segments and windows travel in the mask, which cuDNN reads as a bias [N,1,S,S] in
    bfloat16; scores and weights [N,H,S,S] are never held. Causality is passed separately, so that
    the blocks after the diagonal are skipped.
    """
    return jax.nn.dot_product_attention(
        q,
        k,
        v,
        mask=mask,
        scale=config.score_scale,
        is_causal=config.causal,
        implementation="cudnn",
    )


def what_cudnn_cannot(config: ModelConfig, platform: str, slots: int) -> str:
    """Why rows of so many slots cannot be served, or "" where they can."""
    if platform != "gpu":
        return f"it runs on GPU, not on {platform}"
    if config.dtype != "bfloat16":
        return f"it needs dtype=bfloat16, not {config.dtype} (config.model.dtype)"
    if config.attention_softcap:
        return "it has no soft-cap (config.model.attention_softcap)"
    if config.head_dim % 8 or config.head_dim > HEAD_DIM:
        return (
            f"it needs head_dim to be a multiple of 8 up to {HEAD_DIM}, not {config.head_dim} "
            "(config.model.head_dim)"
        )
    return f"with a mask it needs rows of even length, not {slots}" if slots % 2 else ""
