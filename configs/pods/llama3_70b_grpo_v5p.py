"""GRPO of a Llama-3.1-70B shape on 128 chips of v5p, to be planned; no weights are named.

python launch/plan.py --config=configs/pods/llama3_70b_grpo_v5p.py
"""

from ml_collections import ConfigDict

TOPOLOGY = "v5p:4x4x8"


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is not read."""
    del arg
    c = ConfigDict()
    c.name = "llama3-70b-grpo"
    c.stages = ("grpo",)
    c.mesh = dict(data=1, fsdp=-1)
    c.model = dict(preset="llama3_1_70b", dtype="bfloat16", remat="dots")
    c.data = dict(
        tasks=({"name": "chain_sum"},), train_size=256, heldout_size=128, max_prompt_tokens=512
    )
    # The sampler's weights are split over eight chips, and rows over sixteen groups of them.
    # Without narrower loops for the last rows, of which each would be compiled once more.
    c.sampler = dict(weights="bfloat16", shrink=(), mesh=dict(data=16, tensor=8))
    c.evaluation = dict(prompts_per_batch=128)
    c.grpo = dict(
        method="grpo",
        batch=dict(
            prompts_per_step=128,
            samples_per_prompt=8,
            sequences_per_update=512,
            sequences_per_micro_batch=128,
        ),
        # Without a KL term no reference policy is kept.
        objective=dict(kl_placement="none"),
        sampling=dict(max_new_tokens=1536, temperature=1.0),
        optimizer=dict(learning_rate=1e-6, schedule="constant"),
    )
    return c
