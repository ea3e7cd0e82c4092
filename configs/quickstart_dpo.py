"""PLACEHOLDER."""

from ml_collections import ConfigDict


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` is not used."""
    c = ConfigDict()
    c.name = "quickstart-dpo"
    c.stages = ("warmup", "dpo")
    c.model = dict(layers=4, width=128, heads=4, kv_heads=2, remat="full")
    c.tokenizer = dict(special_tokens=("<answer>", "</answer>"))
    c.data = dict(
        tasks=(
            dict(
                name="chain_sum",
                parameters=dict(min_terms=4, max_terms=5, min_digits=1, max_digits=1),
            ),
        ),
        prompt_pattern=r": (.*)$",
        worked_share=0.4,
        max_prompt_tokens=20,
    )
    c.evaluation = dict(max_new_tokens=44)
    c.warmup = dict(
        method="sft",
        steps=350,
        data=dict(row_tokens=128),
        batch=dict(sequences_per_update=32, sequences_per_micro_batch=8),
        optimizer=dict(learning_rate=2e-3, warmup_updates=20, b2=0.95),
    )
    c.dpo = dict(
        method="dpo",
        steps=40,
        objective=dict(beta=0.1),
        # Pairs are sampled from the warmed-up model, verified, and written to WORKDIR/pairs/.
        data=dict(source="sampled_pairs", pair_prompts=512, max_completion_tokens=46),
        sampling=dict(max_new_tokens=44),
        batch=dict(samples_per_prompt=8, sequences_per_update=64, sequences_per_micro_batch=16),
        optimizer=dict(learning_rate=2e-4, warmup_updates=5, b2=0.95),
    )
    return c
