"""Unpacking DPO and PPO (arXiv:2406.09279): both from the same pairs and the same start.

`sft` learns demonstrations, `rm` is its copy that learns the pairs; `ppo` starts from `sft` with
the rewards of `rm`, whose trunk and head its critic starts from too; `dpo` starts from `sft` and
learns the pairs themselves. What the pairs were made for judges both: held-out problems.

    python launch/train.py --config=configs/recipes/unpacking.py

is the recipe on sorting four letters, in about three minutes of CPU time. Expect, on held-out
problems and with seed 0, pass@1 0.102 after `sft`, 0.605 after `ppo` and 0.328 after `dpo`; greedy
accuracy 0.609, 0.656 and 0.844. The paper finds PPO ahead, by up to
2.5 points in mathematics and 1.2 in general.

On a published model, with the paper's rates, batches and lengths for 13B:

    python launch/train.py --config=\
configs/recipes/unpacking.py:model=FOLDER,sft=SFT,pairs=PAIRS,train=TRAIN,heldout=HELDOUT

FOLDER is a base model whose tokenizer has a chat template. SFT holds conversations (`messages`),
PAIRS chosen and rejected conversations (the paper: 60,908 of UltraFeedback, by aspects), TRAIN the
prompts of PPO and HELDOUT questions with answers, in GSM8K's columns; all as JSONL, or as Parquet
if their names end so.
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

FILES = ("model", "sft", "pairs", "train", "heldout")


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` reads "[model=FOLDER,sft=FILE,pairs=FILE,train=FILE,heldout=FILE]".

    Raises:
        ValueError: for another argument, or some of the files without the others.
    """
    needed = FILES if arg else ()
    given = read_arguments(arg, "configs/recipes/unpacking.py", needed)
    c = ConfigDict()
    c.name = "unpacking"
    c.stages = ("sft", "rm", "ppo", "dpo")
    for name, section in (published(given) if needed else tiny()).items():
        c[name] = section
    c.sft.method, c.rm.method, c.ppo.method, c.dpo.method = "sft", "bradley_terry", "ppo", "dpo"
    c.rm.network = dict(head="reward")
    c.ppo.start_from = c.dpo.start_from = "sft"
    c.ppo.models = dict(reward=dict(start_from="rm"), value=dict(start_from="rm"))
    c.dpo.objective = dict(beta=0.1)
    return c


def tiny() -> dict[str, Any]:
    """Sections of the run from scratch."""
    return dict(
        **letters(),
        sft=some_demonstrations(),
        rm=dict(
            steps=400,
            data=small_pairs(),
            objective=dict(center_weight=0.01),
            batch=dict(sequences_per_update=128),
            optimizer=dict(learning_rate=2e-3, schedule="linear", warmup_updates=10),
        ),
        ppo=dict(
            steps=250,
            critic=dict(learning_rate=1e-3),
            batch=dict(prompts_per_step=256, samples_per_prompt=1),
            sampling=dict(max_new_tokens=6),
            objective=dict(kl_weight=0.1, reward_clip=2.0),
            optimizer=dict(learning_rate=3e-4, schedule="linear"),
        ),
        dpo=dict(
            steps=200,
            data=small_pairs(),
            batch=dict(sequences_per_update=128),
            optimizer=dict(learning_rate=3e-4, schedule="linear", warmup_updates=20),
        ),
    )


def published(given: dict[str, str]) -> dict[str, Any]:
    """Sections of the run on a published model: the paper's for 13B."""

    return dict(
        **questions(given, tokens=1024, every=50),
        # Two epochs of 326,154 conversations, 128 an update (Tulu 2, arXiv:2311.10702).
        sft=dict(
            steps=5_096,
            data=conversations(given["sft"]),
            batch=dict(sequences_per_update=128, sequences_per_micro_batch=16),
            optimizer=dict(learning_rate=2e-5, schedule="linear", warmup_updates=153),
        ),
        # One epoch, 512 pairs an update.
        rm=dict(
            steps=119,
            data=pairs(given["pairs"]),
            batch=dict(sequences_per_update=1024, sequences_per_micro_batch=16),
            optimizer=dict(learning_rate=1e-5, schedule="linear", warmup_updates=4),
        ),
        # One epoch of 60,000 prompts, 512 a step in eight updates.
        ppo=dict(
            steps=119,
            critic=dict(learning_rate=1e-6),
            batch=dict(
                prompts_per_step=512,
                samples_per_prompt=1,
                sequences_per_update=64,
                sequences_per_micro_batch=32,
            ),
            sampling=dict(max_new_tokens=1024, temperature=0.7),
            # 0.0325 with larger reward models; a sample without an end scores -10.
            objective=dict(kl_weight=0.05, reward_clip=None, missing_end_score=-10.0),
            optimizer=dict(learning_rate=1e-6, warmup_updates=95),
        ),
        # Three epochs, 32 pairs an update.
        dpo=dict(
            steps=5_710,
            data=pairs(given["pairs"]),
            batch=dict(sequences_per_update=64, sequences_per_micro_batch=16),
            optimizer=dict(learning_rate=5e-7, schedule="linear", warmup_updates=571),
        ),
    )
