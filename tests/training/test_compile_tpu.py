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
import jax
from rljax.planning.chips import read_topology
from rljax.planning.programs import open_run

opened = open_run(sys.argv[1], (), read_topology("v5e:4x4"))

def report(lowered):
    memory = lowered.compile().memory_analysis()
    return {
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "donated": memory.alias_size_in_bytes,
    }

with jax.set_mesh(opened.mesh):
    found = {name: report(opened.programs[name].lower()) for name in sys.argv[2:]}
print(json.dumps({"parameters": opened.context.network.parameter_count, **found}))
"""


def test_train_step_load_sampler_and_score_compile_for_a_v5e_slice(run_for_tpu, capsys, tmp_path):
    (tmp_path / "config.py").write_text(CONFIG)
    names = ("update", "load", "sampling", "scores")
    result = json.loads(run_for_tpu("-c", PROGRAM, str(tmp_path / "config.py"), *names))
    with capsys.disabled():
        print(f"\nv5e:4x4, bytes per chip: {result}")
    # Parameters and both moments, float32, split over fsdp x tensor = 8 of the 16 chips' shards.
    state_bytes = 3 * 4 * result["parameters"] / 8
    step = result["update"]
    assert state_bytes <= step["arguments"] < 1.3 * state_bytes
    assert step["donated"] > 0.95 * state_bytes  # the new state takes the place of the old one
    # The sampler's weights are bfloat16, split over tensor alone.
    sampler_bytes = 2 * result["parameters"] / 2
    assert sampler_bytes <= result["load"]["outputs"] < 1.1 * sampler_bytes
    assert sampler_bytes <= result["sampling"]["arguments"] < 1.1 * sampler_bytes
    for program in ("update", "sampling", "scores"):
        assert 0 < result[program]["temporary"] < 1e9, program
    # Each matrix is gathered in its new place.
    assert result["load"]["temporary"] < sampler_bytes / 4
