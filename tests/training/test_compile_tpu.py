"""Ahead-of-time compilation for a 16-chip TPU v5e slice; needs libtpu (extra plan), no TPU."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

# In its own process: libtpu reads its settings from the environment when it is loaded, logs to
# standard error, and takes a lock that other processes on the machine may hold.
PROGRAM = """
import functools, json
import jax, jax.numpy as jnp, optax
from jax.experimental import topologies
from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.objectives.metrics import masked
from rljax.objectives.policy_gradient import policy_gradient_loss
from rljax.objectives.kl import k3
from rljax.objectives.ratios import RATIOS
from rljax.objectives.surrogates import SURROGATES
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import batch_sharding, replicated
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.sampler import SamplingConfig, make_sampler
from rljax.training.logprobs import completion_statistics
from rljax.training.state import abstract_state, state_shardings
from rljax.training.train_step import make_train_step

topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:4x4")
mesh = make_mesh({"data": 2, "fsdp": 4, "tensor": 2}, devices=topology.devices)
network = Network.create(ModelConfig(
    vocab_size=1000, layers=4, width=512, heads=8, kv_heads=2, head_dim=64, mlp_width=1536,
    dtype="bfloat16",
))
rows, whole = batch_sharding(mesh), replicated(mesh)
N, P, T = 32, 64, 64

def loss_fn(params, batch):
    logprobs, entropy, _ = completion_statistics(
        network, params, batch, TokenFilter(temperature=0.9, top_p=0.95))
    loss, metrics = policy_gradient_loss(
        logprobs, batch["old_logprobs"], batch["ref_logprobs"], entropy, batch["advantages"],
        batch["mask"], ratio=RATIOS["token"], surrogate=SURROGATES["clipped"], kl=k3,
        kl_weight=0.04, entropy_weight=0.01)
    metrics["entropy"] = masked(entropy, batch["mask"])
    return jnp.sum(batch["weights"] * loss), metrics

def array(shape, dtype, sharding=rows):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

def report(compiled):
    memory = compiled.memory_analysis()
    return {
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "donated": memory.alias_size_in_bytes,
    }

optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-4))
shardings = state_shardings(network, optimizer, mesh)
state = abstract_state(network, optimizer, shardings)
batch = {name: array((N, P + T), jnp.int32) for name in ("tokens", "positions", "segment_ids")}
batch |= {name: array((N, T), jnp.float32)
          for name in ("old_logprobs", "ref_logprobs", "advantages", "weights")}
batch["mask"] = array((N, T), jnp.bool_)
with jax.set_mesh(mesh):
    step = jax.jit(
        make_train_step(loss_fn, optimizer, micro_batches=2), in_shardings=(shardings, rows),
        out_shardings=(shardings, whole), donate_argnums=0)
    sampler = jax.jit(
        make_sampler(network, SamplingConfig(
            samples_per_prompt=4, max_new_tokens=T, stop_tokens=(1,), pad_token=0,
            token_filter=TokenFilter(top_p=0.95))),
        in_shardings=(shardings.params, rows, rows, rows, whole, whole), out_shardings=rows)
    prompts = (array((8, P), jnp.int32), array((8, P), jnp.bool_), array((8,), jnp.int32))
    key = jax.eval_shape(lambda: jax.random.key(0))
    key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=whole)
    result = {
        "parameters": network.parameter_count,
        "train_step": report(step.lower(state, batch).compile()),
        "sampler": report(sampler.lower(
            state.params, *prompts, key, array((), jnp.int32, whole)).compile()),
    }
print("RESULT", json.dumps(result))
"""


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed (extra plan)"
)
def test_train_step_and_sampler_compile_for_a_v5e_slice(capsys):
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",  # no TPU is looked for; the topology alone loads libtpu
        "TPU_SKIP_MDS_QUERY": "1",  # no metadata server is asked where there is none
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    results = [line for line in run.stdout.splitlines() if line.startswith("RESULT ")]
    assert run.returncode == 0 and results, run.stderr[-3000:]
    result = json.loads(results[0].removeprefix("RESULT "))
    with capsys.disabled():
        print(f"\nv5e:4x4, bytes per chip: {result}")
    # Parameters and both moments, float32, split over fsdp x tensor = 8 of the 16 chips' shards.
    state_bytes = 3 * 4 * result["parameters"] / 8
    step = result["train_step"]
    assert state_bytes <= step["arguments"] < 1.3 * state_bytes
    assert step["donated"] > 0.95 * state_bytes  # the new state takes the place of the old one
    assert 0 < step["temporary"] < 1e9 and 0 < result["sampler"]["temporary"] < 1e9
