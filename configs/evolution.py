"""EGGROLL: evolution strategies; 2 CPU cores, 6 minutes measured beside other work.

A warm-up, mostly on bare answers, teaches the form of an answer. Then 512 perturbed copies of the
model answer 16 problems greedily in every step, and the noise of those that do well is added to the
parameters: forward passes only, nothing is differentiated. From 0.25 after the warm-up, expect a
held-out greedy accuracy of at least 0.50 (seed 0 was run: 0.63):

    python launch/train.py --config=configs/evolution.py
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    c = ConfigDict()
    c.name = "evolution"
    c.stages = ("warmup", "eggroll")
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
    c.eggroll = dict(
        method="eggroll",
        steps=200,
        # A tenth of the parameters' own size: members answer differently, and none of them badly.
        objective=dict(sigma=0.01, rank=1),
        # 32 members for each of 16 prompts, in 16 antithetic pairs.
        batch=dict(prompts_per_step=16, samples_per_prompt=32),
        sampling=dict(max_new_tokens=44),
        # Plain SGD on the pseudo-gradient, not clipped: every parameter moves by about
        # learning_rate * sigma in a step. Most of that is noise, since 256 directions are few for
        # 0.8 M parameters: with 256 members and a rate of 0.4 accuracy fell in the end.
        optimizer=dict(name="sgd", learning_rate=0.1, clip_norm=0.0),
    )
    return c
