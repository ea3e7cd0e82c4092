"""The model section of a config as a ModelConfig."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from rljax.config.runs import find_step, recorded_network, run_config
from rljax.config.schema_model import CONVERSION, SHAPE
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
    if section.convert:
        found = _converted(found, section, given, tokenizer_size)
    if found is not None:
        shape = _of_checkpoint(found, section, given)
    elif section.preset:
        shape = {**preset(section.preset), **given}
    else:
        shape = _small(given, tokenizer_size)
    if found is None and not shape.get("causal", True):
        shape.setdefault("mask_token", tokenizer_size)
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
    if not found.causal and found.mask_token < 0 and "mask_token" in given:
        shape["mask_token"] = given["mask_token"]  # a config.json that does not say
    named = preset(section.preset) if section.preset else {}
    for field, value in {**named, **given}.items():
        if shape[field] != value:
            place = f"config.model.{field}" if field in given else "config.model.preset"
            convert = field == "causal" and not value
            remedy = f"set config.model.convert={CONVERSION!r}" if convert else "leave it out"
            raise ValueError(
                f"{field}={value!r} contradicts the checkpoint {section.init_from}, whose "
                f"config.json says {shape[field]!r}: {remedy} ({place}, config.model.init_from)."
            )
    return shape


def _converted(
    found: ModelConfig | None,
    section: ConfigDict,
    given: Mapping[str, Any],
    tokenizer_size: int,
) -> ModelConfig:
    """The network of a causal checkpoint that is to become one of masked diffusion.

    Its weights stay as they are (arXiv:2410.17891): slot i - 1 goes on predicting token i, and the
    mask token takes a row of the embedding that no token of the text has.

    Raises:
        ValueError: without a causal checkpoint of a language model that sees the whole row, or
            without a free row.
    """
    where, begun = "config.model.convert", section.init_from or "(none)"
    if found is None or not found.causal or found.head != "language_model":
        is_not = "there is none" if found is None else f"{found.causal=}, {found.head=}"
        raise ValueError(
            f"convert={section.convert!r} needs the checkpoint of a causal language model, got "
            f"{begun}: {is_not.replace('found.', '')} ({where}, config.model.init_from)."
        )
    if found.sliding_window:
        raise ValueError(
            f"convert={section.convert!r}: {begun} has layers with sliding_window="
            f"{found.sliding_window}, which would not see the tokens to be filled ({where})."
        )
    mask_token = given.get("mask_token", tokenizer_size)
    if mask_token >= found.vocab_size:
        raise ValueError(
            f"mask_token={mask_token} has no row among the {found.vocab_size} of {begun}: save it "
            "with one row more (`resize_token_embeddings` of transformers adds them), or name an "
            f"id that no text has (config.model.mask_token, {where})."
        )
    shift = given.get("shift_logits", True)
    return dataclasses.replace(found, causal=False, mask_token=mask_token, shift_logits=shift)


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
    masks = not given.get("causal", True) and "mask_token" not in given
    shape = {"vocab_size": tokenizer_size + masks, **SMALL, **given}
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
