"""GRPO of a Llama-3-405B shape with the sampler ahead, on 1,024 chips of v5p; to be planned.

No weights are named.

python launch/plan.py --config=configs/pods/llama3_405b_ahead_v5p.py
"""

from ml_collections import ConfigDict

TOPOLOGY = "v5p:8x8x16"


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is not read."""
    del arg
    c = ConfigDict()
    c.name = "llama3-405b-ahead"
    c.stages = ("grpo",)
    c.mesh = dict(data=1, fsdp=-1, tensor=4)
    c.model = dict(preset="llama3_405b", dtype="bfloat16", remat="full")
    c.data = dict(
        tasks=({"name": "chain_sum"},), train_size=1024, heldout_size=512, max_prompt_tokens=512
    )
    # Half of the chips sample, each eight of them with a copy of the weights.
    c.sampler = dict(weights="int8", shrink=(), mesh=dict(data=64, tensor=8))
    # Two copies of the weights at a time are more than the memory of such a chip, and one is nearly
    # that of a host: what waits does so in files.
    c.asynchronous = dict(max_staleness=1, sampler_devices=512, transfer="storage")
    c.evaluation = dict(prompts_per_batch=512)
    c.grpo = dict(
        method="tis",
        batch=dict(
            prompts_per_step=256,
            samples_per_prompt=8,
            sequences_per_update=1024,
            sequences_per_micro_batch=1024,
        ),
        # Without a KL term no reference policy is kept.
        objective=dict(kl_placement="none"),
        sampling=dict(max_new_tokens=1536, temperature=1.0),
        optimizer=dict(learning_rate=1e-6, schedule="constant"),
    )
    return c
