"""JEPO of a Llama-3-8B shape on 64 chips of v5e, to be planned; no weights are named.

python launch/plan.py --config=configs/pods/llama3_8b_jepo_v5e.py
"""

from ml_collections import ConfigDict

TOPOLOGY = "v5e:8x8"


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is not read."""
    del arg
    c = ConfigDict()
    c.name = "llama3-8b-jepo"
    c.stages = ("jepo",)
    c.mesh = dict(data=1, fsdp=-1, tensor=4)
    c.model = dict(preset="llama3_8b", dtype="bfloat16", remat="dots")
    c.data = dict(
        tasks=({"name": "chain_sum"},), train_size=256, heldout_size=64, max_prompt_tokens=512
    )
    c.sampler = dict(weights="bfloat16", mesh=dict(data=8, tensor=8))
    c.evaluation = dict(prompts_per_batch=64)
    c.jepo = dict(
        method="jepo",
        batch=dict(prompts_per_step=64, samples_per_prompt=4, sequences_per_micro_batch=64),
        # The likelihood of the reference answer is learned from; no reference policy is kept.
        objective=dict(kl_placement="none"),
        sampling=dict(max_new_tokens=1024),
        data=dict(max_answer_tokens=64),
        optimizer=dict(learning_rate=1e-6, schedule="constant"),
    )
    return c
