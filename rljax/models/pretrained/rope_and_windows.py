"""Rotary positions and sliding windows as config.json writes them, in its older and newer layouts.

older   rope_theta, rope_scaling, rope_local_base_freq
newer   rope_parameters: one such dict, or one for each kind of layer
"""

import math
from collections.abc import Iterator
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
# Read besides those of the scaling.
MORE = {"yarn": ("mscale", "mscale_all_dim")}
ALWAYS = ("type", "rope_type", "rope_theta", *NEUTRAL)


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


def read_rope(
    values: dict[str, Any], given: dict[str, Any], *, per_layer: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """config.json -> rope_base, rope_scaling and local_rope_base of a ModelConfig, and remarks.

    Where both layouts are there, the choice is that of transformers 5: `rope_scaling` replaces
    `rope_parameters`, or, where layers differ, overrides those of full attention; a `rope_theta`
    among the parameters comes before the one beside them.

    Args:
        values: the keys, completed with what the family assumes.
        given: those that the file has.
        per_layer: whether layers with a window have their own parameters.

    Raises:
        ValueError: for a kind of scaling, or a key of one, that rljax does not have, and for keys
            that are missing or hold something else than they should.
    """
    newer, older = (without_nulls(values.get(k) or {}) for k in ("rope_parameters", "rope_scaling"))
    check_kinds(newer, KINDS)
    check_kinds(older, KINDS)
    base, local_base = values["rope_theta"], values.get("rope_local_base_freq")
    nested = bool({"full_attention", "sliding_attention"} & newer.keys())
    if per_layer and (nested or not newer):
        whole = _over(base, without_nulls(newer.get("full_attention") or {}) | older)
        local = _over(local_base, newer.get("sliding_attention"))
    elif nested and not older:
        whole = _over(base, newer.get("full_attention"))
        local = _over(local_base, newer.get("sliding_attention"))
    else:
        whole, local = _over(base, older or newer), _over(local_base, None)
    scaling, remarks = _read_scaling(whole, values)
    local_scaling, _ = _read_scaling(local, values)
    if local_scaling is not None:
        raise ValueError(f"Scaled rotary positions of local layers are not supported: {local}.")
    fields = {
        "rope_base": float(whole["rope_theta"]),
        "rope_scaling": scaling,
        "local_rope_base": float(local.get("rope_theta") or 0.0),
    }
    return fields, (*_two_truths(newer, older, whole, given), *remarks)


def _two_truths(
    newer: dict[str, Any], older: dict[str, Any], whole: dict[str, Any], given: dict[str, Any]
) -> Iterator[str]:
    """Remarks about rotary keys that disagree."""
    both = newer.get("full_attention", newer)
    if older and newer and any(both.get(key, value) != value for key, value in older.items()):
        yield f"rope_scaling={older} is read where rope_parameters={newer} says something else."
    beside = given.get("rope_theta")
    if beside is not None and beside != whole["rope_theta"]:
        yield f"rope_theta={whole['rope_theta']} of the rope parameters is read, not {beside}."
    kinds = whole.get("rope_type"), whole.get("type")
    if all(kinds) and kinds[0] != kinds[1]:
        yield f"rope_type={kinds[0]!r} is read, type={kinds[1]!r} is not."


def _over(base: float | None, parameters: dict[str, Any] | None) -> dict[str, Any]:
    """The parameters of a kind of layers; without a base of their own they have `base`."""
    return {"rope_theta": base} | without_nulls(parameters or {})


def _read_scaling(
    parameters: dict[str, Any], values: dict[str, Any]
) -> tuple[RopeScaling | None, tuple[str, ...]]:
    """The scaling, and remarks about keys that transformers does not read either."""
    check_kinds(parameters, KINDS)
    kind = parameters.get("rope_type") or parameters.get("type") or "default"
    keys = SCALINGS.get(kind, {})
    read = (*keys.values(), *MORE.get(kind, ()), *ALWAYS)
    odd = {key: value for key, value in parameters.items() if key not in read}
    remarks = ()
    if odd:
        remarks = (f"keys of the {kind} rope parameters that are not read: {odd}.",)
    if kind == "default":
        return None, remarks
    if kind not in SCALINGS:
        raise ValueError(f"Unsupported rope_type {kind!r}; supported: default, {_list(SCALINGS)}.")
    unknown = [key for key, fine in NEUTRAL.items() if parameters.get(key) not in fine]
    if unknown:
        given = {key: parameters[key] for key in unknown}
        raise ValueError(f"Unsupported options of the {kind} rope scaling: {given}.")
    fields = {field: parameters[key] for field, key in keys.items() if parameters.get(key)}
    if "original_positions" in keys:
        fields.setdefault("original_positions", values.get("max_position_embeddings"))
    needed = keys if kind == "llama3" else ("factor", *fields)
    missing = [keys[field] for field in needed if not fields.get(field)]
    if missing:
        raise ValueError(f"Missing keys of the {kind} rope scaling: {', '.join(missing)}.")
    if kind == "yarn" and "attention_factor" not in fields:
        fields |= _magnitude(parameters)
    return RopeScaling(kind=kind, **fields), remarks


def read_positions(
    values: dict[str, Any], scaling: RopeScaling | None, key: str, *, per_layer: bool
) -> tuple[int, tuple[str, ...]]:
    """How many positions a model is made for, 0 where its file does not say; and a remark.

    Yarn stretches the length first trained on, a linear scaling what the key says, as vLLM reads
    them. The key of llama3, and of Gemma 3, counts the stretched positions already.
    """
    said = values.get(key) or 0
    limit = said
    if said and scaling is not None and not per_layer:
        if scaling.kind == "yarn":
            limit = max(said, int(scaling.original_positions * scaling.factor))
        if scaling.kind == "linear":
            limit = int(said * scaling.factor)
    if limit == said:
        return said, ()
    return limit, (f"the {scaling.kind} scaling stretches {key}={said} to {limit} positions.",)


def write_positions(config: ModelConfig, *, per_layer: bool) -> int:
    """What `read_positions` makes the model's positions of."""
    scaling = config.rope_scaling
    if scaling is None or scaling.kind != "linear" or per_layer:
        return config.max_positions
    return math.ceil(config.max_positions / scaling.factor)


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
