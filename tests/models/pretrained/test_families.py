"""config.json: both of its layouts, and options that are refused instead of ignored."""

import dataclasses
import json

import pytest
from pretrained_cases import CASES, FIXTURES

from rljax.models.config import ModelConfig, RopeScaling
from rljax.models.pretrained import read_config
from rljax.models.pretrained.config_json import config_values, fitting_family, parse
from rljax.models.pretrained.families import FAMILIES

SMALL = dict(vocab_size=61, layers=4, width=24, heads=4, kv_heads=2, head_dim=8, mlp_width=40)


def values_of(name: str) -> dict:
    return json.loads((FIXTURES / name / "config.json").read_text())


@pytest.fixture
def folder_with(tmp_path):
    """folder_with(fixture, **keys): a folder with that config.json and other keys in it."""

    def make(name: str, **keys):
        (tmp_path / "config.json").write_text(json.dumps(values_of(name) | keys))
        return tmp_path

    return make


@pytest.mark.parametrize(
    "name, keys, message",
    [
        ("qwen3", dict(model_type="gpt2"), "Unsupported model_type 'gpt2'; supported: gemma3, "),
        ("qwen3", dict(architectures=["Qwen3Model"]), "Unsupported architecture 'Qwen3Model'"),
        ("qwen3", dict(hidden_act="gelu"), "Unsupported hidden_act 'gelu'"),
        ("qwen3", dict(attention_bias=True), "attention_bias=True (supported: False or None)"),
        ("llama_linear", dict(mlp_bias=True), "mlp_bias=True"),
        ("llama_linear", dict(attention_dropout=0.1), "attention_dropout=0.1"),
        ("qwen3", dict(quantization_config={"bits": 4}), "quantization_config="),
        ("qwen2_tied", dict(is_causal=False), "is_causal=False"),
        ("gemma3_text", dict(use_bidirectional_attention=True), "use_bidirectional_attention=True"),
        ("qwen3_moe", dict(mlp_only_layers=[0]), "mlp_only_layers=[0]"),
        ("qwen3_moe", dict(decoder_sparse_step=2), "decoder_sparse_step=2"),
        ("qwen3_moe", dict(shared_expert_intermediate_size=8), "shared_expert_intermediate_size=8"),
        ("llada", dict(alibi=True), "alibi=True"),
        ("llada", dict(block_type="sequential"), "block_type='sequential' (supported: 'llama')"),
        ("llada", dict(include_qkv_bias=True), "include_qkv_bias=True"),
        ("qwen3", dict(partial_rotary_factor=0.5), "partial_rotary_factor=0.5"),
        ("qwen3", dict(rope_parameters=dict(rope_theta=1.0, rope_type="dynamic", factor=2.0)),
         "Unsupported rope_type 'dynamic'; supported: default, linear, llama3, yarn"),
        ("qwen3", dict(rope_parameters=dict(rope_type="yarn", factor=2.0, truncate=False)),
         "Unsupported options of the yarn rope scaling: {'truncate': False}"),
        ("gemma2", dict(layer_types=["full_attention", "sliding_attention", "full_attention"]),
         "the layers with full attention must be every n-th one"),
        ("gemma2", dict(layer_types=["full_attention"]), "for each of the 3 layers"),
        ("gemma2", dict(layer_types=["chunked_attention"] * 3), "must name full_attention or"),
        ("qwen2_window", dict(layer_types=None, max_window_layers=1), "must be every n-th one"),
        ("mistral_window", dict(layer_types=["full_attention"] * 2), "layer_types="),
        ("llama_linear", dict(sliding_window=4), "sliding_window=4 (supported: None)"),
        ("qwen3", dict(hidden_size=None), "Missing keys of qwen3: hidden_size"),
        ("gemma3_text", dict(model_type="gemma3"), "Missing keys of gemma3: text_config"),
        ("qwen3", dict(model_type=["qwen3"]), "model_type must be text, got ['qwen3']"),
        ("qwen3", dict(num_hidden_layers="4"), "num_hidden_layers must be a whole number, got '4'"),
        ("qwen3", dict(num_hidden_layers=True), "num_hidden_layers must be a whole number"),
        ("qwen3", dict(tie_word_embeddings=1), "tie_word_embeddings must be true or false, got 1"),
        ("qwen3", dict(architectures="Qwen3"), "architectures must be a list, got 'Qwen3'"),
        ("qwen3", dict(rope_parameters=None, rope_theta="1"), "rope_theta must be a number"),
        ("qwen3", dict(rope_parameters=None, rope_scaling="yarn"),
         "rope_scaling must be an object, got 'yarn'"),
        ("qwen3", dict(rope_parameters=dict(full_attention=3)), "full_attention must be an object"),
        ("qwen3", dict(rope_parameters=dict(rope_type="linear")),
         "Missing keys of the linear rope scaling: factor"),
        ("qwen3", dict(rope_parameters=dict(rope_type="linear", factor="2")),
         "factor must be a number, got '2'"),
        ("qwen3", dict(rope_parameters=dict(type="yarn", factor=2.0), max_position_embeddings=None),
         "Missing keys of the yarn rope scaling: original_max_position_embeddings"),
        ("gemma2", dict(query_pre_attn_scalar=0),
         "query_pre_attn_scalar must be >= 1e-06, got 0"),
        ("gemma2", dict(layer_types="full"), "layer_types must be a list, got 'full'"),
    ],
    ids=lambda value: next(iter(value), "") if isinstance(value, dict) else None,
)  # fmt: skip
def test_what_is_not_supported_is_refused(folder_with, name, keys, message):
    with pytest.raises(ValueError) as caught:
        read_config(folder_with(name, **keys))
    assert message in str(caught.value)
    assert "config.json" in str(caught.value)


OLD_YARN = dict(type="yarn", factor=4.0, original_max_position_embeddings=16)


@pytest.mark.parametrize(
    "name, keys",
    [
        ("qwen3", dict(rope_theta=100.0, rope_scaling=None)),
        ("qwen2_yarn", dict(rope_theta=100.0, rope_scaling=OLD_YARN)),
        ("gemma3_text", dict(rope_theta=1000.0, rope_local_base_freq=50.0,
                             rope_scaling=dict(rope_type="linear", factor=8.0))),
    ],
)  # fmt: skip
def test_the_older_layout_says_the_same(folder_with, name, keys):
    expected = read_config(FIXTURES / name)
    assert read_config(folder_with(name, rope_parameters=None, **keys)) == expected


def test_missing_keys_have_transformers_values(folder_with):
    sparse = dict(rope_parameters=None, layer_types=None, sliding_window=None, head_dim=None)
    found = read_config(folder_with("qwen3", num_key_value_heads=None, **sparse))
    assert (found.kv_heads, found.head_dim, found.rope_base) == (4, 6, 10_000.0)


def test_windows_of_experts_are_on_all_layers_or_none(folder_with):
    windows = dict(sliding_window=5, max_window_layers=48)
    found = read_config(folder_with("qwen3_moe", use_sliding_window=True, **windows))
    assert found.sliding_window == 5 and not any(found.global_layers)
    found = read_config(folder_with("qwen3_moe", use_sliding_window=False, **windows))
    assert all(found.global_layers)


@pytest.mark.parametrize(
    "name, keys",
    [
        ("llama_linear", ("tie_word_embeddings", "hidden_act", "rms_norm_eps", "rope_theta")),
        ("qwen2_window", ("use_sliding_window", "max_window_layers", "tie_word_embeddings")),
        ("gemma2", ("hidden_activation", "query_pre_attn_scalar", "tie_word_embeddings")),
        ("gemma3_text", ("rope_local_base_freq", "rope_theta", "sliding_window_pattern")),
    ],
)
def test_null_is_as_if_the_key_were_missing(name, keys):
    values = {k: v for k, v in values_of(name).items() if k not in ("rope_parameters", *keys)}
    assert parse(values | dict.fromkeys(keys)) == parse(values)


def test_null_says_that_there_is_no_window_and_no_cap(folder_with):
    nulls = dict(sliding_window=None, attn_logit_softcapping=None, final_logit_softcapping=None)
    found = read_config(folder_with("gemma2", **nulls))
    assert (found.sliding_window, found.attention_softcap, found.logit_softcap) == (0, 0.0, 0.0)


def test_a_window_without_a_size_has_that_of_transformers():
    values = values_of("qwen2_window")
    del values["sliding_window"]
    assert parse(values)[1]["sliding_window"] == 4096


@pytest.mark.parametrize("name", CASES)
def test_written_values_read_back(name):
    config = read_config(FIXTURES / name)
    family = FAMILIES[values_of(name)["model_type"]]
    assert ModelConfig(**parse(config_values(config, family))[1]) == config
    assert fitting_family(config) == family


@pytest.mark.parametrize(
    "changes, reason",
    [
        (dict(query_key_norm="head", causal=False), "causal=False is True in qwen3"),
        (dict(attention_softcap=3.0), "attention_softcap=3.0 is 0.0 in llama"),
        (dict(norm_offset=1.0), "norm_offset=1.0 is 0.0 in llama"),
        (dict(local_rope_base=3.0, sliding_window=3, query_key_norm="head"),
         "local_rope_base=3.0 is 0.0 in qwen3"),
        (dict(heads=5, kv_heads=5, norm_offset=1.0), "norm_offset=1.0 is 0.0 in mistral"),
        (dict(experts=4, experts_per_token=2, expert_width=8, query_key_norm="head",
              router_bias=True), "router_bias=True is False in qwen3_moe"),
        (dict(query_key_norm="projection", norm_placement="post", head="value"),
         "transformers has no olmo2 class for head='value'"),
        (dict(head="reward", head_bias=True),
         "LlamaForSequenceClassification has no bias on its head (config.model.head_bias)"),
    ],
)  # fmt: skip
def test_models_of_no_family_are_refused_with_the_reason(changes, reason):
    with pytest.raises(ValueError, match="No published family has the options") as caught:
        fitting_family(ModelConfig(**SMALL | changes))
    assert reason in str(caught.value)


def test_a_width_that_llama_refuses_goes_out_as_mistral():
    assert fitting_family(ModelConfig(**SMALL | dict(heads=5, kv_heads=5))).model_type == "mistral"


@pytest.mark.parametrize(
    "scaling",
    [
        RopeScaling(kind="linear", factor=2.0),
        RopeScaling(kind="llama3", factor=8.0, original_positions=16, high_frequency_factor=3.0),
        RopeScaling(kind="yarn", factor=8.0, original_positions=16, beta_fast=20.0),
        RopeScaling(kind="yarn", factor=8.0, attention_factor=1.5),
    ],
)
@pytest.mark.parametrize("name", ["llama_linear", "qwen3", "gemma3_text", "olmo2"])
def test_scalings_read_back(name, scaling):
    config = read_config(FIXTURES / name)
    config = dataclasses.replace(config, rope_scaling=scaling, max_positions=2**17)
    family = FAMILIES[values_of(name)["model_type"]]
    assert ModelConfig(**parse(config_values(config, family))[1]) == config


@pytest.mark.parametrize("every, window", [(0, 3), (2, 3), (3, 3), (4, 3), (0, 0)])
def test_windows_read_back(every, window):
    config = ModelConfig(**SMALL, query_key_norm="head", sliding_window=window, global_every=every)
    values = config_values(config, FAMILIES["qwen3"])
    assert values["layer_types"].count("full_attention") == sum(config.global_layers)
    assert ModelConfig(**parse(values)[1]) == config
