"""JEPO: reference answers, no verifier; 2 CPU cores, 4.5 minutes measured beside other work.

The same warm-up as quickstart.py. Then the policy samples chains of thought, and the likelihood
that it gives to the reference answer after each is all that it learns from; the verifier only
measures it on held-out problems. From at most 0.40 after the warm-up, expect a held-out greedy
accuracy of at least 0.70:

    python launch/train.py --config=configs/quickstart_jepo.py
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The config."""
    c = ConfigDict()
    c.name = "quickstart-jepo"
    c.stages = ("warmup", "jepo")
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
    c.jepo = dict(
        method="jepo",
        steps=40,
        reference_kl=True,
        # Short answers: the paper weighs their own likelihood term by 0 to 0.01.
        objective=dict(kl_placement="none", supervised_weight=0.01),
        batch=dict(prompts_per_step=32, samples_per_prompt=8, sequences_per_micro_batch=16),
        sampling=dict(max_new_tokens=44),
        data=dict(max_answer_tokens=8),
        optimizer=dict(learning_rate=3e-4, schedule="linear", warmup_updates=5, b2=0.95),
    )
    return c
