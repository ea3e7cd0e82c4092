"""Adapters in PEFT's files: round trip, parity with peft, and what is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.config import LoRAConfig
from rljax.models.lora import combine, drop_adapters, flatten, keep_adapters, unflatten
from rljax.models.network import Network
from rljax.models.peft_format import CONFIG, load_adapters, read_adapter_config, save_adapters
from rljax.models.pretrained import load_params, read_config

TOKENS = np.array([[1, 5, 3, 2, 9, 4], [7, 6, 2, 2, 0, 11]])
LORAS = {
    "lora": LoRAConfig(rank=3, alpha=6),
    "rslora": LoRAConfig(rank=4, alpha=8, rank_stabilised=True, modules=("query", "out", "up")),
}


def logits(network, params):
    positions = jnp.broadcast_to(jnp.arange(TOKENS.shape[1]), TOKENS.shape)
    model = network.bind(params)
    return model.logits(model(TOKENS, positions, jnp.ones_like(TOKENS)).hidden)


def drawn(network, mesh):
    """Parameters whose adapters are all drawn."""
    leaves = flatten(network.init(jax.random.key(0), mesh))
    for index, (path, leaf) in enumerate(sorted(leaves.items())):
        if path[-1].startswith("lora"):
            noise = jax.random.normal(jax.random.key(index), leaf.shape) / 2
            leaves[path] = noise.astype(leaf.dtype)
    return unflatten(leaves)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora", LORAS.values(), ids=LORAS)
def test_round_trip_is_exact(lora, dtype, tiny_network, mesh_2x2x2, tmp_path):
    network = tiny_network(lora=lora, param_dtype=dtype)
    params = drawn(network, mesh_2x2x2)
    save_adapters(tmp_path, network, params, base_model="a/base")
    assert read_adapter_config(tmp_path) == lora
    assert json.loads((tmp_path / CONFIG).read_text())["base_model_name_or_path"] == "a/base"
    found = load_adapters(tmp_path, network, drop_adapters(params), mesh_2x2x2)
    jax.tree.map(np.testing.assert_array_equal, found, params)
    for path, sharding in flatten(keep_adapters(network.shardings(mesh_2x2x2))).items():
        leaf = flatten(found)[path]
        assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)


def test_the_third_matrix_is_multiplied_in(tiny_network, one_device, tmp_path):
    network = tiny_network(lora=LoRAConfig(rank=4, alpha=6, kind="lora_sb"))
    params = drawn(network, one_device)
    save_adapters(tmp_path, network, params)
    plain = tiny_network(lora=read_adapter_config(tmp_path))
    assert plain.config.lora.kind == "lora"
    found = load_adapters(tmp_path, plain, params, one_device)
    np.testing.assert_allclose(logits(plain, found), logits(network, params), atol=2e-5)


def test_other_adapters_are_refused_by_name(tiny_network, one_device, tmp_path):
    network = tiny_network(lora=LORAS["lora"])
    params = drawn(network, one_device)
    save_adapters(tmp_path, network, params)
    other = tiny_network(lora=LORAS["lora"], width=24)
    with pytest.raises(ValueError, match=r"q_proj.lora_A.weight: stored \(3, 16\), expected"):
        load_adapters(tmp_path, other, params, one_device)
    other = tiny_network(lora=LoRAConfig(rank=3, alpha=5))
    with pytest.raises(ValueError, match="alpha=6.0, the model 5 .config.model.lora.alpha"):
        load_adapters(tmp_path, other, params, one_device)
    with pytest.raises(ValueError, match="rank=3, the model None"):
        load_adapters(tmp_path, tiny_network(), params, one_device)
    with pytest.raises(ValueError, match="no adapters to save"):
        save_adapters(tmp_path, tiny_network(), params)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps(config))
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="adapter_model.safetensors is not a safetensors file"):
        load_adapters(tmp_path, network, params, one_device)
    weights.unlink()
    with pytest.raises(ValueError, match="adapter_model.safetensors cannot be read"):
        load_adapters(tmp_path, network, params, one_device)


SETTINGS = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "target_modules": ["q_proj"]}


@pytest.mark.parametrize(
    "name, value",
    [
        ("peft_type", "IA3"),
        ("target_modules", ["lm_head"]),
        ("target_modules", "all-linear"),
        ("r", None),
        ("r", 3.0),
        ("r", 0),
        ("lora_alpha", None),
        ("lora_alpha", "6"),
        ("lora_alpha", True),
        ("use_dora", True),
        ("bias", "all"),
        ("rank_pattern", {"q_proj": 2}),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "olora"),
        ("alora_invocation_tokens", [1, 2]),
        ("layer_replication", [[0, 2]]),
        ("use_bdlora", {"nblocks": 2}),
        ("kasa_config", {"beta": 1}),
        ("use_qalora", True),
        ("modules_to_save", ["lm_head"]),
        ("a_setting_of_tomorrow", 1),
    ],
)
def test_settings_that_would_change_the_result_are_refused_by_name(tmp_path, name, value):
    (tmp_path / CONFIG).write_text(json.dumps(SETTINGS | {name: value}))
    with pytest.raises(ValueError, match=rf"{CONFIG}: {name}\b"):
        read_adapter_config(tmp_path)


def test_settings_that_change_nothing_are_read_over(tmp_path):
    harmless = {
        "modules_to_save": [],
        "layers_to_transform": None,
        "rank_pattern": {},
        "bias": "none",
        "init_lora_weights": "gaussian",
        "lora_dropout": 0.1,
        "peft_version": "0.21.0",
        "qalora_group_size": 16,
    }
    (tmp_path / CONFIG).write_text(json.dumps(SETTINGS | harmless))
    expected = LoRAConfig(rank=3, alpha=6.0, modules=("query",))
    assert read_adapter_config(tmp_path) == expected
    (tmp_path / CONFIG).write_text("[]")
    with pytest.raises(ValueError, match="must hold a JSON object, got a list"):
        read_adapter_config(tmp_path)


# --- beside peft ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory):
    """A tiny Qwen2 (biases, grouped heads) written by transformers."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    pytest.importorskip("peft")
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        vocab_size=13,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    folder = tmp_path_factory.mktemp("qwen")
    transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def theirs(model):
    import torch

    with torch.no_grad():
        return model(torch.as_tensor(TOKENS)).logits.numpy()


@pytest.mark.parametrize("lora", LORAS.values(), ids=LORAS)
def test_peft_computes_our_logits_from_our_files(lora, base_folder, one_device, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    network = Network.create(read_config(base_folder, lora=lora))
    base = load_params(base_folder, network, one_device, key=jax.random.key(0))
    params = combine(drop_adapters(base), keep_adapters(drawn(network, one_device)))
    save_adapters(tmp_path, network, params, base_model=str(base_folder))
    plain = AutoModelForCausalLM.from_pretrained(base_folder)
    without = theirs(plain)
    expected = theirs(PeftModel.from_pretrained(plain, tmp_path).eval())
    np.testing.assert_allclose(logits(network, params), expected, atol=1e-4)
    assert np.abs(expected - without).max() > 0.01


@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_we_compute_their_logits_from_their_files(
    rank_stabilised, base_folder, one_device, tmp_path
):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    settings = LoraConfig(
        r=5,
        lora_alpha=7,
        use_rslora=rank_stabilised,
        target_modules=["q_proj", "v_proj", "down_proj"],
        init_lora_weights=False,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base_folder), settings).eval()
    model.save_pretrained(tmp_path)
    lora = read_adapter_config(tmp_path)
    assert lora.modules == ("query", "value", "down") and lora.rank_stabilised == rank_stabilised
    network = Network.create(read_config(base_folder, lora=lora))
    base = load_params(base_folder, network, one_device, key=jax.random.key(0))
    params = load_adapters(tmp_path, network, base, one_device)
    np.testing.assert_allclose(logits(network, params), theirs(model), atol=1e-4)


@pytest.mark.parametrize("alpha", [float("inf"), float("nan"), 1e300, 0, -1.0, True, "8"])
def test_an_alpha_that_is_no_scale_is_refused(tmp_path, alpha):
    values = {"peft_type": "LORA", "r": 2, "lora_alpha": alpha, "target_modules": ["q_proj"]}
    (tmp_path / CONFIG).write_text(json.dumps(values))
    with pytest.raises(ValueError, match="lora_alpha must be a number > 0"):
        read_adapter_config(tmp_path)
