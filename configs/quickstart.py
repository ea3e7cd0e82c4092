"""GRPO on chained sums."""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is not used."""
    c = ConfigDict()
    c.name = "quickstart"
    c.stages = ("warmup", "grpo")
    c.model = dict(layers=4, width=128, heads=4, kv_heads=2)
    c.tokenizer = dict(special_tokens=("<answer>", "</answer>"))
    c.data = dict(
        tasks=(
            dict(
                name="chain_sum",
                parameters=dict(min_terms=4, max_terms=4, min_digits=1, max_digits=1),
            ),
        ),
        prompt_pattern=r": (.*)$",
        max_prompt_tokens=24,
    )
    c.warmup = dict(
        method="sft",
        steps=100,
        data=dict(row_tokens=128),
        batch=dict(sequences_per_update=32),
        optimizer=dict(learning_rate=1e-3),
    )
    c.grpo = dict(
        method="grpo",
        steps=100,
        batch=dict(prompts_per_step=32, samples_per_prompt=8, sequences_per_update=128),
        sampling=dict(max_new_tokens=40),
        optimizer=dict(learning_rate=3e-4),
    )
    return c
