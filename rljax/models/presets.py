"""Published shapes by name, as ModelConfig fields: `ModelConfig(**preset("qwen3_0_6b"))`.

Qwen2.5's are those of the instruction-tuned models. Gemma 3's from 4b on are the text parts. With a
published checkpoint at hand nothing here is needed: `pretrained.read_config` reads its config.json.
"""

from typing import Any

from rljax.errors import unknown_name
from rljax.models.config import RopeScaling
from rljax.models.pretrained.families import FAMILIES


def _qwen2_5(layers: int, width: int, heads: int, kv_heads: int, mlp_width: int) -> dict[str, Any]:
    small = width < 3000
    return _member(
        "qwen2",
        vocab_size=151_936 if small else 152_064,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=width // heads,
        mlp_width=mlp_width,
        tied_embeddings=small,
        rope_base=1_000_000.0,
        norm_epsilon=1e-6,
    )


def _qwen3(
    layers: int, width: int, heads: int, kv_heads: int, mlp_width: int, expert_width: int = 0
) -> dict[str, Any]:
    experts = {"experts": 128, "experts_per_token": 8, "expert_width": expert_width}
    return _member(
        "qwen3_moe" if expert_width else "qwen3",
        vocab_size=151_936,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=128,
        mlp_width=mlp_width,
        tied_embeddings=width < 3000 and not expert_width,
        rope_base=1_000_000.0,
        norm_epsilon=1e-6,
        **(experts if expert_width else {}),
    )


def _llama3(
    layers: int,
    width: int,
    heads: int,
    mlp_width: int,
    *,
    rope_factor: float = 0.0,
    tied_embeddings: bool = False,
) -> dict[str, Any]:
    scaling = RopeScaling(kind="llama3", factor=rope_factor) if rope_factor else None
    return _member(
        "llama",
        vocab_size=128_256,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=8,
        head_dim=width // heads,
        mlp_width=mlp_width,
        tied_embeddings=tied_embeddings,
        rope_base=500_000.0,
        rope_scaling=scaling,
        norm_epsilon=1e-5,
    )


def _gemma2(
    layers: int, width: int, heads: int, kv_heads: int, head_dim: int, mlp_width: int, scalar: int
) -> dict[str, Any]:
    return _member(
        "gemma2",
        vocab_size=256_000,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_width=mlp_width,
        tied_embeddings=True,
        rope_base=10_000.0,
        norm_epsilon=1e-6,
        attention_scale=0.0 if scalar == head_dim else scalar**-0.5,
        attention_softcap=50.0,
        logit_softcap=30.0,
        sliding_window=4096,
        global_every=2,
    )


def _gemma3(
    layers: int,
    width: int,
    heads: int,
    kv_heads: int,
    mlp_width: int,
    *,
    head_dim: int = 256,
    scalar: int = 256,
    long: bool = True,
) -> dict[str, Any]:
    """A size of Gemma 3; `long`: with the context of the sizes from 4b on."""
    return _member(
        "gemma3_text",
        vocab_size=262_208 if long else 262_144,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_width=mlp_width,
        tied_embeddings=True,
        rope_base=1_000_000.0,
        rope_scaling=RopeScaling(kind="linear", factor=8.0) if long else None,
        local_rope_base=10_000.0,
        norm_epsilon=1e-6,
        attention_scale=0.0 if scalar == head_dim else scalar**-0.5,
        sliding_window=1024 if long else 512,
        global_every=6,
    )


def _olmo2(layers: int, width: int, heads: int, kv_heads: int, mlp_width: int) -> dict[str, Any]:
    return _member(
        "olmo2",
        vocab_size=100_352,
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=128,
        mlp_width=mlp_width,
        tied_embeddings=False,
        rope_base=500_000.0,
        norm_epsilon=1e-6,
    )


def _member(model_type: str, **fields: Any) -> dict[str, Any]:
    return FAMILIES[model_type].complete(fields)


PRESETS: dict[str, dict[str, Any]] = {
    # layers, width, heads, kv_heads, mlp_width
    "qwen2_5_0_5b": _qwen2_5(24, 896, 14, 2, 4864),
    "qwen2_5_1_5b": _qwen2_5(28, 1536, 12, 2, 8960),
    "qwen2_5_3b": _qwen2_5(36, 2048, 16, 2, 11_008),
    "qwen2_5_7b": _qwen2_5(28, 3584, 28, 4, 18_944),
    "qwen2_5_14b": _qwen2_5(48, 5120, 40, 8, 13_824),
    "qwen2_5_32b": _qwen2_5(64, 5120, 40, 8, 27_648),
    "qwen2_5_72b": _qwen2_5(80, 8192, 64, 8, 29_568),
    "qwen3_0_6b": _qwen3(28, 1024, 16, 8, 3072),
    "qwen3_1_7b": _qwen3(28, 2048, 16, 8, 6144),
    "qwen3_4b": _qwen3(36, 2560, 32, 8, 9728),
    "qwen3_8b": _qwen3(36, 4096, 32, 8, 12_288),
    "qwen3_14b": _qwen3(40, 5120, 40, 8, 17_408),
    "qwen3_32b": _qwen3(64, 5120, 64, 8, 25_600),
    "qwen3_30b_a3b": _qwen3(48, 2048, 32, 4, 6144, expert_width=768),
    "qwen3_235b_a22b": _qwen3(94, 4096, 64, 4, 12_288, expert_width=1536),
    # layers, width, heads, mlp_width
    "llama3_8b": _llama3(32, 4096, 32, 14_336),
    "llama3_70b": _llama3(80, 8192, 64, 28_672),
    "llama3_1_8b": _llama3(32, 4096, 32, 14_336, rope_factor=8.0),
    "llama3_1_70b": _llama3(80, 8192, 64, 28_672, rope_factor=8.0),
    "llama3_405b": _llama3(126, 16_384, 128, 53_248, rope_factor=8.0),
    "llama3_2_1b": _llama3(16, 2048, 32, 8192, rope_factor=32.0, tied_embeddings=True),
    "llama3_2_3b": _llama3(28, 3072, 24, 8192, rope_factor=32.0, tied_embeddings=True),
    # layers, width, heads, kv_heads, head_dim, mlp_width, query_pre_attn_scalar
    "gemma2_2b": _gemma2(26, 2304, 8, 4, 256, 9216, 256),
    "gemma2_9b": _gemma2(42, 3584, 16, 8, 256, 14_336, 256),
    "gemma2_27b": _gemma2(46, 4608, 32, 16, 128, 36_864, 144),
    # layers, width, heads, kv_heads, mlp_width
    "gemma3_1b": _gemma3(26, 1152, 4, 1, 6912, long=False),
    "gemma3_4b": _gemma3(34, 2560, 8, 4, 10_240),
    "gemma3_12b": _gemma3(48, 3840, 16, 8, 15_360),
    "gemma3_27b": _gemma3(62, 5376, 32, 16, 21_504, head_dim=128, scalar=168),
    "olmo2_1b": _olmo2(16, 2048, 16, 16, 8192),
    "olmo2_7b": _olmo2(32, 4096, 32, 32, 11_008),
    "olmo2_13b": _olmo2(40, 5120, 40, 40, 13_824),
    "olmo2_32b": _olmo2(64, 5120, 40, 8, 27_648),
    "llada_8b": _member(
        "llada",
        vocab_size=126_464,
        layers=32,
        width=4096,
        heads=32,
        kv_heads=32,
        head_dim=128,
        mlp_width=12_288,
        tied_embeddings=False,
        rope_base=500_000.0,
        norm_epsilon=1e-5,
        mask_token=126_336,
    ),
    "dream_7b": _qwen2_5(28, 3584, 28, 4, 18_944)
    | {"causal": False, "mask_token": 151_666, "shift_logits": True},
}


def preset(name: str) -> dict[str, Any]:
    """The ModelConfig fields of a published model, for the caller to change.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS, "config.model.preset")
    return dict(PRESETS[name])
