"""What the host holds at most while a checkpoint is read and written."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.models.pretrained.config_json import config_values
from rljax.models.pretrained.families import FAMILIES
from rljax.models.pretrained.names import NAMES
from rljax.models.pretrained.save import _pieces
from rljax.models.pretrained.tensor_files import stored_tensors, write_file

# Many layers, so that a stacked parameter (67 MB) is far larger than the largest tensor (17 MB).
CONFIG = ModelConfig(
    vocab_size=8192,
    layers=16,
    width=512,
    heads=8,
    kv_heads=8,
    head_dim=64,
    mlp_width=2048,
    tied_embeddings=False,
)

MODEL, LARGEST = 302_057_472, 4 * 8192 * 512  # bytes

# Memory is resident size. The compiled programs and the allocator take a few MB of their own.
MEASURE = """
import os, re, resource, sys
import jax

def now():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def peak():
    # Not ru_maxrss: that begins at the peak of the process that started this one.
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

def start(rank, processes, port):
    jax.config.update("jax_num_cpu_devices", 2 if processes > 1 else 1)
    if processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", processes, rank)

rank, processes, port = map(int, sys.argv[3:])
start(rank, processes, port)
from rljax.models.network import Network
from rljax.models.pretrained import load_params, read_config, save_pretrained
from rljax.parallel.mesh import make_mesh

network = Network.create(read_config(sys.argv[1]))
mesh = make_mesh({"fsdp": -1})
jax.block_until_ready(jax.jit(lambda x: x + 1)(jax.numpy.ones(10)))
before = now()
params = load_params(sys.argv[1], network, mesh)
print(peak() - before)
after = now()
save_pretrained(sys.argv[2], network, params)
print(peak() - max(after, before))
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A folder with 302 MB of numbers."""
    folder, network = tmp_path_factory.mktemp("checkpoint"), Network.create(CONFIG)
    family = FAMILIES["llama"]
    (folder / "config.json").write_text(json.dumps(config_values(CONFIG, family)))
    pieces = _pieces(network, NAMES["llama"])
    numbers = np.random.default_rng(0).standard_normal(LARGEST // 4, np.float32)
    tensors = (numbers[: np.prod(piece.shape)].reshape(piece.shape) for piece in pieces)
    shapes = {piece.name: piece.shape for piece in pieces}
    write_file(folder / "model.safetensors", shapes, tensors, "F32")
    sizes = [4 * int(np.prod(shape)) for shape in shapes.values()]
    assert (sum(sizes), max(sizes)) == (MODEL, LARGEST)
    return folder


def measure(folder: Path, out: Path, processes: int) -> tuple[int, int]:
    """Bytes above those before: the peaks while loading and while saving, of the worst process."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    children = [
        subprocess.Popen(
            [sys.executable, "-c", MEASURE, folder, out, str(rank), str(processes), str(port)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for rank in range(processes)
    ]
    printed = [child.communicate(timeout=300)[0] for child in children]
    assert not any(child.returncode for child in children)
    peaks = [tuple(int(line) for line in text.split("\n") if line.isdigit()) for text in printed]
    loading, saving = (max(values) for values in zip(*peaks, strict=True))
    print(
        f"\n{processes} processes: peak {loading / 1e6:.0f} MB loading, {saving / 1e6:.0f} saving"
    )
    return loading, saving


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_host_memory_is_bounded(checkpoint, tmp_path):
    loading, saving = measure(checkpoint, tmp_path / "out", processes=1)
    assert MODEL <= loading <= MODEL + 2 * LARGEST
    assert saving <= 3 * LARGEST
    written = (tmp_path / "out" / "model.safetensors").stat().st_size
    assert written == (checkpoint / "model.safetensors").stat().st_size


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_each_of_two_processes_holds_its_half(checkpoint, tmp_path):
    loading, _ = measure(checkpoint, tmp_path / "out", processes=2)
    assert MODEL / 2 <= loading <= MODEL / 2 + 2 * LARGEST
    written, first = stored_tensors(tmp_path / "out"), stored_tensors(checkpoint)
    assert written.keys() == first.keys()
    for name, tensor in first.items():
        np.testing.assert_array_equal(written[name].map(), tensor.map())
