"""Ahead-of-time compilation of a mixture of experts for TPU v5e; needs libtpu, no TPU."""

import json

import pytest

PROGRAM = """
import json
import jax, jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.models.decoding import Decoder, Own, PromptCache
from rljax.models.decoding import decode as decode_tokens
from rljax.models.kv_cache import empty_cache
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import batch_sharding, replicated

config = ModelConfig(
    vocab_size=1024, layers=2, width=512, heads=8, kv_heads=4, head_dim=64, mlp_width=512,
    experts=32, experts_per_token=4, expert_width=256, router_bias=True, dtype="bfloat16",
    remat="full",
)
network = Network.create(config)
topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:4x4")
mesh = make_mesh(dict(data=1, fsdp=2, expert=4, tensor=2), devices=topology.devices)
rows, whole = batch_sharding(mesh), replicated(mesh)
params = jax.tree.map(
    lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place),
    network.shapes, network.shardings(mesh),
)

def loss(params, tokens):
    places = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    found = network.bind(params)(tokens, places, jnp.ones_like(tokens))
    return found.hidden.astype(jnp.float32).var() + found.routing.probabilities.var()

def decode(params, tokens):
    decoder = Decoder.of(network, network.unstack(params), 256)
    prompts = PromptCache(empty_cache(config, len(tokens), 128), tokens)
    own = Own(jnp.int32(0), tokens * 0, jnp.int32(1))
    cache = empty_cache(config, len(tokens), 128)
    return decode_tokens(decoder, tokens, tokens, prompts, None, own, cache)[0]

def report(f, tokens):
    compiled = jax.jit(f).lower(params, tokens).compile()
    return {"temporary": compiled.memory_analysis().temp_size_in_bytes,
            "flops": compiled.cost_analysis()["flops"]}

# One product of a chip, as this compiler counts it: some count every row with every expert.
one = SingleDeviceSharding(topology.devices[0])
def part(dtype, *sizes):
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=one)

product = jax.jit(jax.lax.ragged_dot).lower(
    part(jnp.bfloat16, 8 * 512 * 4, 512), part(jnp.bfloat16, 8, 512, 128), part(jnp.int32, 8)
).compile().cost_analysis()["flops"]

with jax.set_mesh(mesh):
    def shape(*sizes):
        return jax.ShapeDtypeStruct(sizes, jnp.int32, sharding=rows)

    print(json.dumps({
        "update": report(jax.grad(loss), shape(16, 512)), "decode": report(decode, shape(16)),
        "parameters": network.parameter_count, "product": product,
    }))
"""


@pytest.mark.slow
def test_gradient_and_decoding_compile_for_a_v5e_slice_with_an_expert_axis(run_for_tpu, capsys):
    result = json.loads(run_for_tpu("-c", PROGRAM))
    with capsys.disabled():
        print(f"\nv5e:4x4, per chip: {result}")
    # What each chip computes for one layer (the scan's body is counted once): of the 8 x 512 tokens
    # of its expert axis 4 pairs each, whichever of its 8 experts they go to; three products, once
    # forward, once recomputed and twice backward. Rows that meet other experts would be more.
    pairs, products = 8 * 512 * 4, 3 * 2 * 512 * 128
    assert 4 * pairs * products < result["update"]["flops"] < 1.3 * 4 * 3 * result["product"]
    assert 0 < result["update"]["temporary"] < 2e8 and 0 < result["decode"]["temporary"] < 2e7
