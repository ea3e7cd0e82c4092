"""Ahead-of-time compilation for a 16-chip TPU v5e slice; needs libtpu (carried plan), no TPU."""

import json

CONFIG = """
from ml_collections import ConfigDict

def get_config(arg=""):
    c = ConfigDict()
    c.stages = ("grpo",)
    c.mesh = dict(data=2, fsdp=4, tensor=2)
    c.model = dict(
        layers=4, width=512, heads=8, kv_heads=2, head_dim=64, mlp_width=1536, dtype="bfloat16"
    )
    c.tokenizer = dict(special_tokens=("<answer>", "</answer>"))
    c.data = dict(tasks=({"name": "chain_sum"},), train_size=16, heldout_size=16,
                  max_prompt_tokens=64, prompt_pattern=r": (.*) =$")
    c.scoring = dict(workers=0)
    c.evaluation = dict(prompts_per_batch=16)
    c.sampler = dict(weights="bfloat16", slots=128)
    c.grpo = dict(
        method="grpo",
        batch=dict(prompts_per_step=64, samples_per_prompt=4, sequences_per_update=32,
                   sequences_per_micro_batch=16, share_prompts=False),
        sampling=dict(max_new_tokens=64, temperature=0.9, top_p=0.95),
        objective=dict(entropy_weight=0.01),
        optimizer=dict(learning_rate=1e-4, schedule="cosine", weight_decay=0.1),
    )
    return c
"""

PROGRAM = """
import json, sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import topologies
from rljax.config.load import load_config
from rljax.config.validate import validate
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import batch_sharding, replicated
from rljax.sampling.request import Requests
from rljax.training.run import context as context_module
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.update.logprobs import model_rows
from rljax.training.update.optimizers import build_optimizer
from rljax.training.update.rows import completion_rows
from rljax.training.update.state import abstract_state, state_shardings
from rljax.training.update.train_step import jit_train_step

config_file = Path(sys.argv[1])
topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:4x4")
context_module.make_mesh = lambda sizes: make_mesh(sizes, devices=topology.devices)
config = load_config(str(config_file))
(stage,) = validate(config)
context = context_module.build_context(config, (stage,), config_file.parent / "run")
optimizer = build_optimizer(stage)
mesh, network = context.mesh, context.network
rows, whole = batch_sharding(mesh), replicated(mesh)

def shape_of(array, sharding=rows):
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

def report(lowered):
    memory = lowered.compile().memory_analysis()
    return {
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "donated": memory.alias_size_in_bytes,
    }

N, B = stage.batch.sequences_per_update, stage.batch.prompts_per_step
P, T = config.data.max_prompt_tokens, stage.max_new_tokens

def rows_of(count):
    prompts, slots = np.zeros((count, P), np.int32), np.zeros((count, T), np.int32)
    return completion_rows(prompts, prompts == 0, slots, slots == 0)

per_token = ("behavior_logprobs", "old_logprobs", "ref_logprobs", "advantages", "weights")
batch = rows_of(N) | {name: np.zeros((N, T), np.float32) for name in per_token}
batch = jax.tree.map(shape_of, batch)
scored = jax.tree.map(shape_of, model_rows(rows_of(stage.batch.sequences_per_step)))
# What computes small constants does so before the mesh is set, whose devices cannot compute.
family = PolicyGradient(context, stage, None, 0)
key = shape_of(family.source.rollouts.key, whole)
shardings = state_shardings(network, optimizer, mesh)
state = abstract_state(network, optimizer, shardings)
step = jit_train_step(
    network, family.loss_fn, optimizer, mesh, micro_batches=stage.batch.micro_batches)
with context.scorer, jax.set_mesh(mesh):
    engine, some = family.source.rollouts.sampler, np.zeros((B, P), np.int32)
    places = engine.shardings(state.params)
    load = jax.jit(engine.prepared, out_shardings=places).lower(state.params)
    weights = jax.tree.map(shape_of, jax.eval_shape(engine.prepared, state.params), places)
    requests = Requests(shape_of(some), shape_of(some == 0), shape_of(some[:, 0]))
    sampler = engine.program.lower(
        weights, requests, key, jax.ShapeDtypeStruct((), jnp.int32, sharding=whole))
    print(json.dumps({
        "parameters": network.parameter_count,
        "train_step": report(step.lower(state, {}, batch)),
        "load": report(load),
        "sampler": report(sampler),
        "score": report(family.learner.scores.lower(state.params, scored)),
    }))
"""


def test_train_step_load_sampler_and_score_compile_for_a_v5e_slice(run_for_tpu, capsys, tmp_path):
    (tmp_path / "config.py").write_text(CONFIG)
    result = json.loads(run_for_tpu("-c", PROGRAM, str(tmp_path / "config.py")))
    with capsys.disabled():
        print(f"\nv5e:4x4, bytes per chip: {result}")
    # Parameters and both moments, float32, split over fsdp x tensor = 8 of the 16 chips' shards.
    state_bytes = 3 * 4 * result["parameters"] / 8
    step = result["train_step"]
    assert state_bytes <= step["arguments"] < 1.3 * state_bytes
    assert step["donated"] > 0.95 * state_bytes  # the new state takes the place of the old one
    # The sampler's weights are bfloat16, split over tensor alone.
    sampler_bytes = 2 * result["parameters"] / 2
    assert sampler_bytes <= result["load"]["outputs"] < 1.1 * sampler_bytes
    assert sampler_bytes <= result["sampler"]["arguments"] < 1.1 * sampler_bytes
    for program in ("train_step", "sampler", "score"):
        assert 0 < result[program]["temporary"] < 1e9, program
    # Each matrix is gathered in its new place.
    assert result["load"]["temporary"] < sampler_bytes / 4
