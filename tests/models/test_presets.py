"""The named sizes against published ones: exact parameter counts, and config.json."""

import dataclasses

import pytest

from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.models.presets import PRESETS, preset
from rljax.models.pretrained.config_json import misfits, parse
from rljax.models.pretrained.families import FAMILIES

# Numbers of parameters in the published checkpoints, which torch counts as well. Of Gemma 3 from 4b
# on without the vision tower and its projector.
PUBLISHED = {
    "qwen2_5_0_5b": 494_032_768,
    "qwen2_5_1_5b": 1_543_714_304,
    "qwen2_5_3b": 3_085_938_688,
    "qwen2_5_7b": 7_615_616_512,
    "qwen2_5_14b": 14_770_033_664,
    "qwen2_5_32b": 32_763_876_352,
    "qwen2_5_72b": 72_706_203_648,
    "qwen3_0_6b": 596_049_920,
    "qwen3_1_7b": 1_720_574_976,
    "qwen3_4b": 4_022_468_096,
    "qwen3_8b": 8_190_735_360,
    "qwen3_14b": 14_768_307_200,
    "qwen3_32b": 32_762_123_264,
    "qwen3_30b_a3b": 30_532_122_624,
    "qwen3_235b_a22b": 235_093_634_560,
    "llama3_8b": 8_030_261_248,
    "llama3_70b": 70_553_706_496,
    "llama3_1_8b": 8_030_261_248,
    "llama3_1_70b": 70_553_706_496,
    "llama3_405b": 405_853_388_800,
    "llama3_2_1b": 1_235_814_400,
    "llama3_2_3b": 3_212_749_824,
    "gemma2_2b": 2_614_341_888,
    "gemma2_9b": 9_241_705_984,
    "gemma2_27b": 27_227_128_320,
    "gemma3_1b": 999_885_952,
    "gemma3_4b": 3_880_263_168,
    "gemma3_12b": 11_766_034_176,
    "gemma3_27b": 27_009_346_304,
    "olmo2_1b": 1_484_916_736,
    "olmo2_7b": 7_298_617_344,
    "olmo2_13b": 13_716_198_400,
    "olmo2_32b": 32_234_279_936,
    "llada_8b": 8_015_581_184,
    "dream_7b": 7_615_616_512,
}
# Prefix of a preset -> model_type.
TYPES = {
    "qwen2": "qwen2",
    "llama3": "llama",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "olmo2": "olmo2",
    "llada": "llada",
    "dream": "Dream",
}


# What their config.json says, without keys that say nothing about the model's numbers.
QWEN = dict(
    hidden_act="silu",
    attention_dropout=0.0,
    rms_norm_eps=1e-6,
    rope_theta=1_000_000.0,
    use_sliding_window=False,
)
QWEN3 = QWEN | dict(
    attention_bias=False,
    head_dim=128,
    vocab_size=151_936,
    max_position_embeddings=40_960,
    rope_scaling=None,
    sliding_window=None,
)
LLAMA3 = dict(
    architectures=["LlamaForCausalLM"],
    model_type="llama",
    attention_bias=False,
    attention_dropout=0.0,
    hidden_act="silu",
    vocab_size=128_256,
    num_key_value_heads=8,
    rms_norm_eps=1e-5,
    rope_theta=500_000.0,
    pretraining_tp=1,
)
LLAMA3_ROPE = dict(
    rope_type="llama3",
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=8192,
)
LLAMA3_8B = LLAMA3 | dict(
    hidden_size=4096,
    intermediate_size=14_336,
    num_attention_heads=32,
    num_hidden_layers=32,
    tie_word_embeddings=False,
)
GEMMA2 = dict(
    architectures=["Gemma2ForCausalLM"],
    model_type="gemma2",
    attention_bias=False,
    attention_dropout=0.0,
    attn_logit_softcapping=50.0,
    final_logit_softcapping=30.0,
    hidden_act="gelu_pytorch_tanh",
    hidden_activation="gelu_pytorch_tanh",
    vocab_size=256_000,
    max_position_embeddings=8192,
    rms_norm_eps=1e-6,
    rope_theta=10_000.0,
    sliding_window=4096,
    sliding_window_size=4096,
    cache_implementation="hybrid",
)
CONFIGS = {
    "qwen2_5_7b": QWEN
    | dict(
        architectures=["Qwen2ForCausalLM"],
        model_type="qwen2",
        hidden_size=3584,
        intermediate_size=18_944,
        num_attention_heads=28,
        num_hidden_layers=28,
        num_key_value_heads=4,
        max_position_embeddings=32_768,
        max_window_layers=28,
        sliding_window=131_072,
        tie_word_embeddings=False,
        vocab_size=152_064,
    ),
    "qwen3_0_6b": QWEN3
    | dict(
        architectures=["Qwen3ForCausalLM"],
        model_type="qwen3",
        hidden_size=1024,
        intermediate_size=3072,
        num_attention_heads=16,
        num_hidden_layers=28,
        num_key_value_heads=8,
        max_window_layers=28,
        tie_word_embeddings=True,
    ),
    "qwen3_30b_a3b": QWEN3
    | dict(
        architectures=["Qwen3MoeForCausalLM"],
        model_type="qwen3_moe",
        hidden_size=2048,
        intermediate_size=6144,
        num_attention_heads=32,
        num_hidden_layers=48,
        num_key_value_heads=4,
        max_window_layers=48,
        tie_word_embeddings=False,
        decoder_sparse_step=1,
        mlp_only_layers=[],
        moe_intermediate_size=768,
        norm_topk_prob=True,
        num_experts=128,
        num_experts_per_tok=8,
        router_aux_loss_coef=0.001,
    ),
    "llama3_8b": LLAMA3_8B | dict(max_position_embeddings=8192, rope_scaling=None),
    "llama3_1_8b": LLAMA3_8B
    | dict(
        max_position_embeddings=131_072,
        mlp_bias=False,
        rope_scaling=LLAMA3_ROPE | dict(factor=8.0),
    ),
    "llama3_2_1b": LLAMA3
    | dict(
        hidden_size=2048,
        intermediate_size=8192,
        num_attention_heads=32,
        num_hidden_layers=16,
        head_dim=64,
        max_position_embeddings=131_072,
        mlp_bias=False,
        rope_scaling=LLAMA3_ROPE | dict(factor=32.0),
        tie_word_embeddings=True,
    ),
    "gemma2_9b": GEMMA2
    | dict(
        hidden_size=3584,
        intermediate_size=14_336,
        num_attention_heads=16,
        num_hidden_layers=42,
        num_key_value_heads=8,
        head_dim=256,
        query_pre_attn_scalar=256,
    ),
    "gemma2_27b": GEMMA2
    | dict(
        hidden_size=4608,
        intermediate_size=36_864,
        num_attention_heads=32,
        num_hidden_layers=46,
        num_key_value_heads=16,
        head_dim=128,
        query_pre_attn_scalar=144,
    ),
    "gemma3_1b": dict(
        architectures=["Gemma3ForCausalLM"],
        model_type="gemma3_text",
        attention_bias=False,
        attention_dropout=0.0,
        attn_logit_softcapping=None,
        final_logit_softcapping=None,
        head_dim=256,
        hidden_activation="gelu_pytorch_tanh",
        hidden_size=1152,
        intermediate_size=6912,
        num_attention_heads=4,
        num_hidden_layers=26,
        num_key_value_heads=1,
        max_position_embeddings=32_768,
        query_pre_attn_scalar=256,
        rms_norm_eps=1e-6,
        rope_local_base_freq=10_000,
        rope_scaling=None,
        rope_theta=1_000_000,
        sliding_window=512,
        sliding_window_pattern=6,
        vocab_size=262_144,
    ),
    "gemma3_4b": dict(
        architectures=["Gemma3ForConditionalGeneration"],
        model_type="gemma3",
        text_config=dict(
            model_type="gemma3_text",
            hidden_size=2560,
            intermediate_size=10_240,
            num_hidden_layers=34,
            rope_scaling=dict(factor=8.0, rope_type="linear"),
            sliding_window=1024,
        ),
        vision_config=dict(hidden_size=1152),
    ),
    "olmo2_7b": dict(
        architectures=["Olmo2ForCausalLM"],
        model_type="olmo2",
        attention_bias=False,
        attention_dropout=0.0,
        hidden_act="silu",
        hidden_size=4096,
        intermediate_size=11_008,
        num_attention_heads=32,
        num_hidden_layers=32,
        num_key_value_heads=32,
        max_position_embeddings=4096,
        rms_norm_eps=1e-6,
        rope_scaling=None,
        rope_theta=500_000,
        tie_word_embeddings=False,
        vocab_size=100_352,
    ),
    "llada_8b": dict(
        architectures=["LLaDAModelLM"],
        model_type="llada",
        activation_type="silu",
        alibi=False,
        attention_dropout=0.0,
        attention_layer_norm=False,
        bias_for_layer_norm=False,
        block_group_size=1,
        block_type="llama",
        d_model=4096,
        embedding_dropout=0.0,
        embedding_size=126_464,
        include_bias=False,
        include_qkv_bias=False,
        input_emb_norm=False,
        layer_norm_type="rms",
        mask_token_id=126_336,
        max_sequence_length=4096,
        mlp_hidden_size=12_288,
        multi_query_attention=None,
        n_heads=32,
        n_kv_heads=32,
        n_layers=32,
        residual_dropout=0.0,
        rms_norm_eps=1e-5,
        rope=True,
        rope_theta=500_000.0,
        scale_logits=False,
        vocab_size=126_464,
        weight_tying=False,
    ),
    "dream_7b": QWEN
    | dict(
        architectures=["DreamModel"],
        model_type="Dream",
        mask_token_id=151_666,
        hidden_size=3584,
        intermediate_size=18_944,
        num_attention_heads=28,
        num_hidden_layers=28,
        num_key_value_heads=4,
        max_position_embeddings=131_072,
        max_window_layers=28,
        rope_scaling=None,
        sliding_window=None,
        tie_word_embeddings=False,
        vocab_size=152_064,
    ),
}


def test_every_preset_has_a_published_count():
    assert PRESETS.keys() == PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_counts_are_the_published_ones(name):
    config = ModelConfig(**preset(name))
    tables = 1 if config.tied_embeddings else 2
    padding = (config.padded_vocab_size - config.vocab_size) * config.width * tables
    assert Network.create(config).parameter_count - padding == PUBLISHED[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_presets_are_what_the_published_config_says(name):
    found = ModelConfig(**parse(CONFIGS[name])[1])
    assert dataclasses.replace(found, max_positions=0) == ModelConfig(**preset(name))


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_can_be_written_as_their_family(name):
    model_type = TYPES.get(name.split("_")[0]) or ("qwen3_moe" if "_a" in name else "qwen3")
    assert misfits(ModelConfig(**preset(name)), FAMILIES[model_type]) == []


def test_a_preset_is_the_callers_to_change():
    preset("qwen3_0_6b")["layers"] = 2
    assert preset("qwen3_0_6b")["layers"] == 28


def test_unknown_presets_are_named():
    with pytest.raises(ValueError, match=r"Unknown preset 'qwen3_0_5b'.*Did you mean 'qwen3_0_6b'"):
        preset("qwen3_0_5b")
