"""config.json <-> ModelConfig, in the words of a family (families.py)."""

import dataclasses
from typing import Any

from rljax.models.config import LIMITS, ModelConfig, check_limits
from rljax.models.pretrained.checks import (
    KINDS,
    check_kinds,
    check_quantisation,
    unread_keys,
    without_nulls,
)
from rljax.models.pretrained.families import ACTIVATIONS, FAMILIES, FIELD_KINDS, Family
from rljax.models.pretrained.rope_and_windows import (
    read_positions,
    read_rope,
    read_window,
    write_positions,
    write_rope,
    write_window,
)

# Classes with a vision tower, whose text part is read.
WITH_VISION = {
    "Gemma3ForConditionalGeneration": "language_model",
    "Gemma3ForSequenceClassification": "reward",
}


# What a config.json with a vision tower says outside of its text part.
OUTER = (
    *("architectures", "id2label", "num_labels", "quantization_config", "auto_map"),
    *("tie_word_embeddings", "dtype", "torch_dtype"),
)


def parse(values: dict[str, Any]) -> tuple[Family, dict[str, Any], tuple[str, ...]]:
    """What config.json says: the family, the fields of a ModelConfig, and remarks.

    A remark is one line about two keys that disagree, or about keys that are not read; where the
    family is one of transformers, the choice is that of transformers 5.

    Raises:
        ValueError: for a model_type, a class or an option that is not supported, a missing key, or
            one that holds something else than it should.
    """
    check_kinds(values, KINDS)
    if values.get("model_type") == "gemma3":
        if values.get("text_config") is None:
            raise ValueError("Missing keys of gemma3: text_config.")
        outer = {key: values[key] for key in OUTER if values.get(key) is not None}
        inner = {k: v for k, v in values["text_config"].items() if k != "tie_word_embeddings"}
        values = inner | outer | {"model_type": "gemma3_text"}
        check_kinds(values, KINDS)
    model_type = values.get("model_type")
    if model_type not in FAMILIES:
        raise ValueError(
            f"Unsupported model_type {model_type!r}; supported: gemma3, {', '.join(FAMILIES)}."
        )
    family = FAMILIES[model_type]
    given = without_nulls(values)
    values = family.assumed | given
    check_quantisation(values)
    _check_options(values, family)
    fields = _read_keys(values, family)
    rope, remarks = read_rope(values, given, per_layer=family.local_rope)
    fields |= rope
    if family.windows:
        windows = {key: values[key] for key in family.windows if key in values}
        fields |= read_window(windows, fields["layers"])
    fields |= _read_head(values, family)
    limit, stretched = read_positions(
        values, fields["rope_scaling"], family.positions, per_layer=family.local_rope
    )
    remarks += (*stretched, *unread_keys(given, family.known_keys))
    return family, family.complete(fields | {"max_positions": limit}), remarks


def _check_options(values: dict[str, Any], family: Family) -> None:
    known = family.only | {key: (value,) for key, value in family.constants.items()}
    wrong = [
        f"{key}={values.get(key)!r} (supported: {' or '.join(map(repr, allowed))})"
        for key, allowed in known.items()
        if values.get(key) not in allowed
    ]
    if wrong:
        raise ValueError(f"Unsupported options of {family.model_type}: {', '.join(wrong)}.")


def _read_keys(values: dict[str, Any], family: Family) -> dict[str, Any]:
    """The fields that stand in config.json one by one."""
    check_kinds(values, {key: FIELD_KINDS[field] for field, key in family.keys.items()})
    # What transformers calls some keys in newer files, or lets follow from others.
    heads = values.get(family.keys["heads"])
    fallbacks = {
        "kv_heads": heads,
        "head_dim": (values.get(family.keys["width"]) or 0) // (heads or 1),
        "vocab_size": values.get("vocab_size"),
        "experts": values.get("num_local_experts"),
        "attention_softcap": 0.0,
        "logit_softcap": 0.0,
        "mask_token": -1,
    }
    fields = {field: values.get(key) for field, key in family.keys.items()}
    limits = LIMITS | {"attention_scale": (1e-6, 1e6)}  # here as 1 / scale^2
    named = {key: limits[field] for field, key in family.keys.items() if field in limits}
    present = {key: values[key] for key in named if values.get(key) is not None}
    check_limits(present, named)
    fields |= {k: fallbacks[k] for k, v in fields.items() if v is None and k in fallbacks}
    fields.setdefault("head_dim", fallbacks["head_dim"])
    missing = [family.keys[field] for field, value in fields.items() if value is None]
    if missing:
        raise ValueError(f"Missing keys of {family.model_type}: {', '.join(missing)}.")
    if fields["activation"] not in ACTIVATIONS:
        raise ValueError(
            f"Unsupported {family.keys['activation']} {fields['activation']!r}; "
            f"supported: {', '.join(ACTIVATIONS)}."
        )
    fields["activation"] = ACTIVATIONS[fields["activation"]]
    if "attention_scale" in fields:
        scalar = fields["attention_scale"]
        fields["attention_scale"] = 0.0 if scalar == fields["head_dim"] else scalar**-0.5
    return fields


def _read_head(values: dict[str, Any], family: Family) -> dict[str, Any]:
    """The head that the class in config.json has; without one it is a language model."""
    classes = {name: head for head, name in family.classes.items() if head != "value"}
    if family.model_type == "gemma3_text":
        classes |= WITH_VISION
    name = (values.get("architectures") or [family.classes["language_model"]])[0]
    if name not in classes:
        raise ValueError(f"Unsupported architecture {name!r}; supported: {', '.join(classes)}.")
    if classes[name] == "language_model":
        return {}
    return {
        "head": classes[name],
        "head_outputs": len(values.get("id2label") or ()) or values.get("num_labels") or 2,
        "head_bias": classes[name] == "process_reward"
        and values.get("token_classification_bias", True),
    }


def config_values(config: ModelConfig, family: Family) -> dict[str, Any]:
    """A ModelConfig -> config.json in the words of a family; `misfits` tells whether it fits."""
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    values = family.constants | {key: getattr(config, field) for field, key in family.keys.items()}
    values[family.keys["activation"]] = names[config.activation]
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if key in values:
            values[key] = values[key] or None
    if "attention_scale" in family.keys:
        scale = config.attention_scale
        values["query_pre_attn_scalar"] = round(scale**-2) if scale else config.head_dim
    if values.get("mask_token_id") == -1:
        del values["mask_token_id"]
    values |= {"vocab_size": config.vocab_size, "model_type": family.model_type}
    values |= write_rope(config)
    if config.max_positions:
        values[family.positions] = write_positions(config, per_layer=family.local_rope)
    if not family.local_rope:
        del values["rope_local_base_freq"]
    values |= {key: write_window(config)[key] for key in family.windows}
    values["architectures"] = [family.classes.get(config.head)]
    if config.head != "language_model":
        values["id2label"] = {str(i): f"LABEL_{i}" for i in range(config.head_outputs)}
        values["label2id"] = {name: int(i) for i, name in values["id2label"].items()}
    if config.head in ("value", "process_reward"):
        values["token_classification_bias"] = config.head_bias
    return values


# Fields that say how a model is computed or trained, not what it computes.
NOT_SHAPE = (
    "max_positions",  # families assume different ones
    "attention",
    "decode_attention",
    "dtype",
    "param_dtype",
    "remat",
    "lora",
    "router_bias_rate",
    "router_aux_weight",
    "head",  # a value head travels as one per token
    "head_bias",
    "global_every",  # compared by what follows from it
)


def misfits(config: ModelConfig, family: Family) -> list[str]:
    """Why a model cannot be written as a member of a family; empty if it can.

    It can if config.json reads back as the same model.
    """
    reasons = []
    if config.head not in family.classes:
        reasons.append(f"transformers has no {family.model_type} class for head={config.head!r}")
        config = dataclasses.replace(config, head="language_model", head_outputs=1)
    if family.even_heads and config.width % config.heads:
        reasons.append(
            f"width={config.width} is no multiple of heads={config.heads}, which transformers asks "
            f"of {family.model_type}"
        )
    if config.head == "reward" and config.head_bias:
        reasons.append(
            f"{family.classes['reward']} has no bias on its head (config.model.head_bias)"
        )
    try:
        read = ModelConfig(**parse(config_values(config, family))[1])
    except ValueError as error:
        return [*reasons, str(error)]
    shape = [f.name for f in dataclasses.fields(ModelConfig) if f.name not in NOT_SHAPE]
    if config.experts:
        shape.remove("mlp_width")
    return reasons + [
        f"{name}={getattr(config, name)!r} is {getattr(read, name)!r} in {family.model_type}"
        for name in (*shape, "global_layers")
        if not _equal(getattr(config, name), getattr(read, name))
    ]


def _equal(one: Any, other: Any) -> bool:
    """Equal, floats up to the last digits."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-9 * abs(one)
    return one == other


def fitting_family(config: ModelConfig) -> Family:
    """The first family that a model can be written as.

    Raises:
        ValueError: if there is none, with what speaks against the nearest one.
    """
    reasons = {family.model_type: misfits(config, family) for family in FAMILIES.values()}
    nearest = min(reasons, key=lambda name: len(reasons[name]))
    if reasons[nearest]:
        listed = "; ".join(reasons[nearest])
        raise ValueError(
            f"No published family has the options of this model; the nearest is {nearest}, but "
            f"{listed} (config.model)."
        )
    return FAMILIES[nearest]
