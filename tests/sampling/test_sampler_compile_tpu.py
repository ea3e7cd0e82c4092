"""Ahead-of-time compilation of the whole sampling program for TPU: no TPU is needed, but libtpu.

What the compiler makes of the decode loop is read: caches are updated where they lie, nothing of
their size is moved, gathered or copied, and nothing goes through the host.
"""

import json
import re

import pytest

PROGRAM = """
import json, sys
from pathlib import Path
import jax, jax.numpy as jnp
from jax.experimental import topologies
from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import batch_sharding, replicated
from rljax.sampling.config import SamplingConfig
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.engine import Engine
from rljax.sampling.request import Requests

folder, topology, model, sampling = sys.argv[1], sys.argv[2], *map(json.loads, sys.argv[3:])
devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2}, devices=devices)
network = Network.create(ModelConfig(
    vocab_size=512, layers=4, width=256, heads=4, kv_heads=2, head_dim=128, mlp_width=512,
    dtype="bfloat16", **model))
engine = Engine(network, SamplingConfig(
    samples_per_prompt=4, max_new_tokens=4000, stop_tokens=(0,), pad_token=0,
    token_filter=TokenFilter(temperature=0.9, top_p=0.95), **sampling), mesh)
weights = jax.tree.map(
    lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
    jax.eval_shape(engine.prepared, network.shapes), engine.shardings(network.shapes))
rows, whole = batch_sharding(mesh), replicated(mesh)

def of(dtype, *shape):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=rows)

requests = Requests(of(jnp.int32, 64, 400), of(bool, 64, 400), of(jnp.int32, 64))
key = jax.eval_shape(lambda: jax.random.key(0))
key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=whole)
step = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
with jax.set_mesh(mesh):
    program = engine.program.lower(weights, requests, key, step).compile(
        compiler_options={"xla_dump_to": folder, "xla_dump_hlo_as_text": True})
memory = program.memory_analysis()
print(json.dumps({
    "arguments": memory.argument_size_in_bytes,
    "outputs": memory.output_size_in_bytes,
    "temporary": memory.temp_size_in_bytes,
    "host": memory.host_temp_size_in_bytes,
}))
"""
SLICES = {"v5e": "v5e:2x4", "v5p": "v5p:2x2x2"}
# Of a device: 32 of 128 slots on 4 shards of rows, one key-value head, 4004 columns in blocks of
# 64, 128 numbers.
CACHE = (32, 1, 4032, 128)
VOCABULARY, LAYERS = 512, 4
MOVES = ("copy", "copy-start", "transpose", "reshape", "slice", "concatenate", "gather")
COLLECTIVES = tuple(
    name + end
    for name in ("all-gather", "all-reduce", "all-to-all", "collective-permute")
    for end in ("", "-start")
)
HOST = ("infeed", "outfeed", "send", "recv", "send-done", "recv-done")
BYTES = {"pred": 1, "s8": 1, "bf16": 2, "f32": 4, "s32": 4, "u32": 4}


def operations(text):
    """computation -> [(opcode, type, the rest of the line)], and the name of the entry."""
    found, entry = {}, ""
    for line in text.splitlines():
        if begins := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            current = found.setdefault(begins.group(2), [])
            entry = begins.group(2) if begins.group(1) else entry
        elif one := re.match(r"\s+(?:ROOT )?%?[\w.\-]+ = (\(.*?\)|\S+) ([\w\-]+)\((.*)", line):
            current.append((one.group(2), one.group(1), one.group(3)))
    return found, entry


def in_decode_loop(text):
    """The operations of a step, fusions left out: loops in the loop of segments, what they call."""
    found, entry = operations(text)
    called = r"(?:body|condition|to_apply|calls|\w+_computation)=%?([\w.\-]+)"

    def walk(name, depth):
        for opcode, kind, rest in found[name]:
            if depth >= 2:
                yield opcode, kind, rest
            if opcode == "fusion":
                continue
            inner = re.findall(called, rest)
            for branches in re.findall(r"branch_computations=\{(.*?)\}", rest):
                inner += re.findall(r"[\w.\-]+", branches)
            for other in inner:
                yield from walk(other, depth + (opcode == "while"))

    return list(walk(entry, 0))


def size_of(kind):
    """Bytes of the largest array of a type such as (f32[8,128]{1,0}, s32[])."""
    sizes = [0]
    for dtype, dimensions in re.findall(r"\b(\w+)\[([\d,]*)\]", kind):
        size = BYTES.get(dtype, 4)
        for dimension in filter(None, dimensions.split(",")):
            size *= int(dimension)
        sizes.append(size)
    return max(sizes)


def compiled(run_for_tpu, chip, folder, model, sampling):
    arguments = [str(folder), SLICES[chip], json.dumps(model), json.dumps(sampling)]
    memory = json.loads(run_for_tpu("-c", PROGRAM, *arguments))
    (text,) = (path.read_text() for path in folder.glob("*.after_optimizations.txt"))
    return memory, text


REFILL = dict(slots=128, shrink=[2])
CASES = {
    "refill and shrink": ({}, REFILL),
    "refill and shrink, by XLA": (dict(decode_attention="dense"), REFILL),
    "all at once": ({}, dict(shrink=[2])),
    "int8, a window": (
        dict(sliding_window=1024, global_every=2, attention_softcap=50.0),
        dict(cache_dtype="int8", **REFILL),
    ),
}


def marked(chip, case):
    """Every case for one chip, and the one with most kernels for the other, are in the slow set."""
    slow = chip == "v5e" or case == "int8, a window"
    return pytest.param(chip, case, marks=pytest.mark.slow if slow else pytest.mark.long)


@pytest.mark.parametrize("chip, case", [marked(chip, case) for chip in SLICES for case in CASES])
def test_the_sampler_compiles_and_leaves_its_caches_where_they_are(
    run_for_tpu, capsys, tmp_path, chip, case
):
    model, sampling = CASES[case]
    memory, text = compiled(run_for_tpu, chip, tmp_path, model, sampling)
    with capsys.disabled():
        print(f"\n{chip}, {case}, bytes per chip: {memory}")
    step = in_decode_loop(text)
    kernels = [rest for opcode, _, rest in step if opcode == "custom-call" and "ragged" in rest]
    # A layer's, in each of the two phases.
    assert len(kernels) == (0 if model.get("decode_attention") == "dense" else 2 * LAYERS)
    rows = CACHE[0] if sampling.get("slots") else 64
    item = 1 if sampling.get("cache_dtype") else 2
    cache_bytes = item * rows * CACHE[2] * CACHE[3]
    largest = {
        kind: max((size_of(type_) for opcode, type_, _ in step if opcode in kind), default=0)
        for kind in (MOVES, COLLECTIVES)
    }
    assert largest[MOVES] < cache_bytes / 8
    assert largest[COLLECTIVES] <= rows * VOCABULARY * 4  # logits, which are split over tensor
    # Rows and heads stay on their devices.
    assert not [opcode for opcode, *_ in step if opcode in ("all-to-all", *HOST)]
    assert "S(5)" not in text and memory["host"] == 0  # memory of the host
    # Keys and values of the layers, which narrow ones replace layer by layer: all of those besides
    # would take half as much again.
    layers = 2 * LAYERS * (cache_bytes + (4 * rows * CACHE[2] if item == 1 else 0))
    assert layers / 2 < memory["temporary"] < 1.45 * layers
