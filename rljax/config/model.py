"""The model section of a config as a ModelConfig."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from rljax.config.runs import find_step, recorded_network, run_config
from rljax.config.schema_model import SHAPE
from rljax.models.config import LoRAConfig, ModelConfig, RopeScaling
from rljax.models.presets import preset
from rljax.models.pretrained import is_pretrained, read_config

# A small model to train from scratch, where neither a preset nor a checkpoint gives the shape.
SMALL = {"layers": 4, "width": 128, "heads": 4, "kv_heads": 2}


def resolve_model(section: ConfigDict, tokenizer_size: int) -> ModelConfig:
    """Fills the shape from the checkpoint, the preset or the small default.

    Args:
        section: config.model, complete.
        tokenizer_size: ids that the tokenizer can produce; the vocabulary where nothing else says.

    Raises:
        ValueError: an `init_from` that is no checkpoint, an unknown preset, a field that
            contradicts the checkpoint, a vocabulary too small for the tokenizer, or a shape that
            does not work.
    """
    found = _checkpoint(section.init_from) if section.init_from else None
    values = section.to_dict()
    given = {name: values[name] for name in SHAPE if values[name] is not None}
    given["rope_scaling"] = _rope_scaling(given["rope_scaling"])
    if given["rope_scaling"] is None:
        del given["rope_scaling"]
    if found is not None:
        shape = _of_checkpoint(found, section, given)
    elif section.preset:
        shape = {**preset(section.preset), **given}
    else:
        shape = _small(given, tokenizer_size)
    if shape["vocab_size"] < tokenizer_size:
        raise ValueError(
            f"The tokenizer has {tokenizer_size} tokens, the model {shape['vocab_size']}: added "
            "tokens would have no embedding (config.model.vocab_size, config.tokenizer.path, "
            "config.tokenizer.special_tokens)."
        )
    settings = ("dtype", "param_dtype", "attention", "decode_attention", "remat")
    shape |= {name: values[name] for name in (*settings, "router_bias_rate", "router_aux_weight")}
    for name in ("router_bias", "max_positions"):
        if values[name] is not None:
            shape[name] = values[name]
    _check_balancing(shape)
    return ModelConfig(**shape, lora=_lora(values["lora"]))


def _of_checkpoint(
    found: ModelConfig, section: ConfigDict, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The shape of the checkpoint's network, which nothing in the config may contradict."""
    shape = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    del shape["lora"]
    named = preset(section.preset) if section.preset else {}
    for field, value in {**named, **given}.items():
        if shape[field] != value:
            place = f"config.model.{field}" if field in given else "config.model.preset"
            raise ValueError(
                f"{field}={value!r} contradicts the checkpoint {section.init_from}, whose "
                f"config.json says {shape[field]!r}: leave it out ({place}, "
                "config.model.init_from)."
            )
    return shape


def _checkpoint(folder: str) -> ModelConfig | None:
    """The network of a published checkpoint, or of the run that wrote one; None if it has no note.

    Raises:
        ValueError: if the folder is neither.
    """
    if is_pretrained(folder):
        return read_config(folder)
    step = find_step(folder)
    config = run_config(step)
    return recorded_network(config, step) if config else None


def model_of_role(folder: str, policy: ModelConfig) -> ModelConfig:
    """The network of a folder that a stage reads besides its policy, in the policy's precision.

    A run's checkpoint without a config.json is taken for one of the policy's network.
    """
    settings = ("dtype", "param_dtype", "attention", "decode_attention", "remat")
    found = _checkpoint(folder) or policy
    return dataclasses.replace(found, **{name: getattr(policy, name) for name in settings})


def _small(given: Mapping[str, Any], tokenizer_size: int) -> dict[str, Any]:
    shape = {"vocab_size": tokenizer_size, **SMALL, **given}
    if "head_dim" not in shape:
        if shape["width"] % shape["heads"]:
            raise ValueError(
                f"width={shape['width']} is not a multiple of heads={shape['heads']}; set "
                "head_dim (config.model.head_dim)."
            )
        shape["head_dim"] = shape["width"] // shape["heads"]
    return {"mlp_width": 3 * shape["width"], **shape}


def _rope_scaling(values: Mapping[str, Any]) -> RopeScaling | None:
    given = {name: value for name, value in values.items() if value is not None}
    if given.pop("kind"):
        return RopeScaling(kind=values["kind"], **{"factor": 0.0, **given})  # 0 is refused
    return _unread_without("kind", "rope_scaling", given)


def _lora(values: Mapping[str, Any]) -> LoRAConfig | None:
    given = {name: value for name, value in values.items() if value is not None}
    if given.pop("rank"):
        return LoRAConfig(rank=values["rank"], **{"alpha": float(values["rank"]), **given})
    return _unread_without("rank", "lora", given)


def _unread_without(switch: str, section: str, given: Mapping[str, Any]) -> None:
    """Raises ValueError if anything is set in a section that is switched off."""
    for name, value in given.items():
        raise ValueError(
            f"config.model.{section}.{name}={value!r} is never read without "
            f"config.model.{section}.{switch} (config.model.{section}.{switch})."
        )


def _check_balancing(shape: Mapping[str, Any]) -> None:
    """Balancing needs experts, and a rate a bias to move."""
    for name in ("router_bias", "router_bias_rate", "router_aux_weight"):
        if shape.get(name) and not shape.get("experts"):
            raise ValueError(
                f"{name}={shape[name]} needs a model with experts (config.model.{name}, "
                "config.model.experts)."
            )
    if shape["router_bias_rate"] and not shape.get("router_bias"):
        raise ValueError(
            f"router_bias_rate={shape['router_bias_rate']} moves a bias that this model does not "
            "have: set router_bias=True (config.model.router_bias)."
        )
