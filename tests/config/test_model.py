import dataclasses
import json

import pytest
from ml_collections import ConfigDict

from rljax.config.load import complete
from rljax.config.model import resolve_model
from rljax.config.runs import recorded_network
from rljax.config.validate import plain
from rljax.models.config import LoRAConfig, RopeScaling
from rljax.training.run.start import export_note

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 320,
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "max_position_embeddings": 512,
}


def model_section(**model) -> ConfigDict:
    return complete({"stages": ("sft",), "sft": {"method": "sft"}, "model": model}).model


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / "model.safetensors").write_bytes(b"")
    return str(tmp_path)


def test_without_anything_the_model_is_the_small_one_with_the_tokenizers_vocabulary():
    model = resolve_model(model_section(), 259)
    sizes = (model.vocab_size, model.layers, model.width, model.heads, model.kv_heads)
    assert sizes == (259, 4, 128, 4, 2)
    assert (model.head_dim, model.mlp_width, model.tied_embeddings) == (32, 384, True)
    assert model.lora is None and model.rope_scaling is None


def test_what_is_given_replaces_the_preset():
    model = resolve_model(model_section(preset="qwen3_0_6b", layers=3, remat="full"), 151_669)
    assert (model.layers, model.width, model.query_key_norm) == (3, 1024, "head")
    assert model.vocab_size == 151_936 and model.remat == "full"


def test_kernels_are_chosen_apart_for_rows_and_for_decoding():
    model = resolve_model(model_section(attention="dense", decode_attention="ragged"), 259)
    assert (model.attention, model.decode_attention) == ("dense", "ragged")
    assert resolve_model(model_section(), 259).decode_attention == "auto"


def test_a_checkpoint_gives_the_shape(folder):
    model = resolve_model(model_section(init_from=folder, dtype="bfloat16"), 300)
    assert (model.layers, model.width, model.head_dim, model.rope_base) == (2, 32, 8, 500_000.0)
    assert model.vocab_size == 320 and not model.tied_embeddings and model.dtype == "bfloat16"
    same = resolve_model(model_section(init_from=folder, layers=2), 300)
    assert dataclasses.replace(model, dtype="float32") == same


def test_adapters_and_rope_scaling_are_sections():
    model = resolve_model(
        model_section(
            lora=dict(rank=4, modules=("query", "value"), rank_stabilised=True),
            rope_scaling=dict(kind="yarn", factor=4.0, original_positions=1024),
        ),
        64,
    )
    assert model.lora == LoRAConfig(
        rank=4, alpha=4.0, modules=("query", "value"), rank_stabilised=True
    )
    assert model.rope_scaling == RopeScaling(kind="yarn", factor=4.0, original_positions=1024)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"preset": "qwen3_0_6"}, r"qwen3_0_6.*Did you mean 'qwen3_0_6b'"),
        ({"width": 130, "heads": 4}, "width=130 is not a multiple of heads=4"),
        ({"vocab_size": 63}, "has 64 tokens, the model 63"),
        ({"lora": {"alpha": 8.0}}, "lora.alpha=8.0 is never read without config.model.lora.rank"),
        ({"lora": {"rank": 2, "modules": ("q_proj",)}}, "q_proj.*config.model.lora.modules"),
        ({"rope_scaling": {"factor": 2.0}}, "factor=2.0 is never read without"),
        ({"rope_scaling": {"kind": "ntk"}}, "Unknown rope_scaling kind 'ntk'; known: '', 'linear'"),
        ({"rope_scaling": {"kind": "yarn"}}, "must be >= 1, got 0.0.*rope_scaling.factor"),
        ({"router_aux_weight": 0.1}, "router_aux_weight=0.1 needs a model with experts"),
        (
            {"experts": 2, "experts_per_token": 1, "expert_width": 8, "router_bias_rate": 0.1},
            "set router_bias=True",
        ),
        ({"activation": "relu"}, "Unknown activation 'relu'"),
    ],
)
def test_bad_sections_name_the_field(model, message):
    with pytest.raises(ValueError, match=message):
        resolve_model(model_section(**model), 64)


def test_a_start_that_is_no_checkpoint_is_said_before_any_shape(folder, tmp_path):
    stage = tmp_path / "run/checkpoints/sft"
    (stage / "3/state").mkdir(parents=True)
    assert resolve_model(model_section(init_from=str(stage)), 64).layers == 4
    section = model_section(init_from=str(tmp_path / "nowhere"), vocab_size=63)
    with pytest.raises(ValueError, match=r"No checkpoint in .*nowhere.*config.model.init_from"):
        resolve_model(section, 64)


def test_a_run_tells_the_shape_of_its_network(tmp_path):
    stage = tmp_path / "run/checkpoints/sft"
    (stage / "3/state").mkdir(parents=True)
    first = resolve_model(
        model_section(
            preset="llama3_2_1b", layers=2, remat="full", lora=dict(rank=2, modules=("out",))
        ),
        64,
    )
    record = {"network": plain(dataclasses.asdict(first))}
    (tmp_path / "run/config.json").write_text(json.dumps(record))
    assert recorded_network(record, stage / "3") == first
    # A stage records what its network has besides.
    record["sft"] = {"network": {"head": "reward"}}
    assert recorded_network(record, stage / "3") == dataclasses.replace(first, head="reward")
    assert recorded_network(record, tmp_path / "run/checkpoints/rl/1") == first
    found = resolve_model(model_section(init_from=str(stage)), 64)
    assert found == dataclasses.replace(first, remat="none", lora=None)
    with pytest.raises(ValueError, match="layers=3 contradicts"):
        resolve_model(model_section(init_from=str(stage), layers=3), 64)


def test_a_causal_checkpoint_becomes_one_that_sees_both_ways(folder):
    """Slot i - 1 goes on predicting token i; the mask token takes the first row without a text."""
    model = resolve_model(model_section(init_from=folder, convert="masked_diffusion"), 64)
    assert (model.causal, model.mask_token, model.shift_logits) == (False, 64, True)
    chosen = model_section(
        init_from=folder, convert="masked_diffusion", mask_token=70, shift_logits=False
    )
    model = resolve_model(chosen, 64)
    assert (model.mask_token, model.shift_logits, model.layers) == (70, False, 2)


@pytest.mark.parametrize("family, said", [("Qwen2", ""), ("Llama", "the nearest is llada, but")])
def test_a_run_says_at_its_start_that_a_converted_model_has_no_family(tmp_path, family, said):
    """Of Qwen2 there is one that sees both ways, Dream; of Llama none that is shifted."""
    named = dict(model_type=family.lower(), architectures=[f"{family}ForCausalLM"])
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | named))
    (tmp_path / "model.safetensors").write_bytes(b"")
    section = model_section(init_from=str(tmp_path), convert="masked_diffusion")
    lines = export_note(section, resolve_model(section, 64))
    assert len(lines) == bool(said) and all(said in line for line in lines)
    causal = model_section(init_from=str(tmp_path))
    assert export_note(causal, resolve_model(causal, 64)) == []


@pytest.mark.parametrize(
    "model, size, message",
    [
        (dict(causal=False), 64, r"causal=False contradicts .*convert='masked_diffusion'"),
        (dict(convert="masked_diffusion"), 320, "mask_token=320 has no row among the 320"),
        (dict(convert="masked_diffusion", init_from=""), 64, r"got \(none\): there is none"),
        (dict(mask_token=5), 64, "mask_token=5 contradicts"),
    ],
)
def test_what_cannot_be_converted_is_refused(folder, model, size, message):
    with pytest.raises(ValueError, match=message):
        resolve_model(model_section(**{"init_from": folder, **model}), size)


def test_sliding_windows_are_not_converted(tmp_path):
    windows = dict(use_sliding_window=True, sliding_window=8, max_window_layers=0)
    config = LLAMA | windows | dict(model_type="qwen2", architectures=["Qwen2ForCausalLM"])
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"")
    section = model_section(init_from=str(tmp_path), convert="masked_diffusion")
    with pytest.raises(ValueError, match="sliding_window=8, which would not see"):
        resolve_model(section, 64)


@pytest.mark.parametrize("size, vocabulary", [(259, None), (259, 300)])
def test_a_network_from_scratch_has_a_mask_token_that_no_text_has(size, vocabulary):
    model = resolve_model(model_section(causal=False, vocab_size=vocabulary), size)
    assert (model.mask_token, model.vocab_size) == (size, vocabulary or size + 1)
    assert resolve_model(model_section(), size).mask_token == -1


def test_a_mask_token_of_a_causal_network_is_refused():
    with pytest.raises(ValueError, match="mask_token=3 and shift_logits=False are of masked"):
        resolve_model(model_section(mask_token=3), 259)


def test_published_diffusion_models_name_their_mask_token():
    model = resolve_model(model_section(preset="llada_8b"), 126_349)
    assert (model.mask_token, model.shift_logits, model.causal) == (126_336, False, False)
    model = resolve_model(model_section(preset="dream_7b"), 151_936)
    assert (model.mask_token, model.shift_logits) == (151_666, True)


def test_fields_that_contradict_the_checkpoint_are_refused(folder):
    with pytest.raises(ValueError, match=r"layers=3 contradicts.*says 2.*config.model.layers"):
        resolve_model(model_section(init_from=folder, layers=3), 64)
    with pytest.raises(ValueError, match=r"contradicts.*config.model.preset"):
        resolve_model(model_section(init_from=folder, preset="qwen3_0_6b"), 64)
