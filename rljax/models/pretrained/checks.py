"""What the keys of config.json must hold."""

from collections.abc import Mapping
from typing import Any

KINDS = {
    "model_type": str,
    "architectures": list,
    "id2label": dict,
    "num_labels": int,
    "num_local_experts": int,
    "token_classification_bias": bool,
    "text_config": dict,
    "max_position_embeddings": int,
    "rope_theta": float,
    "rope_local_base_freq": float,
    "rope_scaling": dict,
    "rope_parameters": dict,
    "use_sliding_window": bool,
    "sliding_window": int,
    "sliding_window_pattern": int,
    "max_window_layers": int,
    "layer_types": list,
}
KIND_NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list: "a list",
    dict: "an object",
}
# Keys at which null says something; elsewhere it is as if the key were missing.
NULL_SPEAKS = (
    "sliding_window",
    "head_dim",
    "num_key_value_heads",
    "attn_logit_softcapping",
    "final_logit_softcapping",
)


def check_kinds(values: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """Raises ValueError if a key, where it is there and not null, holds another kind of value."""
    for key, kind in kinds.items():
        value = values.get(key)
        allowed = (int, float) if kind is float else kind
        fits = isinstance(value, allowed) and (kind is bool or not isinstance(value, bool))
        if value is not None and not fits:
            raise ValueError(f"{key} must be {KIND_NAMES[kind]}, got {value!r}.")


def without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that say something."""
    return {k: value for k, value in values.items() if value is not None or k in NULL_SPEAKS}
