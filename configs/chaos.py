"""A run of seconds with a bit of everything, to be killed: launch/chaos.py.

Demonstrations, then GRPO with a worker process that scores; evaluations and checkpoints are many.
`:ahead` has a sampler that runs ahead, whose queue is part of every checkpoint.
"""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is "" or "ahead"."""
    if arg not in ("", "ahead"):
        raise ValueError(f"configs/chaos.py has no variant {arg!r}; known: 'ahead'.")
    c = ConfigDict()
    c.name = "chaos"
    c.stages = ("warmup", "grpo")
    c.model = dict(layers=1, width=16, heads=2, kv_heads=1)
    c.tokenizer = dict(special_tokens=("<answer>", "</answer>"))
    c.data = dict(
        tasks=(
            dict(
                name="chain_sum",
                parameters=dict(min_terms=2, max_terms=2, min_digits=1, max_digits=1),
            ),
        ),
        prompt_pattern=r": (.*)$",
        train_size=64,
        heldout_size=8,
        max_prompt_tokens=12,
    )
    c.scoring = dict(workers=1)
    c.evaluation = dict(samples_per_prompt=2, prompts_per_batch=8, max_new_tokens=6, every_steps=3)
    c.checkpoint = dict(every_steps=2, keep=2)
    c.reporting = dict(writers=("jsonl", "tensorboard"))
    c.warmup = dict(
        method="sft",
        steps=10,
        data=dict(row_tokens=40),
        batch=dict(sequences_per_update=16),
        optimizer=dict(learning_rate=3e-2),
    )
    c.grpo = dict(
        method="grpo",
        steps=12,
        batch=dict(prompts_per_step=8, samples_per_prompt=4, sequences_per_update=16),
        sampling=dict(max_new_tokens=6),
        optimizer=dict(learning_rate=1e-3),
    )
    if arg == "ahead":
        c.asynchronous = dict(max_staleness=1, queue_steps=2)
        c.grpo.method = "tis"
    return c
