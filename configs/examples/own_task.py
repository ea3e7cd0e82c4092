"""Your own problems (JSONL) and your own reward; 2 CPU cores, about a minute.

A tiny model sees a few demonstrations of sorting four letters, then RLOO goes on from partial
credit. Expect a held-out accuracy of about 0.6 after the warm-up and 0.9 at the end. Copy this file
to start yours:

    python launch/train.py --config=configs/examples/own_task.py

Paths are relative to the directory that the command runs in.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    c = ConfigDict()
    c.name = "own-task"
    c.stages = ("warmup", "rl")
    c.model = dict(layers=2, width=64, heads=4, kv_heads=2)
    c.data = dict(
        kind="jsonl",
        path="configs/examples/problems.jsonl",
        heldout_path="configs/examples/heldout.jsonl",
        max_prompt_tokens=10,
        heldout_size=64,
    )
    c.scoring = dict(
        rewards=(
            # The first reward decides what counts as accurate (value 1.0).
            dict(name="configs/examples/own_reward.py:right_places", options=dict(partial=True)),
        ),
    )
    c.evaluation = dict(max_new_tokens=6, samples_per_prompt=4, prompts_per_batch=64)
    c.warmup = dict(
        method="sft",
        steps=20,
        data=dict(source="jsonl", path="configs/examples/problems.jsonl", row_tokens=64),
        batch=dict(sequences_per_update=32),
        optimizer=dict(learning_rate=2e-3, warmup_updates=10),
    )
    c.rl = dict(
        method="rloo",
        steps=60,
        batch=dict(prompts_per_step=64, samples_per_prompt=8),
        sampling=dict(max_new_tokens=6),
        optimizer=dict(learning_rate=1e-3),
    )
    return c
