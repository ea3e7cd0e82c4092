"""Rotary positions and sliding windows as config.json writes them, in its older and newer layouts.

older   rope_theta, rope_scaling, rope_local_base_freq
newer   rope_parameters: one such dict, or one for each kind of layer
"""

import math
from typing import Any

from rljax.models.config import ModelConfig, RopeScaling
from rljax.models.pretrained.checks import check_kinds, without_nulls

# RopeScaling field -> key, of each kind.
SCALINGS = {
    "linear": {"factor": "factor"},
    "llama3": {
        "factor": "factor",
        "original_positions": "original_max_position_embeddings",
        "low_frequency_factor": "low_freq_factor",
        "high_frequency_factor": "high_freq_factor",
    },
    "yarn": {
        "factor": "factor",
        "original_positions": "original_max_position_embeddings",
        "beta_fast": "beta_fast",
        "beta_slow": "beta_slow",
        "attention_factor": "attention_factor",
    },
}
# Keys that say nothing about a scaling, or nothing at these values.
NEUTRAL = {"partial_rotary_factor": (1, None), "truncate": (True, None)}
NOT_SCALING = ("type", "rope_type", "rope_theta", "mscale", "mscale_all_dim", *NEUTRAL)


# What the keys of rope_parameters and rope_scaling must hold.
KINDS = {
    "full_attention": dict,
    "sliding_attention": dict,
    "rope_theta": float,
    "type": str,
    "rope_type": str,
    "mscale": float,
    "mscale_all_dim": float,
    **{key: float for keys in SCALINGS.values() for key in keys.values()},
}


def read_rope(values: dict[str, Any]) -> dict[str, Any]:
    """config.json -> rope_base, rope_scaling and local_rope_base of a ModelConfig.

    Raises:
        ValueError: for a kind of scaling, or a key of one, that rljax does not have, and for keys
            that are missing or hold something else than they should.
    """
    parameters = values.get("rope_parameters")
    check_kinds(parameters or {}, KINDS)
    if parameters is None:
        whole = (values.get("rope_scaling") or {}) | {"rope_theta": values["rope_theta"]}
        local = _over(values.get("rope_local_base_freq"), None)
    elif "full_attention" in parameters or "sliding_attention" in parameters:
        whole = _over(values["rope_theta"], parameters.get("full_attention"))
        local = _over(values.get("rope_local_base_freq"), parameters.get("sliding_attention"))
    else:
        whole, local = _over(values["rope_theta"], parameters), {}
    if _read_scaling(local, values) is not None:
        raise ValueError(f"Scaled rotary positions of local layers are not supported: {local}.")
    return {
        "rope_base": float(whole["rope_theta"]),
        "rope_scaling": _read_scaling(whole, values),
        "local_rope_base": float(local.get("rope_theta") or 0.0),
    }


def _over(base: float | None, parameters: dict[str, Any] | None) -> dict[str, Any]:
    """The parameters of a kind of layers; without a base of their own they have `base`."""
    return {"rope_theta": base} | without_nulls(parameters or {})


def _read_scaling(parameters: dict[str, Any], values: dict[str, Any]) -> RopeScaling | None:
    check_kinds(parameters, KINDS)
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    if kind == "default":
        return None
    if kind not in SCALINGS:
        raise ValueError(f"Unsupported rope_type {kind!r}; supported: default, {_list(SCALINGS)}.")
    keys = SCALINGS[kind]
    unknown = [key for key in parameters if key not in (*keys.values(), *NOT_SCALING)]
    unknown += [key for key, fine in NEUTRAL.items() if parameters.get(key) not in fine]
    if unknown:
        given = {key: parameters[key] for key in unknown}
        raise ValueError(f"Unsupported options of the {kind} rope scaling: {given}.")
    fields = {field: parameters[key] for field, key in keys.items() if parameters.get(key)}
    if "original_positions" in keys:
        fields.setdefault("original_positions", values.get("max_position_embeddings"))
    missing = [keys[field] for field in ("factor", *fields) if not fields.get(field)]
    if missing:
        raise ValueError(f"Missing keys of the {kind} rope scaling: {', '.join(missing)}.")
    if kind == "yarn" and "attention_factor" not in fields:
        fields |= _magnitude(parameters)
    return RopeScaling(kind=kind, **fields)


def _magnitude(parameters: dict[str, Any]) -> dict[str, float]:
    """The attention factor that yarn's two mscale options stand for."""
    given = [parameters.get("mscale"), parameters.get("mscale_all_dim")]
    if not all(given):
        return {}
    over, under = (0.1 * scale * math.log(parameters["factor"]) + 1.0 for scale in given)
    return {"attention_factor": over / under}


def write_rope(config: ModelConfig) -> dict[str, Any]:
    """The keys of the older layout, which every version of transformers reads."""
    scaling = config.rope_scaling
    written = None
    if scaling is not None:
        written = {key: getattr(scaling, field) for field, key in SCALINGS[scaling.kind].items()}
        written = {"rope_type": scaling.kind} | {k: value for k, value in written.items() if value}
    return {
        "rope_theta": config.rope_base,
        "rope_scaling": written,
        "rope_local_base_freq": config.local_rope_base or None,
    }


def read_window(values: dict[str, Any], layers: int) -> dict[str, int]:
    """config.json -> sliding_window and global_every of a ModelConfig.

    Raises:
        ValueError: if the layers that see everything are not every n-th one.
    """
    window = values.get("sliding_window") if values.get("use_sliding_window", True) else None
    kinds = values.get("layer_types") or _default_kinds(values, layers)
    known = ("full_attention", "sliding_attention")
    if len(kinds) != layers or any(kind not in known for kind in kinds):
        raise ValueError(
            f"layer_types must name full_attention or sliding_attention for each of the {layers} "
            f"layers, got {kinds}."
        )
    full = [kind == "full_attention" for kind in kinds]
    if not window or all(full):
        return {"sliding_window": 0, "global_every": 0}
    for every in range(layers + 1):
        if full == [bool(every) and (index + 1) % every == 0 for index in range(layers)]:
            return {"sliding_window": window, "global_every": every}
    raise ValueError(
        f"Unsupported layer_types {kinds}: the layers with full attention must be every n-th one."
    )


def _default_kinds(values: dict[str, Any], layers: int) -> list[str]:
    every = values.get("sliding_window_pattern") or 0
    first = values.get("max_window_layers") or 0  # the layers from this one on have a window

    def full(index: int) -> bool:
        return index < first or (every > 0 and (index + 1) % every == 0)

    return ["full_attention" if full(index) else "sliding_attention" for index in range(layers)]


def write_window(config: ModelConfig) -> dict[str, Any]:
    """Every key that some family has for its windows."""
    full = config.global_layers
    return {
        "use_sliding_window": not all(full),
        "sliding_window": config.sliding_window or None,
        "sliding_window_pattern": config.global_every or config.layers + 1,
        "max_window_layers": config.layers if all(full) else 0,
        "layer_types": ["full_attention" if one else "sliding_attention" for one in full],
    }


def _list(names: dict[str, Any]) -> str:
    return ", ".join(names)
