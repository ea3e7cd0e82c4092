"""The families of published checkpoints, as data.

A family is data: the ModelConfig fields that all its members share, the keys of config.json that
hold the others, what transformers assumes for keys that are missing, and, for options that this
trunk lacks, the values at which they change nothing. `config_json.py` reads and writes with it,
`names.py` has the names of the tensors.
"""

import dataclasses
from typing import Any

from rljax.models.config import ModelConfig
from rljax.models.pretrained.checks import KINDS

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
    "mask_token": "mask_token_id",
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
        positions: the key with the number of positions.
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
    positions: str = "max_position_embeddings"

    @property
    def known_keys(self) -> set[str]:
        """The keys of config.json that are looked at."""
        keys = {*self.keys.values(), *self.assumed, *self.only, *self.constants, *self.windows}
        return keys | {*KINDS, self.positions}

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


LLAMA_ASSUMED = {
    "tie_word_embeddings": False,
    "rope_theta": 10_000.0,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
}
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
            assumed=LLAMA_ASSUMED,
            only=NO_WINDOWS,
            classes=_classes("Llama"),
            even_heads=True,
        ),
        Family(
            model_type="mistral",
            fields={},
            keys=KEYS,
            assumed={**LLAMA_ASSUMED, "sliding_window": 4096},
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
            assumed={**LLAMA_ASSUMED, "rms_norm_eps": 1e-5},
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
            positions="max_sequence_length",
            classes={"language_model": "LLaDAModelLM"},
        ),
        Family(
            model_type="Dream",  # arXiv:2508.15487; slot t predicts token t + 1, as its Qwen2 did
            fields={"attention_bias": True, "causal": False, "shift_logits": True},
            keys=KEYS | {"mask_token": "mask_token_id"},
            assumed=QWEN2_ASSUMED,
            only=ALWAYS_BIASED | {"is_causal": (False, None)},
            windows=QWEN_WINDOWS,
            classes={"language_model": "DreamModel"},
        ),
    )
}
