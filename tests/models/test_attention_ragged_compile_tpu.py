"""Ahead-of-time compilation of the ragged kernel for TPU v5e and v5p; needs libtpu, no TPU."""

import json

PROGRAM = """
import json
import jax, jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import NamedSharding
from rljax.models.attention.partial import KeyValues
from rljax.models.attention.ragged import ragged
from rljax.models.config import ModelConfig
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import partition_spec

def compile_kernel(topology, rows, kv_heads, group, columns, head_dim=128, dtype="bfloat16",
                   cache="bfloat16", window=0, softcap=0.0, current=True):
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    mesh = make_mesh({"fsdp": 2, "tensor": 2}, devices=devices)
    config = ModelConfig(vocab_size=8, layers=1, width=8, heads=kv_heads * group,
                         kv_heads=kv_heads, head_dim=head_dim, mlp_width=8,
                         attention_softcap=softcap)
    def of(dtype, *shape):
        axes = ("batch", "kv_heads", None, None)[:len(shape)]
        sharding = NamedSharding(mesh, partition_spec(axes))
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
    keys = of(cache, rows, kv_heads, columns, head_dim)
    scale = of(jnp.float32, rows, kv_heads, columns) if cache == "int8" else None
    arguments = (of(dtype, rows, kv_heads, group, head_dim), KeyValues(keys, keys, scale, scale),
                 of(jnp.int32), of(jnp.int32, rows), of(jnp.int32))
    with jax.set_mesh(mesh):
        program = jax.jit(lambda q, cache, *own: ragged(
            q, cache, *own, config, window=window, current=current))
        memory = program.lower(*arguments).compile().memory_analysis()
    return memory.temp_size_in_bytes, memory.output_size_in_bytes

found = []
for topology in ("v5e:2x2", "v5p:2x2x1"):
    found.append([compile_kernel(topology, *sizes, **more) for sizes, more in (
        ((64, 16, 2, 4032), {}),
        ((2, 2, 1, 128), {}),  # one row and head a device
        ((64, 4, 8, 1088), dict(window=100, softcap=50.0)),
        ((64, 16, 4, 2048), dict(cache="int8", window=512)),
        ((16, 16, 2, 512), dict(dtype="float32", cache="float32")),
        ((16, 4, 8 * 20, 2048), dict(current=False)),  # twenty candidates
        ((512, 16, 2, 8192), {}),  # a long list
    )])
print(json.dumps(found))
"""


def test_the_kernel_compiles_for_v5e_and_v5p(run_for_tpu):
    for chip in json.loads(run_for_tpu("-c", PROGRAM)):
        for temporary, outputs in chip:
            # The list of blocks, and the numbers of each query in their own layout: no cache.
            assert temporary < 2**20 + 2 * outputs
