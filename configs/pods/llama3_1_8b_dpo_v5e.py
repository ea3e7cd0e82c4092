"""DPO of a Llama-3.1-8B shape on 64 chips of v5e, to be planned; no weights are named.

python launch/plan.py --config=configs/pods/llama3_1_8b_dpo_v5e.py

Loss, batch, length, schedule and learning rate are those of Tülu 3 8B (arXiv:2411.15124).
The pairs of the file only stand for some.
"""

from ml_collections import ConfigDict

TOPOLOGY = "v5e:8x8"


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is not read."""
    del arg
    c = ConfigDict()
    c.name = "llama3-1-8b-dpo"
    c.stages = ("dpo",)
    c.mesh = dict(data=1, fsdp=-1, tensor=2)
    c.model = dict(preset="llama3_1_8b", dtype="bfloat16", remat="dots")
    c.data = dict(
        tasks=({"name": "chain_sum"},), train_size=256, heldout_size=64, max_prompt_tokens=1024
    )
    c.sampler = dict(weights="bfloat16", mesh=dict(data=8, tensor=8))
    c.evaluation = dict(prompts_per_batch=64)
    c.dpo = dict(
        method="dpo_norm",
        objective=dict(beta=5.0),
        data=dict(source="jsonl", path="configs/examples/pairs.jsonl", max_completion_tokens=1024),
        # 128 pairs; 32 at once, one for each pair of chips.
        batch=dict(sequences_per_update=256, sequences_per_micro_batch=64),
        optimizer=dict(learning_rate=5e-7, schedule="linear", warmup_updates=200),
        steps=2000,
    )
    return c
