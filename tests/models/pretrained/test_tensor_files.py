"""Files of weights that are damaged or lie: refused by their headers, before anything is read."""

import json
import os
import struct
from pathlib import Path

import jax
import numpy as np
import pytest
from pretrained_cases import FIXTURES

from rljax.models.network import Network
from rljax.models.pretrained import load_params, read_config
from rljax.models.pretrained.tensor_files import (
    INDEX,
    SINGLE,
    check_finite,
    read_header,
    stored_tensors,
    write_file,
)

pytestmark = pytest.mark.contract

ONE = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}


@pytest.fixture
def file_of(tmp_path):
    """file_of(header, bytes): a file with that header, as an object or a text, and zeros."""

    def make(header, size: int = 24, length: int | None = None) -> Path:
        text = (header if isinstance(header, str) else json.dumps(header)).encode()
        path = tmp_path / "x.safetensors"
        length = len(text) if length is None else length
        path.write_bytes(struct.pack("<Q", length) + text + bytes(size))
        return path

    return make


def entry(**changes) -> dict:
    return {"a": ONE["a"] | changes}


def two(one: list[int], other: list[int]) -> dict:
    return {
        name: {"dtype": "U8", "shape": [ends[1] - ends[0]], "data_offsets": ends}
        for name, ends in (("a", one), ("b", other))
    }


def test_what_the_format_allows(file_of):
    found = read_header(file_of({"__metadata__": {"x": "y"}} | ONE))
    assert found["a"].shape == (2, 3) and not found["a"].map().any()
    assert read_header(file_of({}, 0)) == {}
    assert read_header(file_of(two([4, 24], [0, 4]))).keys() == {"a", "b"}
    assert read_header(file_of(entry(shape=[], data_offsets=[0, 4]), 4))["a"].shape == ()


@pytest.mark.parametrize(
    "header, message",
    [
        (entry(data_offsets=[-24, 0]), r"data_offsets \[-24, 0\]; allowed is 0 <= begin <= end"),
        (entry(data_offsets=[24, 0]), "allowed is 0 <= begin <= end"),
        (entry(data_offsets=[0]), "allowed is 0 <= begin <= end"),
        (entry(data_offsets=[0, 23]), r"a has 23 bytes, but F32 of shape \[2, 3\] takes 24"),
        (entry(data_offsets=[0.0, 24.0]), "allowed is 0 <= begin <= end"),
        (entry(data_offsets="0, 24"), "allowed is 0 <= begin <= end"),
        (entry(data_offsets=None), "allowed is 0 <= begin <= end"),
        (entry(data_offsets=[4, 28]), "a begins at byte 4, which leaves a hole before it"),
        (entry(shape=[2.0, 3]), "whole numbers >= 0 are allowed"),
        (entry(shape=[-2, -3]), "whole numbers >= 0 are allowed"),
        (entry(shape=[True, 6]), "whole numbers >= 0 are allowed"),
        (entry(shape=[2**70]), "whole numbers >= 0 are allowed"),
        (entry(shape=[2**40, 2**40]), "takes 4835703278458516"),
        (entry(shape=6), "whole numbers >= 0 are allowed"),
        (entry(dtype="F33"), "the dtype 'F33', which the format does not have"),
        (entry(dtype=["F32"]), "which the format does not have"),
        ({"a": [1]}, r"a is described by \[1\]"),
        (two([0, 12], [11, 24]), "b begins at byte 11, which overlaps the tensor before it"),
        (two([0, 11], [12, 24]), "b begins at byte 12, which leaves a hole before it"),
        (f'{{"a": {json.dumps(ONE["a"])}, "a": {json.dumps(ONE["a"])}}}', "'a' is there twice"),
        ("[1]", "the header is a list, not an object"),
        ("{ ", "Expecting property name"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "recursion"),
    ],
)
def test_a_header_that_lies_is_refused(file_of, header, message):
    path = file_of(header)
    with pytest.raises(ValueError, match=message) as caught:
        read_header(path)
    assert str(caught.value).startswith(f"{path} is not a safetensors file, or damaged: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("length", [0, 1, 10**6, 2**63])
def test_a_header_longer_than_its_file_is_not_read(file_of, length):
    with pytest.raises(ValueError, match=f"a header of {length} bytes in a file of"):
        read_header(file_of(ONE, length=length))


def test_files_that_end_elsewhere_than_their_tensors(file_of):
    with pytest.raises(ValueError, match="is cut off"):
        read_header(file_of(ONE, size=23))
    with pytest.raises(ValueError, match="goes on after its last tensor"):
        read_header(file_of(ONE, size=25))


@pytest.fixture
def folder(tmp_path):
    """A checkpoint in two files with an index, and one in the folder above it."""
    inside = tmp_path / "m"
    inside.mkdir()
    for path, names in ((inside / "1.safetensors", "ab"), (inside / "2.safetensors", "c"),
                        (tmp_path / "out.safetensors", "c")):  # fmt: skip
        shapes = dict.fromkeys(names, (2,))
        write_file(path, shapes, (np.ones(2, np.float32) for _ in shapes), "F32")
    return inside


WHOLE = {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"}


def index(folder: Path, content) -> None:
    text = content if isinstance(content, str) else json.dumps({"weight_map": content})
    (folder / INDEX).write_text(text)


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"metadata": {}}', "weight_map must be an object, tensor -> file, got None"),
        ('{"weight_map": ["a"]}', r"weight_map must be an object, tensor -> file, got \['a'\]"),
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object, got a list"),
        ("", "is not JSON"),
        ("\ud800".encode("utf-16", "surrogatepass").decode("latin-1"), "is not JSON"),
        ('{"weight_map": ' + "[" * 100_000 + "]" * 100_000 + "}", "is not JSON.*recursion"),
        ({}, "weight_map must be an object"),
        (WHOLE | {"c": 3}, "names 3 for c; allowed are names of files"),
        (WHOLE | {"c": None}, "names None for c"),
        (WHOLE | {"c": ["2.safetensors"]}, "names files|names .* for c"),
        (WHOLE | {"c": "../out.safetensors"}, "names '../out.safetensors' for c"),
        (WHOLE | {"c": "/etc/passwd"}, "names '/etc/passwd' for c"),
        (WHOLE | {"c": "sub\\2.safetensors"}, "for c; allowed are names"),
        (WHOLE | {"c": ".."}, "for c; allowed are names"),
        (WHOLE | {"c": ""}, "for c; allowed are names"),
        (WHOLE | {"c": "x" * 300}, "for c; allowed are names"),
        (WHOLE | {"c": "3.safetensors"}, "lacks 3.safetensors, which model.safetensors.index"),
        (WHOLE | {"c": "1.safetensors"}, "looks for c in 1.safetensors, which lacks it"),
        (WHOLE | {"d": "1.safetensors"}, "looks for d in 1.safetensors, which lacks it"),
    ],
)
def test_an_index_that_is_wrong_is_refused(folder, content, message):
    index(folder, content)
    with pytest.raises(ValueError, match=message) as caught:
        stored_tensors(folder)
    assert INDEX in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_a_tensor_in_two_files_is_refused(folder):
    write_file(
        folder / "2.safetensors", {"a": (2,), "c": (2,)}, [np.ones(2, np.float32)] * 2, "F32"
    )
    index(folder, WHOLE)
    with pytest.raises(ValueError, match="1.safetensors and 2.safetensors both hold a"):
        stored_tensors(folder)


def test_links_may_lead_to_the_blobs_of_the_hub_only(folder, tmp_path):
    index(folder, WHOLE)
    (folder / "2.safetensors").unlink()
    (folder / "2.safetensors").symlink_to(tmp_path / "out.safetensors")
    with pytest.raises(ValueError, match="is a link to .*out.safetensors, out of its folder"):
        stored_tensors(folder)
    snapshot, blobs = tmp_path / "models--x/snapshots/1", tmp_path / "models--x/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ("1.safetensors", INDEX):
        os.rename(folder / name, blobs / name)
        (snapshot / name).symlink_to(Path("../../blobs") / name)
    os.rename(tmp_path / "out.safetensors", blobs / "c")
    (snapshot / "2.safetensors").symlink_to("../../blobs/c")
    assert stored_tensors(snapshot).keys() == {"a", "b", "c"}


def test_a_single_file_comes_before_an_index(folder):
    index(folder, "{")
    os.rename(folder / "1.safetensors", folder / SINGLE)
    assert stored_tensors(folder).keys() == {"a", "b"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_are_finite(tmp_path, value, dtype):
    values = np.zeros((300, 3), np.float32)
    values[0, 0], values[1, 1] = np.finfo(np.float32).max / 2, -1e-40
    check_finite("w", tmp_path, values.astype(jax.numpy.dtype(dtype)))
    values[217, 2] = value
    with pytest.raises(ValueError, match=f"w holds {value} in row 217; weights must be finite"):
        check_finite("w", tmp_path, values.astype(jax.numpy.dtype(dtype)))


def test_a_weight_that_is_not_finite_is_named(one_device, tmp_path):
    source = FIXTURES / "qwen3"
    tensors = {name: np.array(t.map()) for name, t in stored_tensors(source).items()}
    name = "model.layers.1.self_attn.k_proj.weight"
    tensors[name][3, 4] = np.nan
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    write_file(tmp_path / SINGLE, shapes, tensors.values(), "F32")
    (tmp_path / "config.json").write_text((source / "config.json").read_text())
    network = Network.create(read_config(tmp_path))
    with pytest.raises(ValueError, match=f"model.safetensors: {name} holds nan in row 3"):
        load_params(tmp_path, network, one_device)
