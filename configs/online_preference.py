"""Preference learning from the policy's own samples, round by round: `:RECIPE`.

A tiny model sees some demonstrations of sorting four letters (`sft`), and then learns from pairs,
or from labelled completions, that it writes itself. RECIPE is one of

    online_dpo      A reward model learns from pairs of a file (`rm`). In ten rounds the policy
                    answers 256 problems eight times each; DPO, with the likelihood of the chosen
                    answer added, learns the answer of the highest score against that of the
                    lowest. The score is the reward model's and the verifier's together: by the
                    reward model alone a policy this small learns what the model gets wrong. The
                    reference stays the first model. TRL's OnlineDPO draws two answers, and a round
                    for every update: samples_per_prompt=2, rounds = steps.
    iterative_rpo   Two stages, each with a round of its own and its start as the reference:
                    right answers against wrong ones by the verifier, with the likelihood of the
                    right one added (arXiv:2404.19733).
    online_kto      KTO on single samples, in ten rounds: good where the verifier says so. As one in
                    ten is good at first, the others weigh 0.15 (arXiv:2402.01306, section 4.1, has
                    both kinds weigh alike in all).

    python launch/train.py --config=configs/online_preference.py:online_dpo

Expect, on held-out problems and with seed 0, pass@1 0.102 after `sft`; then

    online_dpo      0.754; greedy accuracy 0.938, from 0.609
    iterative_rpo   0.586 and 0.719; greedy accuracy 0.891 and 0.938
    online_kto      0.543; greedy accuracy 0.859

The rows that a round learned from lie in WORKDIR/pairs, one file for each round. They are pairs, or
labelled completions, with their scores: any stage can read them as a file.
"""

from typing import Any

from ml_collections import ConfigDict

EXAMPLES = "configs/examples"

SFT = dict(
    method="sft",
    steps=20,
    data=dict(source="jsonl", path=f"{EXAMPLES}/problems.jsonl", row_tokens=64),
    batch=dict(sequences_per_update=32),
    optimizer=dict(learning_rate=2e-3, warmup_updates=10),
)
REWARD_MODEL = dict(
    method="bradley_terry",
    steps=200,
    network=dict(head="reward"),
    objective=dict(center_weight=0.01),
    data=dict(path=f"{EXAMPLES}/pairs.jsonl", max_completion_tokens=6),
    batch=dict(sequences_per_update=128),
    optimizer=dict(learning_rate=2e-3, schedule="linear", warmup_updates=10),
)


def samples(method: str, steps: int, learning_rate: float, **data: Any) -> dict[str, Any]:
    """A stage whose policy writes what it learns from."""
    return dict(
        method=method,
        steps=steps,
        data=dict(pair_prompts=256, unfinished="worst", max_completion_tokens=6, **data),
        sampling=dict(max_new_tokens=6),
        batch=dict(sequences_per_update=64, samples_per_prompt=8),
        optimizer=dict(learning_rate=learning_rate, warmup_updates=5),
    )


PAIRS, LABELS = dict(source="sampled_pairs"), dict(source="sampled_labels")
ONLINE_DPO = samples("rpo", 60, 5e-4, **PAIRS, rounds=10, pair_rule="best_worst")
ITERATIVE_RPO = samples("rpo", 30, 5e-4, **PAIRS, pair_rule="random_right_wrong")
ONLINE_KTO = samples("kto", 60, 2e-4, **LABELS, rounds=10, label_rule="right")
WEIGHTS = dict(undesirable_weight=0.15)
REWARD = dict(start_from="rm", text_weight=3.0)

RECIPES = {
    "online_dpo": dict(
        sft=SFT,
        rm=REWARD_MODEL,
        dpo=ONLINE_DPO | dict(start_from="sft", models=dict(reward=REWARD)),
    ),
    "iterative_rpo": dict(sft=SFT, round1=ITERATIVE_RPO, round2=ITERATIVE_RPO),
    "online_kto": dict(sft=SFT, kto=ONLINE_KTO | dict(objective=WEIGHTS)),
}


def get_config(arg: str = "") -> ConfigDict:
    """The config of a recipe, online_dpo by default.

    Raises:
        ValueError: a recipe that is not in this file.
    """
    recipe = arg or "online_dpo"
    if recipe not in RECIPES:
        raise ValueError(
            f"Unknown recipe {recipe!r} (--config=FILE:RECIPE); here: {', '.join(RECIPES)}."
        )
    c = ConfigDict()
    c.name = f"online-preference-{recipe}"
    c.stages = tuple(RECIPES[recipe])
    c.model = dict(layers=2, width=64, heads=4, kv_heads=2)
    c.data = dict(
        kind="jsonl",
        path=f"{EXAMPLES}/problems.jsonl",
        heldout_path=f"{EXAMPLES}/heldout.jsonl",
        max_prompt_tokens=10,
        heldout_size=64,
    )
    c.scoring = dict(rewards=(dict(name="exact_match"),))
    c.evaluation = dict(max_new_tokens=6, samples_per_prompt=4, prompts_per_batch=64)
    for name, stage in RECIPES[recipe].items():
        c[name] = stage
    return c
