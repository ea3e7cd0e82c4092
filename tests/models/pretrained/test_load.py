"""Reading checkpoints: what is wrong with one is said at once; what it lacks is drawn."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from pretrained_cases import FIXTURES

from rljax.models.config import LoRAConfig
from rljax.models.network import Network
from rljax.models.pretrained import (
    is_pretrained,
    load_params,
    read_config,
    save_pretrained,
    stop_token_ids,
)
from rljax.models.pretrained.tensor_files import INDEX, read_header, stored_tensors, write_file

pytestmark = pytest.mark.contract

KEY = jax.random.key(7)


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.array(tensor.map()) for name, tensor in stored_tensors(folder).items()}


def write(path: Path, tensors: dict[str, np.ndarray], dtype: str = "F32") -> None:
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    write_file(path, shapes, tensors.values(), dtype)


@pytest.fixture
def changed(tmp_path):
    """changed(fixture, tensors, **config): a copy of a fixture with other tensors and keys."""

    def make(name: str, tensors: dict[str, np.ndarray], dtype: str = "F32", **config) -> Path:
        values = json.loads((FIXTURES / name / "config.json").read_text()) | config
        (tmp_path / "config.json").write_text(json.dumps(values))
        write(tmp_path / "model.safetensors", tensors, dtype)
        return tmp_path

    return make


def assert_same(found, expected) -> None:
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_all_that_is_wrong_is_listed_before_anything_is_read(changed, one_device, monkeypatch):
    tensors = tensors_of(FIXTURES / "qwen3")
    del tensors["model.norm.weight"]
    tensors["model.layers.1.mlp.up_proj.weight"] = np.zeros((40, 23), np.float32)
    tensors["model.layers.2.mlp.up_proj.weight"] = np.zeros((40, 24), np.float32)
    folder = changed("qwen3", tensors)
    monkeypatch.setattr(np, "memmap", lambda *args: pytest.fail("a tensor was read"))
    with pytest.raises(ValueError) as caught:
        load_params(folder, Network.create(read_config(folder)), one_device)
    assert str(caught.value).splitlines() == [
        f"3 tensors of {folder} are not those of this model:",
        "  model.layers.1.mlp.up_proj.weight: has shape [40, 23], expected [40, 24]",
        "  model.norm.weight: missing, expected [24]",
        "  model.layers.2.mlp.up_proj.weight: not expected, has shape [40, 24]",
    ]


def test_twenty_are_named_and_the_rest_counted(changed, one_device):
    folder = changed("qwen3", {"odd": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="26 tensors of") as caught:
        load_params(folder, Network.create(read_config(folder)), one_device)
    assert len(str(caught.value).splitlines()) == 1 + 20 + 1
    assert str(caught.value).endswith("\n  and 6 more")


def test_a_type_that_is_no_weight_is_refused(changed, one_device):
    folder = changed("qwen3", tensors_of(FIXTURES / "qwen3"))
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"', 1))
    with pytest.raises(ValueError, match="is I32, supported are F32, F16, BF16"):
        load_params(folder, Network.create(read_config(folder)), one_device)


@pytest.mark.parametrize("stored", ["F16", "BF16"])
@pytest.mark.parametrize("param_dtype", ["float32", "bfloat16"])
def test_types_of_files_become_the_parameters_type(
    load_case, changed, one_device, stored, param_dtype
):
    case = load_case("qwen2_tied")
    folder = changed("qwen2_tied", tensors_of(case.folder), stored)
    network = Network.create(read_config(folder, param_dtype=param_dtype))
    found = load_params(folder, network, one_device)
    through = {"F16": jnp.float16, "BF16": jnp.bfloat16}[stored]
    assert_same(
        found, jax.tree.map(lambda leaf: leaf.astype(through).astype(param_dtype), case.params)
    )


def test_tied_checkpoints_may_hold_the_output_and_buffers(load_case, changed, one_device):
    case = load_case("llama3_tied")
    tensors = tensors_of(case.folder)
    more = {
        "lm_head.weight": tensors["model.embed_tokens.weight"],
        "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32),
    }
    folder = changed("llama3_tied", tensors | more)
    assert read_config(folder) == case.network.config
    assert_same(load_params(folder, case.network, one_device), case.params)


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_the_text_part_of_a_checkpoint_with_vision(load_case, changed, one_device, prefix):
    case = load_case("gemma3_text")
    inner = json.loads((case.folder / "config.json").read_text())
    tensors = {
        name.replace("model.", prefix, 1): tensor
        for name, tensor in tensors_of(case.folder).items()
    }
    tensors |= {
        "vision_tower.patch.weight": np.ones(3, np.float32),
        "model.multi_modal_projector.weight": np.ones(3, np.float32),
    }
    folder = changed(
        "gemma3_text",
        tensors,
        model_type="gemma3",
        architectures=["Gemma3ForConditionalGeneration"],
        text_config=inner,
        eos_token_id=[1, 106],
    )
    assert read_config(folder) == case.network.config
    assert_same(load_params(folder, case.network, one_device), case.params)
    save_pretrained(folder / "out", case.network, case.params, source=folder)
    written = json.loads((folder / "out" / "config.json").read_text())
    assert (written["model_type"], written["eos_token_id"]) == ("gemma3_text", [1, 106])
    assert_same(load_params(folder / "out", case.network, one_device), case.params)


def test_shards_and_a_missing_one(load_case, changed, one_device):
    case = load_case("qwen3")
    tensors = tensors_of(case.folder)
    folder = changed("qwen3", {})
    (folder / "model.safetensors").unlink()
    halves = [dict(list(tensors.items())[part::2]) for part in range(2)]
    for part, half in enumerate(halves):
        write(folder / f"part{part}.safetensors", half)
    index = {name: f"part{part}.safetensors" for part, half in enumerate(halves) for name in half}
    (folder / INDEX).write_text(json.dumps({"weight_map": index}))
    assert_same(load_params(folder, case.network, one_device), case.params)
    (folder / "part1.safetensors").unlink()
    with pytest.raises(ValueError, match="lacks part1.safetensors, which model.safetensors.index"):
        load_params(folder, case.network, one_device)


def test_pickled_weights_say_what_to_do(load_case, changed, one_device):
    folder = changed("qwen3", {})
    (folder / "model.safetensors").unlink()
    network = load_case("qwen3").network
    with pytest.raises(ValueError, match="holds neither model.safetensors nor"):
        load_params(folder, network, one_device)
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(ValueError, match=r"pytorch_model.bin only.*save_pretrained\(NEW_FOLDER\)"):
        load_params(folder, network, one_device)


def test_damaged_files_are_named(changed):
    path = changed("qwen3", tensors_of(FIXTURES / "qwen3")) / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(ValueError, match=f"is cut off: {len(data) - 1} bytes of {len(data)}"):
        read_header(path)
    for damaged in (b"", data[:50], b"\xff" * 100, b"version https://git-lfs.github.com/spec/v1"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is not a safetensors file, or damaged"):
            read_header(path)


def test_another_head_than_the_checkpoints_is_drawn(load_case, one_device):
    case = load_case("qwen3")
    config = read_config(case.folder, head="value")
    network = Network.create(config)
    with pytest.raises(ValueError, match="needs a key, to draw what no checkpoint holds: head"):
        load_params(case.folder, network, one_device)
    found = load_params(case.folder, network, one_device, key=KEY)
    np.testing.assert_array_equal(found["head"], network.init(KEY, one_device)["head"])
    trunk = {k: v for k, v in case.params.items() if k != "output"}
    assert_same({k: v for k, v in found.items() if k != "head"}, trunk)


def test_a_trained_head_is_kept_under_another_name(load_case, one_device):
    case = load_case("llama_reward")
    network = Network.create(read_config(case.folder, head="value"))
    assert_same(load_params(case.folder, network, one_device), case.params)


@pytest.mark.parametrize("kind", ["lora", "lora_sb"])
def test_adapters_are_those_of_init(load_case, mesh_2x2x2, kind):
    case = load_case("qwen3")
    lora = LoRAConfig(rank=2, alpha=4.0, modules=("query", "down"), kind=kind)
    network = Network.create(read_config(case.folder, lora=lora))
    found = nnx.traversals.flatten_mapping(load_params(case.folder, network, mesh_2x2x2, key=KEY))
    drawn = nnx.traversals.flatten_mapping(network.init(KEY, mesh_2x2x2))
    base = nnx.traversals.flatten_mapping(case.params)
    shardings = nnx.traversals.flatten_mapping(network.shardings(mesh_2x2x2))
    assert found.keys() == drawn.keys() != base.keys()
    for path, leaf in found.items():
        np.testing.assert_array_equal(leaf, base.get(path, drawn[path]), err_msg=str(path))
        assert leaf.sharding.is_equivalent_to(shardings[path], leaf.ndim)


def test_a_routers_bias_starts_at_zero(load_case, one_device):
    case = load_case("qwen3_moe")
    network = Network.create(read_config(case.folder, router_bias=True))
    found = load_params(case.folder, network, one_device, key=KEY)
    assert not np.asarray(found["blocks"]["mlp"].pop("router_bias")).any()
    assert_same(found, case.params)


@pytest.mark.parametrize(
    "files, expected",
    [
        ({"generation_config.json": {"eos_token_id": [3, 4]}, "config.json": {"eos_token_id": 9}},
         (3, 4)),
        ({"generation_config.json": {"eos_token_id": 3}}, (3,)),
        ({"generation_config.json": {}, "config.json": {"eos_token_id": 9}}, (9,)),
        ({"generation_config.json": {"eos_token_id": []}, "config.json": {"eos_token_id": 9}}, ()),
        ({"config.json": {}}, ()),
        ({}, ()),
    ],
)  # fmt: skip
def test_stop_tokens(tmp_path, files, expected):
    for name, values in files.items():
        (tmp_path / name).write_text(json.dumps(values))
    assert stop_token_ids(tmp_path) == expected


@pytest.mark.parametrize("ids", ["2", -1, [1, None], [[1]], 2**40, True, 1.5])
def test_stop_tokens_are_ids(tmp_path, ids):
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    with pytest.raises(ValueError, match="generation_config.json: eos_token_id must be an id or"):
        stop_token_ids(tmp_path)


def test_what_is_a_checkpoint(tmp_path):
    assert is_pretrained(FIXTURES / "qwen3")
    assert not is_pretrained(tmp_path) and not is_pretrained("")
    (tmp_path / "config.json").write_text('{"model": {"layers": 2}}')  # a run's
    assert not is_pretrained(tmp_path)
    with pytest.raises(ValueError, match="No config.json in"):
        read_config(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("[1]")
    for read in (is_pretrained, read_config, stop_token_ids):
        with pytest.raises(ValueError, match="config.json must hold a JSON object, got a list"):
            read(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is not JSON"):
        read_config(tmp_path)
