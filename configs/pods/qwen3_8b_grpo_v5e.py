"""GRPO of a Qwen3-8B shape on 64 chips of v5e, to be planned; no weights are named.

python launch/plan.py --config=configs/pods/qwen3_8b_grpo_v5e.py
"""

from ml_collections import ConfigDict

TOPOLOGY = "v5e:8x8"


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is not read."""
    del arg
    c = ConfigDict()
    c.name = "qwen3-8b-grpo"
    c.stages = ("grpo",)
    c.mesh = dict(data=1, fsdp=-1, tensor=2)
    c.model = dict(preset="qwen3_8b", dtype="bfloat16", remat="dots")
    c.data = dict(
        tasks=({"name": "chain_sum"},), train_size=256, heldout_size=64, max_prompt_tokens=512
    )
    # The sampler's weights are split over eight chips, and rows over eight groups of them.
    c.sampler = dict(weights="bfloat16", mesh=dict(data=8, tensor=8))
    c.evaluation = dict(prompts_per_batch=64)
    c.grpo = dict(
        method="grpo",
        batch=dict(
            prompts_per_step=64,
            samples_per_prompt=8,
            sequences_per_update=256,
            # Two rows for each pair of chips: what a layer keeps of more does not fit.
            sequences_per_micro_batch=64,
        ),
        # Without a KL term no reference policy is kept.
        objective=dict(kl_placement="none"),
        sampling=dict(max_new_tokens=1536, temperature=1.0),
        optimizer=dict(learning_rate=1e-6, schedule="constant"),
    )
    return c
