"""The families of published checkpoints: config.json <-> ModelConfig.

A family is data: the ModelConfig fields that all its members share, the keys of config.json that
hold the others, what transformers assumes for keys that are missing, and, for options that this
trunk lacks, the values at which they change nothing. `names.py` has the names of the tensors.
"""

import dataclasses
from typing import Any

from rljax.models.config import ModelConfig
from rljax.models.pretrained.checks import KINDS, check_kinds, without_nulls
from rljax.models.pretrained.rope_and_windows import (
    read_rope,
    read_window,
    write_rope,
    write_window,
)

# ModelConfig field -> key of config.json.
KEYS = {
    "vocab_size": "vocab_size",
    "layers": "num_hidden_layers",
    "width": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "mlp_width": "intermediate_size",
    "activation": "hidden_act",
    "tied_embeddings": "tie_word_embeddings",
    "norm_epsilon": "rms_norm_eps",
}
GEMMA_KEYS = KEYS | {
    "activation": "hidden_activation",
    "attention_scale": "query_pre_attn_scalar",
    "attention_softcap": "attn_logit_softcapping",
    "logit_softcap": "final_logit_softcapping",
}
EXPERT_KEYS = KEYS | {
    "experts": "num_experts",
    "experts_per_token": "num_experts_per_tok",
    "expert_width": "moe_intermediate_size",
    "normalise_router": "norm_topk_prob",
}
LLADA_KEYS = {
    "vocab_size": "embedding_size",
    "layers": "n_layers",
    "width": "d_model",
    "heads": "n_heads",
    "kv_heads": "n_kv_heads",
    "mlp_width": "mlp_hidden_size",
    "activation": "activation_type",
    "tied_embeddings": "weight_tying",
    "norm_epsilon": "rms_norm_eps",
}

# Options of config.json that are supported only at these values.
ONLY = {
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "attention_dropout": (0, None),
    "partial_rotary_factor": (1, None),
    "use_bidirectional_attention": (False, None),
    "is_causal": (True, None),
    "mlp_only_layers": ([], None),
    "decoder_sparse_step": (1, None),
    "shared_expert_intermediate_size": (0, None),
    "quantization_config": (None,),
}
# What the keys of fields must hold.
FIELD_KINDS = {field.name: field.type for field in dataclasses.fields(ModelConfig)}
ALWAYS_BIASED = {key: values for key, values in ONLY.items() if key != "attention_bias"}
SAME_WINDOWS = ONLY | {"layer_types": (None,)}  # on all layers or none
NO_WINDOWS = SAME_WINDOWS | {"sliding_window": (None,)}
LLADA_ONLY = ONLY | {
    "is_causal": (False, None),
    "block_group_size": (1, None),
    "rope_scaling": (None,),
    "alibi": (False, None),
    "include_bias": (False, None),
    "include_qkv_bias": (False, None),
    "bias_for_layer_norm": (False, None),
    "attention_layer_norm": (False, None),
    "multi_query_attention": (False, None),
    "scale_logits": (False, None),
    "input_emb_norm": (False, None),
    "clip_qkv": (None,),
    "residual_dropout": (0, None),
    "embedding_dropout": (0, None),
}

GEMMA_FIELDS = {"activation": "gelu_tanh", "norm_offset": 1.0, "norm_placement": "both"}
ACTIVATIONS = {"silu": "silu", "swish": "silu", "gelu_pytorch_tanh": "gelu_tanh"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """One `model_type`.

    Attributes:
        fields: ModelConfig fields that every member has.
        keys: ModelConfig field -> key of config.json.
        assumed: keys -> values where config.json lacks them.
        constants: keys that config.json must hold, and at these values.
        only: keys that it may hold -> the values that are supported.
        windows: keys of config.json that say which layers have a window.
        local_rope: whether layers with a window have their own rotary base.
        classes: head -> the class of transformers that has it.
        scaled_embeddings: whether embedded tokens are multiplied by sqrt(width).
        even_heads: whether transformers refuses a width that is no multiple of the heads.
    """

    model_type: str
    fields: dict[str, Any]
    keys: dict[str, str]
    assumed: dict[str, Any]
    only: dict[str, tuple[Any, ...]]
    classes: dict[str, str]
    constants: dict[str, Any] = dataclasses.field(default_factory=dict)
    windows: tuple[str, ...] = ()
    local_rope: bool = False
    scaled_embeddings: bool = False
    even_heads: bool = False

    def complete(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Adds what the family's members share, and what follows from the width."""
        scale = {"embedding_scale": fields["width"] ** 0.5} if self.scaled_embeddings else {}
        return self.fields | scale | fields


def _classes(prefix: str, *, sequence: bool = True, token: bool = True) -> dict[str, str]:
    named = {"language_model": f"{prefix}ForCausalLM"}
    if sequence:
        named["reward"] = f"{prefix}ForSequenceClassification"
    if token:
        named["process_reward"] = named["value"] = f"{prefix}ForTokenClassification"
    return named


QWEN_WINDOWS = ("use_sliding_window", "sliding_window", "max_window_layers", "layer_types")
QWEN2_ASSUMED = {
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "rope_theta": 10_000.0,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
}
GEMMA_ASSUMED = {
    "vocab_size": 256_000,
    "tie_word_embeddings": True,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
    "sliding_window": 4096,
    "sliding_window_pattern": 2,
    "rope_theta": 10_000.0,
    "max_position_embeddings": 8192,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}

# In the order in which a model that was trained from scratch tries to fit them.
FAMILIES = {
    family.model_type: family
    for family in (
        Family(
            model_type="llama",
            fields={},
            keys=KEYS,
            assumed={
                "tie_word_embeddings": False,
                "rope_theta": 10_000.0,
                "rms_norm_eps": 1e-6,
                "hidden_act": "silu",
            },
            only=NO_WINDOWS,
            classes=_classes("Llama"),
            even_heads=True,
        ),
        Family(
            model_type="mistral",
            fields={},
            keys=KEYS,
            assumed={
                "tie_word_embeddings": False,
                "rope_theta": 10_000.0,
                "rms_norm_eps": 1e-6,
                "hidden_act": "silu",
                "sliding_window": 4096,
            },
            only=SAME_WINDOWS,
            windows=("sliding_window",),
            classes=_classes("Mistral"),
        ),
        Family(
            model_type="qwen2",
            fields={"attention_bias": True},
            keys=KEYS,
            assumed=QWEN2_ASSUMED,
            only=ALWAYS_BIASED,
            windows=QWEN_WINDOWS,
            classes=_classes("Qwen2"),
        ),
        Family(
            model_type="qwen3",
            fields={"query_key_norm": "head"},
            keys=KEYS,
            assumed=QWEN2_ASSUMED | {"head_dim": 128},
            only=ONLY,
            windows=QWEN_WINDOWS,
            classes=_classes("Qwen3"),
        ),
        Family(
            model_type="qwen3_moe",
            fields={"query_key_norm": "head"},
            keys=EXPERT_KEYS,
            assumed=QWEN2_ASSUMED | {"norm_topk_prob": False},
            only=SAME_WINDOWS,
            windows=("use_sliding_window", "sliding_window"),
            classes=_classes("Qwen3Moe"),
        ),
        Family(
            model_type="gemma2",
            fields=GEMMA_FIELDS,
            keys=GEMMA_KEYS,
            assumed=GEMMA_ASSUMED,
            only=ONLY,
            windows=("sliding_window", "sliding_window_pattern", "layer_types"),
            classes=_classes("Gemma2"),
            scaled_embeddings=True,
            even_heads=True,
        ),
        Family(
            model_type="gemma3_text",
            fields=GEMMA_FIELDS | {"query_key_norm": "head"},
            keys=GEMMA_KEYS,
            assumed=GEMMA_ASSUMED
            | {
                "vocab_size": 262_208,
                "sliding_window_pattern": 6,
                "rope_theta": 1_000_000.0,
                "rope_local_base_freq": 10_000.0,
                "max_position_embeddings": 131_072,
                "attn_logit_softcapping": None,
                "final_logit_softcapping": None,
            },
            only=ONLY,
            windows=("sliding_window", "sliding_window_pattern", "layer_types"),
            local_rope=True,
            classes=_classes("Gemma3Text", token=False) | {"language_model": "Gemma3ForCausalLM"},
            scaled_embeddings=True,
            even_heads=True,
        ),
        Family(
            model_type="olmo2",
            fields={"query_key_norm": "projection", "norm_placement": "post"},
            keys=KEYS,
            assumed={
                "tie_word_embeddings": False,
                "rope_theta": 10_000.0,
                "rms_norm_eps": 1e-5,
                "hidden_act": "silu",
            },
            only=NO_WINDOWS,
            classes=_classes("Olmo2", token=False),
        ),
        Family(
            model_type="llada",  # arXiv:2502.09992; predicts every token in place
            fields={"causal": False},
            keys=LLADA_KEYS,
            assumed={"weight_tying": False, "rope_theta": 10_000.0, "activation_type": "silu"},
            constants={"block_type": "llama", "layer_norm_type": "rms", "rope": True},
            only=LLADA_ONLY,
            classes={"language_model": "LLaDAModelLM"},
        ),
        Family(
            model_type="Dream",  # arXiv:2508.15487; slot t predicts token t + 1, as its Qwen2 did
            fields={"attention_bias": True, "causal": False},
            keys=KEYS,
            assumed=QWEN2_ASSUMED,
            only=ALWAYS_BIASED | {"is_causal": (False, None)},
            windows=QWEN_WINDOWS,
            classes={"language_model": "DreamModel"},
        ),
    )
}


# Classes with a vision tower, whose text part is read.
WITH_VISION = {
    "Gemma3ForConditionalGeneration": "language_model",
    "Gemma3ForSequenceClassification": "reward",
}


def parse(values: dict[str, Any]) -> tuple[Family, dict[str, Any]]:
    """What config.json says: the family and the fields of a ModelConfig.

    Raises:
        ValueError: for a model_type, a class or an option that is not supported, a missing key, or
            one that holds something else than it should.
    """
    check_kinds(values, KINDS)
    if values.get("model_type") == "gemma3":
        if values.get("text_config") is None:
            raise ValueError("Missing keys of gemma3: text_config.")
        kept = ("architectures", "id2label", "num_labels", "quantization_config")
        outer = {key: values[key] for key in kept if key in values}
        values = values["text_config"] | outer | {"model_type": "gemma3_text"}
    model_type = values.get("model_type")
    if model_type not in FAMILIES:
        raise ValueError(
            f"Unsupported model_type {model_type!r}; supported: gemma3, {', '.join(FAMILIES)}."
        )
    family = FAMILIES[model_type]
    values = family.assumed | without_nulls(values)
    _check_options(values, family)
    fields = _read_keys(values, family) | read_rope(values)
    if family.windows:
        windows = {key: values[key] for key in family.windows if key in values}
        fields |= read_window(windows, fields["layers"])
    return family, family.complete(fields | _read_head(values, family))


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
    }
    fields = {field: values.get(key) for field, key in family.keys.items()}
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
        if scalar <= 0:
            raise ValueError(f"{family.keys['attention_scale']} must be > 0, got {scalar}.")
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
    values |= {"vocab_size": config.vocab_size, "model_type": family.model_type}
    values |= write_rope(config)
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
