"""Tulu 3 (arXiv:2411.15124): SFT, DPO on normalised log-probabilities, RL from a verifier.

    python launch/train.py --config=configs/recipes/tulu3.py

is the recipe on sorting four letters, in about two minutes of CPU time. PPO starts from the policy
of `dpo`; its critic starts from a reward model, which scores nothing. With `tulu3.py:grpo` the last
stage is GRPO without a critic, as in Tulu 3.1. Expect, on held-out problems and with seed 0, pass@1
0.102 after `sft`, 0.176 after `dpo` and 0.777 after `ppo` (0.789 after `grpo`); greedy accuracy
0.609, 0.734 and 0.953 (0.953).

On a published model, with the paper's rates, batches and lengths for 8B:

    python launch/train.py \
        --config=configs/recipes/tulu3.py:model=FOLDER,sft=SFT,pairs=PAIRS,train=TRAIN,heldout=HELDOUT

FOLDER is a base model whose tokenizer has a chat template. SFT holds conversations (`messages`),
PAIRS chosen and rejected conversations, TRAIN and HELDOUT questions with answers, in GSM8K's
columns; all as JSONL, or as Parquet if their names end so. The paper's RL mixes GSM8K, MATH and
IFEval; a reward of your own judges what has no gold answer (rljax/data/README.md).
"""

from typing import Any

from chain_sections import (
    conversations,
    letters,
    pairs,
    questions,
    small_pairs,
    some_demonstrations,
)
from ml_collections import ConfigDict

from rljax.config.recipe_arguments import read_arguments

RUN = ("model", "mesh", "data", "scoring", "evaluation")
FILES = ("model", "sft", "pairs", "train", "heldout")


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` reads "[model=FOLDER,sft=FILE,pairs=FILE,train=FILE,heldout=FILE][,grpo]".

    Raises:
        ValueError: for another argument, or some of the files without the others.
    """
    needed = FILES if "=" in arg else ()
    given = read_arguments(arg, "configs/recipes/tulu3.py", needed, {"grpo": ""})
    sections = published(given) if needed else tiny()
    last = "grpo" if given["grpo"] else "ppo"
    c = ConfigDict()
    c.name = "tulu3.1" if last == "grpo" else "tulu3"
    c.stages = ("sft", "dpo", last) if last == "grpo" else ("sft", "dpo", "rm", "ppo")
    for name in (*RUN, *c.stages):
        if name in sections:
            c[name] = sections[name]
    c.sft.method, c.dpo.method = "sft", "dpo_norm"  # means of log-probabilities, and beta = 5
    if last == "grpo":
        c.grpo.method = "grpo"
        c.grpo.objective = dict(kl_placement="loss", kl_estimator="k3", kl_weight=0.01)
        return c
    c.rm.method, c.ppo.method = "bradley_terry", "ppo"
    c.rm.start_from, c.rm.network = "sft", dict(head="reward")
    c.ppo.start_from = "dpo"
    c.ppo.models = dict(value=dict(start_from="rm"))  # trunk and head; the reward is the verifier's
    # A right answer scores 10 and one without an end -10, neither is clipped.
    c.ppo.objective = dict(kl_weight=0.05, reward_clip=None, missing_end_score=-10.0)
    return c


def tiny() -> dict[str, Any]:
    """Sections of the run from scratch."""
    rl = dict(
        steps=120,
        sampling=dict(max_new_tokens=6),
        optimizer=dict(learning_rate=3e-4, schedule="linear"),
    )
    return dict(
        **letters(weight=10.0),
        sft=some_demonstrations(),
        dpo=dict(
            steps=60,
            data=small_pairs(),
            batch=dict(sequences_per_update=128),
            optimizer=dict(learning_rate=3e-4, schedule="linear", warmup_updates=6),
        ),
        rm=dict(
            steps=200,
            data=small_pairs(),
            batch=dict(sequences_per_update=128),
            optimizer=dict(learning_rate=2e-3, schedule="linear", warmup_updates=10),
        ),
        ppo=rl
        | dict(
            critic=dict(learning_rate=1e-3), batch=dict(prompts_per_step=256, samples_per_prompt=1)
        ),
        grpo=rl | dict(batch=dict(prompts_per_step=64, samples_per_prompt=4)),
    )


def published(given: dict[str, str]) -> dict[str, Any]:
    """Sections of the run on a published model: the paper's for 8B, and 3.1's for GRPO."""

    rl = dict(sampling=dict(max_new_tokens=2048))
    return dict(
        **questions(given, tokens=2048, every=200, weight=10.0),
        # Two epochs of 939,344 conversations, 128 an update; 2e-6 at 70B.
        sft=dict(
            steps=14_677,
            data=conversations(given["sft"]),
            batch=dict(sequences_per_update=128, sequences_per_micro_batch=16),
            optimizer=dict(learning_rate=5e-6, schedule="linear", warmup_updates=440),
        ),
        # One epoch of 272,898 pairs, 128 an update; 2e-7 at 70B.
        dpo=dict(
            steps=2_132,
            data=pairs(given["pairs"]),
            batch=dict(sequences_per_update=256, sequences_per_micro_batch=16),
            optimizer=dict(learning_rate=5e-7, schedule="linear", warmup_updates=213),
        ),
        rm=dict(
            steps=1_066,
            data=pairs(given["pairs"]),
            batch=dict(sequences_per_update=512, sequences_per_micro_batch=16),
            optimizer=dict(learning_rate=3e-6, schedule="linear"),
        ),
        # 10 million samples are scheduled, 224 a step, and four epochs over each step. The run is
        # stopped when the held-out figure has stopped rising: the best checkpoint is kept.
        ppo=rl
        | dict(
            steps=44_643,
            critic=dict(learning_rate=3e-7),
            batch=dict(
                prompts_per_step=224,
                samples_per_prompt=1,
                epochs_per_step=4,
                sequences_per_update=224,
                sequences_per_micro_batch=32,
            ),
            optimizer=dict(learning_rate=3e-7, schedule="linear"),
        ),
        # Tulu 3.1: 48 questions with 16 samples each, two updates a step.
        grpo=rl
        | dict(
            steps=1_920,
            batch=dict(
                prompts_per_step=48,
                samples_per_prompt=16,
                sequences_per_update=384,
                sequences_per_micro_batch=32,
            ),
            optimizer=dict(learning_rate=5e-7),
        ),
    )
