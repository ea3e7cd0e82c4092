"""The choice of a kernel for whole rows (training, scoring), by `config.attention`.

    dense   XLA: holds all scores; does everything
    cudnn   fused, on GPU: bfloat16, no soft-cap
    splash  fused, on TPU
    auto    splash on TPU; cudnn on GPU where it can; else dense

Shared-prefix rows are always computed by XLA, in two blocks of scores (group.py).
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.attention.cudnn import cudnn, what_cudnn_cannot
from rljax.models.attention.dense import dense
from rljax.models.attention.group import GroupLayout, group_dense, group_masks
from rljax.models.attention.splash import splash
from rljax.models.attention.visibility import attention_mask
from rljax.models.config import ModelConfig
from rljax.parallel.rules import check_context, check_row_length, constrain, slots_are_split

# (q [N,S,H,h], k [N,S,K,h], v [N,S,K,h], is_global [] bool) -> context [N,S,H,h]
LayerAttend = Callable[[Array, Array, Array, Array], Array]


def make_attend(
    config: ModelConfig,
    positions: Array,
    segment_ids: Array,
    group: GroupLayout | None = None,
) -> LayerAttend:
    """The attention of whole rows.

    Args:
        config: of the model.
        positions: [N, S] i32.
        segment_ids: [N, S] i32; 0 is padding.
        group: of shared-prefix rows.

    Raises:
        ValueError: for rows or a configuration that the kernel cannot serve.
    """
    slots = positions.shape[1]
    mesh_shape = jax.sharding.get_abstract_mesh().shape
    check_context(mesh_shape, config.heads)
    check_row_length(mesh_shape, slots, "the length of rows")
    if group is not None:
        attend = _group(config, positions, segment_ids, group)
    else:
        kernel = resolve_kernel(config, platform(), slots)
        attend = _KERNELS[kernel](config, positions, segment_ids)
    return _over_heads(attend, config) if slots_are_split() else attend


def platform() -> str:
    """What is compiled for: "tpu", "gpu" or "cpu".

    The mesh that is set decides, whose devices may only be described (ahead-of-time compilation on
    another machine); without one it is the default backend.
    """
    mesh = jax.sharding.get_abstract_mesh()
    device = None if mesh.empty else mesh.abstract_device
    name = jax.default_backend() if device is None else device.platform
    return "gpu" if name in ("cuda", "rocm") else name


def resolve_kernel(config: ModelConfig, platform: str, slots: int) -> str:
    """The kernel of rows of `slots`: dense, cudnn or splash.

    Raises:
        ValueError: where `config.attention` names one that cannot serve.
    """
    refusal = {
        "dense": "",
        "splash": "" if platform == "tpu" else f"it runs on TPU, not on {platform}",
        "cudnn": what_cudnn_cannot(config, platform, slots),
    }
    if config.attention == "auto":
        return next(kernel for kernel in ("splash", "cudnn", "dense") if not refusal[kernel])
    if refusal[config.attention]:
        raise ValueError(
            f"attention={config.attention!r} cannot be used here: {refusal[config.attention]}; "
            "'auto' takes the best that can (config.model.attention)."
        )
    return config.attention


def check_group(config: ModelConfig) -> None:
    """Raises ValueError where shared-prefix rows cannot be computed."""
    if not config.causal:
        raise ValueError(
            "Shared-prefix rows need a causal model: in a bidirectional one the prompt sees the "
            "completion (config.<stage>.batch.share_prompts, config.model.causal)."
        )
    if config.attention in ("splash", "cudnn"):
        raise ValueError(
            f"attention={config.attention!r} cannot compute shared-prefix rows, which are two "
            "blocks of scores; allowed: auto, dense, or separate rows "
            "(config.<stage>.batch.share_prompts, config.model.attention)."
        )


def _dense(config: ModelConfig, positions: Array, segment_ids: Array) -> LayerAttend:
    mask_of = _masks(config, positions, segment_ids)

    def attend(q: Array, k: Array, v: Array, is_global: Array) -> Array:
        scale, softcap = config.score_scale, config.attention_softcap
        return dense(q, k, v, mask_of(is_global), scale=scale, softcap=softcap)

    return attend


def _cudnn(config: ModelConfig, positions: Array, segment_ids: Array) -> LayerAttend:
    mask_of = _masks(config, positions, segment_ids)
    return lambda q, k, v, is_global: cudnn(q, k, v, mask_of(is_global), config)


def _splash(config: ModelConfig, positions: Array, segment_ids: Array) -> LayerAttend:
    def kernel(window: int) -> Callable[[Array, Array, Array], Array]:
        return lambda q, k, v: splash(q, k, v, segment_ids, config, window=window)

    def attend(q: Array, k: Array, v: Array, is_global: Array) -> Array:
        if all(config.global_layers):
            return kernel(0)(q, k, v)
        if not any(config.global_layers):
            return kernel(config.sliding_window)(q, k, v)
        return jax.lax.cond(is_global, kernel(0), kernel(config.sliding_window), q, k, v)

    return attend


_KERNELS = {"dense": _dense, "cudnn": _cudnn, "splash": _splash}


def _masks(config: ModelConfig, positions: Array, segment_ids: Array) -> Callable[[Array], Array]:
    """(is_global [] bool) -> the mask of that kind of layers, [N, 1, S, S]."""
    causal, window = config.causal, config.sliding_window
    everything = attention_mask(segment_ids, causal=causal)
    if not window:
        return lambda is_global: everything
    near = attention_mask(segment_ids, causal=causal, positions=positions, window=window)
    return lambda is_global: jnp.where(is_global, everything, near)


def _group(
    config: ModelConfig, positions: Array, segment_ids: Array, group: GroupLayout
) -> LayerAttend:
    check_group(config)
    mask_of = functools.partial(group_masks, group, positions, segment_ids)
    everything = mask_of(0)
    near = mask_of(config.sliding_window) if config.sliding_window else everything

    def attend(q: Array, k: Array, v: Array, is_global: Array) -> Array:
        masks = everything
        if config.sliding_window:
            masks = jax.tree.map(functools.partial(jnp.where, is_global), everything, near)
        scale, softcap = config.score_scale, config.attention_softcap
        return group_dense(q, k, v, group, masks, scale=scale, softcap=softcap)

    return attend


def _over_heads(attend: LayerAttend, config: ModelConfig) -> LayerAttend:
    """Splits heads over the mesh axes tensor and context while `attend` works on whole rows."""
    shape = jax.sharding.get_abstract_mesh().shape
    # Key-value heads are repeated where there are too few for every device to hold one.
    shared = math.lcm(config.kv_heads, shape["tensor"] * shape["context"]) // config.kv_heads

    def by_slots(x: Array) -> Array:
        return constrain(x, "batch", "sequence", "heads", None)

    def by_heads(x: Array) -> Array:
        return constrain(x, "batch", None, "attention_heads", None)

    def attend_by_heads(q: Array, k: Array, v: Array, is_global: Array) -> Array:
        k, v = (jnp.repeat(x, shared, axis=2) if shared > 1 else x for x in (k, v))
        q, k, v = (by_heads(by_slots(x)) for x in (q, k, v))
        return by_slots(by_heads(attend(q, k, v, is_global)))

    return attend_by_heads
