"""The fields of config.model: a published shape, a checkpoint, or a shape of one's own."""

import dataclasses
from collections.abc import Mapping

from rljax.config.fields import Field, Section
from rljax.models.config import CHOICES, LIMITS, LORA_MODULES, ROPE_LIMITS


def limited(section: Section, limits: Mapping[str, tuple[float, float]]) -> Section:
    """Fields with the limits and choices that the model itself checks (models/config.py)."""
    made = dict(section)
    for name, field in section.items():
        if name in limits:
            least, most = limits[name]
            made[name] = dataclasses.replace(field, minimum=least, maximum=most)
        elif name in CHOICES:
            made[name] = dataclasses.replace(field, choices=CHOICES[name])
    return made


ROPE_SCALING = limited(
    {
        "kind": Field("", "'': none", choices=("", "linear", "llama3", "yarn")),
        "factor": Field(None, "how much longer the context becomes", value_type=float),
        "original_positions": Field(None, "llama3, yarn: the first context", value_type=int),
        "low_frequency_factor": Field(None, "llama3: where blending begins", value_type=float),
        "high_frequency_factor": Field(None, "llama3: where blending ends", value_type=float),
        "beta_fast": Field(None, "yarn: rotations where blending begins", value_type=float),
        "beta_slow": Field(None, "yarn: rotations where blending ends", value_type=float),
        "attention_factor": Field(
            None, "yarn: of cosines and sines; 0: its formula", value_type=float
        ),
    },
    ROPE_LIMITS,
)

LORA: Section = {
    "rank": Field(0, "r; 0: no adapters, everything is trained", minimum=0, maximum=2**14),
    "alpha": Field(
        None, "adapters are scaled by alpha / r; by default r", value_type=float, above=0
    ),
    "rank_stabilised": Field(None, "scale by alpha / sqrt(r) instead (rsLoRA)", value_type=bool),
    "modules": Field(
        None,
        "out of query, key, value, out, gate, up, down",
        value_type=tuple,
        items=Field("", "a projection", choices=LORA_MODULES),
    ),
    "kind": Field(
        None,
        "lora, or lora_sb: trains r x r numbers between fixed bases",
        value_type=str,
        choices=("lora", "lora_sb"),
    ),
    "base": Field(None, "the frozen matrices", value_type=str, choices=("full", "int8", "nf4")),
}

# What config.model.convert may make of a causal checkpoint.
CONVERSION = "masked_diffusion"

# The shape of the network. None: what the preset or the checkpoint says, else the small default.
SHAPE = limited(
    {
        "vocab_size": Field(None, "tokens; by default the tokenizer's", value_type=int),
        "layers": Field(None, "transformer blocks (default 4)", value_type=int),
        "width": Field(None, "size of the residual stream (default 128)", value_type=int),
        "heads": Field(None, "query heads (default 4)", value_type=int),
        "kv_heads": Field(None, "key-value heads; divides heads (default 2)", value_type=int),
        "head_dim": Field(None, "size of a head (default width / heads)", value_type=int),
        "mlp_width": Field(
            None, "hidden size of the gated MLP (default 3 * width)", value_type=int
        ),
        "activation": Field(None, "of the MLP's gate", value_type=str),
        "tied_embeddings": Field(None, "output matrix = embedding matrix", value_type=bool),
        "embedding_scale": Field(None, "multiplies embedded tokens", value_type=float),
        "causal": Field(None, "False: tokens see both ways", value_type=bool),
        "mask_token": Field(
            None,
            "causal=False: id of a position to be filled (default: the first id after the "
            "tokenizer's)",
            value_type=int,
        ),
        "shift_logits": Field(
            None, "causal=False: slot i - 1 predicts token i, as Dream does", value_type=bool
        ),
        "rope_base": Field(None, "base of the rotary positions", value_type=float),
        "rope_scaling": ROPE_SCALING,
        "local_rope_base": Field(None, "of layers with a window; 0: the same", value_type=float),
        "attention_bias": Field(None, "on query, key and value", value_type=bool),
        "query_key_norm": Field(None, "RMSNorm of queries and keys", value_type=str),
        "attention_scale": Field(None, "of the scores; 0: head_dim ** -0.5", value_type=float),
        "attention_softcap": Field(None, "c of c tanh(scores / c); 0: off", value_type=float),
        "sliding_window": Field(
            None, "tokens a local layer sees; 0: none is local", value_type=int
        ),
        "global_every": Field(None, "every so many layers one is not local", value_type=int),
        "norm_epsilon": Field(None, "epsilon of RMSNorm", value_type=float),
        "norm_offset": Field(None, "added to the norms' scales (Gemma: 1)", value_type=float),
        "norm_placement": Field(None, "of each sublayer", value_type=str),
        "logit_softcap": Field(None, "as attention_softcap, for the logits", value_type=float),
        "experts": Field(None, "of each MLP; 0: one dense MLP", value_type=int),
        "experts_per_token": Field(None, "experts that a token is sent to", value_type=int),
        "expert_width": Field(None, "hidden size of an expert", value_type=int),
        "router_score": Field(None, "of the router's logits", value_type=str),
        "normalise_router": Field(None, "gates of the chosen experts sum to 1", value_type=bool),
    },
    LIMITS,
)

MODEL = limited(
    {
        "preset": Field("", "a published shape by name (rljax/models/presets.py), e.g. qwen3_0_6b"),
        "init_from": Field(
            "",
            "weights to start from: a Hugging Face folder (its config.json then is the shape), or "
            "CHECKPOINTS/STAGE[/STEP] of another run",
            path=True,
        ),
        "convert": Field(
            "",
            "masked_diffusion: the causal checkpoint of init_from becomes a network that sees both "
            "ways, with mask_token and, by default, shift_logits",
            choices=("", CONVERSION),
        ),
        **SHAPE,
        "max_positions": Field(None, "tokens of a row at most; 0: any", value_type=int),
        "router_bias": Field(
            None, "a bias on the choice of experts, not on their gates", value_type=bool
        ),
        "router_bias_rate": Field(0.0, "its step after an update (arXiv:2408.15664)"),
        "router_aux_weight": Field(0.0, "weight of the load-balancing loss"),
        "dtype": Field("float32", "of activations"),
        "param_dtype": Field("float32", "of parameters"),
        "attention": Field(
            "auto",
            "kernel: auto takes splash on TPU, cudnn on GPU where it can, else dense",
        ),
        "decode_attention": Field(
            "auto",
            "kernel for what a row has written itself, token by token: auto takes ragged on TPU "
            "where it is expected to be faster, else dense",
        ),
        "remat": Field(
            "none",
            "recomputed in the backward pass: nothing, all but matrix products, whole blocks, or "
            "whole blocks whose inputs wait in host memory (offload)",
        ),
        "lora": LORA,
    },
    LIMITS,
)
