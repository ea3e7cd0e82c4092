"""JEPO of a Llama-3-70B shape on 64 chips of v5p, to be planned; no weights are named.

    python launch/plan.py --config=configs/pods/llama3_70b_jepo_v5p.py

The method's values are the paper's (arXiv:2503.19618, app. B), as in configs/rlvr/evidence.py: 64
prompts x 4 samples, one update a step, a KL of weight 1e-3. It gives no learning rate and no
lengths.
"""

from ml_collections import ConfigDict

TOPOLOGY = "v5p:4x4x4"


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is not read."""
    del arg
    c = ConfigDict()
    c.name = "llama3-70b-jepo"
    c.stages = ("jepo",)
    # The samples of a prompt stay together: one prompt for each chip.
    c.mesh = dict(data=1, fsdp=-1)
    c.model = dict(preset="llama3_70b", dtype="bfloat16", remat="full")
    c.data = dict(
        tasks=({"name": "chain_sum"},), train_size=256, heldout_size=64, max_prompt_tokens=512
    )
    # Without narrower loops for the last rows, of which each would be compiled once more.
    c.sampler = dict(weights="bfloat16", shrink=(), mesh=dict(data=8, tensor=8))
    c.evaluation = dict(prompts_per_batch=64)
    c.jepo = dict(
        method="jepo",
        batch=dict(prompts_per_step=64, samples_per_prompt=4, sequences_per_micro_batch=256),
        sampling=dict(max_new_tokens=1024),
        data=dict(max_answer_tokens=64),
        optimizer=dict(learning_rate=1e-6, schedule="constant"),
    )
    return c
