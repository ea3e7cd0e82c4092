"""Preference learning from the policy's own samples, round by round: `:RECIPE`.

A tiny model sees some demonstrations of sorting four letters (`sft`), and then learns from pairs,
or from labelled completions, that it writes itself. RECIPE is one of

    online_dpo      A reward model learns from pairs of a file (`rm`). In ten rounds the policy
                    samples four answers to each of 256 problems; DPO learns the one of the highest
                    score against the one of the lowest. The reference stays the first model. TRL's
                    OnlineDPO draws two answers and a round for every update: samples_per_prompt=2,
                    rounds = steps.
    iterative_rpo   Two stages, each with a round of its own and its start as the reference:
                    right answers against wrong ones by the verifier, with the likelihood of the
                    right one added (arXiv:2404.19733).
    online_kto      KTO on single samples, which are good where the verifier says so.

    python launch/train.py --config=configs/online_preference.py:online_dpo

EXPECT

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


def samples(method: str, source: str, steps: int, **data: Any) -> dict[str, Any]:
    """A stage whose policy writes what it learns from."""
    return dict(
        method=method,
        steps=steps,
        data=dict(
            source=source, pair_prompts=256, unfinished="worst", max_completion_tokens=6, **data
        ),
        sampling=dict(max_new_tokens=6),
        batch=dict(sequences_per_update=64, samples_per_prompt=8),
        optimizer=dict(learning_rate=1e-3, warmup_updates=5),
    )


ONLINE_DPO = samples("dpo", "sampled_pairs", 60, rounds=10, pair_rule="best_worst")
ITERATIVE_RPO = samples("rpo", "sampled_pairs", 30, pair_rule="random_right_wrong")
ONLINE_KTO = samples("kto", "sampled_labels", 60, rounds=10, label_rule="right")

RECIPES = {
    "online_dpo": dict(
        sft=SFT,
        rm=REWARD_MODEL,
        dpo=ONLINE_DPO | dict(start_from="sft", models=dict(reward=dict(start_from="rm"))),
    ),
    "iterative_rpo": dict(sft=SFT, round1=ITERATIVE_RPO, round2=ITERATIVE_RPO),
    "online_kto": dict(sft=SFT, kto=ONLINE_KTO),
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
