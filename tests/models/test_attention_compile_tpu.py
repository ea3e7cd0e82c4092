"""Ahead-of-time compilation of the trunk's gradient for TPU: splash, context axis, offloading."""

import json

import pytest

PROGRAM = """
import json, sys
import jax, jax.numpy as jnp
from jax.experimental import topologies
from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import batch_sharding

def compile_gradient(topology, sizes, slots, **changes):
    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    mesh = make_mesh(sizes, devices=devices)
    shape = dict(vocab_size=256, layers=6, width=256, heads=4, kv_heads=2, head_dim=64,
                 mlp_width=1024, dtype="bfloat16")
    network = Network.create(ModelConfig(**shape | changes))
    shardings = network.shardings(mesh)
    params = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        network.shapes, shardings)
    row = jax.ShapeDtypeStruct((16, slots), jnp.int32, sharding=batch_sharding(mesh))

    def loss(params, *rows):
        return network.bind(params)(*rows).hidden.astype(jnp.float32).mean()

    with jax.set_mesh(mesh):
        gradient = jax.jit(jax.grad(loss), out_shardings=shardings)
        program = gradient.lower(params, row, row, row).compile()
    text, memory = program.as_text(), program.memory_analysis()
    return {
        "splash": text.count("splash"),
        "all_to_all": text.count(" all-to-all("),
        "device": memory.temp_size_in_bytes,
        "host": memory.host_temp_size_in_bytes,
    }

gemma = dict(sliding_window=128, global_every=2, attention_softcap=50.0, head_dim=256)
print(json.dumps([
    compile_gradient("v5e:2x2", {"fsdp": 2, "context": 2}, 1024, remat="dots", **gemma),
    compile_gradient("v5p:2x2x1", {"fsdp": -1}, 1000, remat="dots", head_dim=80),
    compile_gradient("v5p:2x2x1", {"fsdp": -1}, 1000, remat="offload", head_dim=80),
]))
"""


@pytest.mark.slow
def test_splash_context_and_offload_compile_for_v5e_and_v5p(run_for_tpu):
    v5e, dots, offload = json.loads(run_for_tpu("-c", PROGRAM))
    assert all(program["splash"] for program in (v5e, dots, offload))
    # Without a context axis only the embeddings' gradient is exchanged, once, by columns.
    assert v5e["all_to_all"] >= 8 and dots["all_to_all"] == 1
    # Six block inputs of 4 rows of 1000 slots of 256 bfloat16 lie in the host's memory.
    assert dots["host"] == 0 and offload["host"] >= 6 * 4 * 1000 * 256 * 2
    assert offload["device"] < dots["device"]
