"""Out and in again: to the bit, from one device and from shards."""

import json

import jax
import numpy as np
import pytest
from pretrained_cases import CASES

from rljax.models.pretrained import load_params, read_config, save_pretrained

pytestmark = pytest.mark.contract


@pytest.mark.parametrize("name", CASES)
def test_out_and_in_again_is_the_same_to_the_bit(load_case, one_device, tmp_path, name):
    case = load_case(name)
    save_pretrained(tmp_path / "out", case.network, case.params, source=case.folder)
    assert read_config(tmp_path / "out") == case.network.config
    again = load_params(tmp_path / "out", case.network, one_device)
    jax.tree.map(np.testing.assert_array_equal, again, case.params)
    written = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert len(written) > 1000 and tensors(written) == tensors(
        (case.folder / "model.safetensors").read_bytes()
    )


def tensors(data: bytes) -> dict[str, bytes]:
    """The numbers of a safetensors file by name."""
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    header.pop("__metadata__", None)
    return {name: rest[slice(*entry["data_offsets"])] for name, entry in header.items()}


@pytest.mark.parametrize("name", CASES)
def test_a_family_is_recognised_without_a_source(load_case, tmp_path, name):
    case = load_case(name)
    save_pretrained(tmp_path / "out", case.network, case.params)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (
        config["model_type"] == json.loads((case.folder / "config.json").read_text())["model_type"]
    )
    assert read_config(tmp_path / "out") == case.network.config


@pytest.mark.parametrize("name", ["gemma3_text", "qwen2_tied", "qwen3_moe"])
def test_shards_hold_what_one_device_holds(load_case, mesh_2x2x2, tmp_path, name):
    case = load_case(name)
    params = load_params(case.folder, case.network, mesh_2x2x2)
    jax.tree.map(np.testing.assert_array_equal, params, case.params)
    for leaf, sharding in zip(
        jax.tree.leaves(params), jax.tree.leaves(case.network.shardings(mesh_2x2x2)), strict=True
    ):
        assert leaf.sharding == sharding
    save_pretrained(tmp_path / "out", case.network, params, source=case.folder)
    files = (folder / "model.safetensors" for folder in (tmp_path / "out", case.folder))
    written, first = (tensors(path.read_bytes()) for path in files)
    assert written == first
