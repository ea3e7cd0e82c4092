"""Two stages for mathematics (arXiv:2507.08267): SFT for accuracy, then GRPO for short solutions.

`sft` learns long worked solutions for many epochs. `grpo` is rewarded by three terms: the answer
stands in a box before the end of thinking; right answers are paid less the longer they are, wrong
ones punished less; and of the samples of a prompt the shorter right ones are preferred.

    python launch/train.py --config=configs/recipes/two_stage_math.py

is the recipe on sums whose solutions say every step one to three times, in about three minutes of
CPU time. Expect, on held-out problems and with seed 0, greedy accuracy 0.852 after `sft` and 0.898
after `grpo`, pass@1 0.762 and 0.818, and a mean length of 36.8 and 21.3 tokens.

On a published model, with the paper's rates, batches and lengths for 14B:

    python launch/train.py \
        --config=configs/recipes/two_stage_math.py:model=FOLDER,sft=SFT,train=TRAIN,heldout=HELDOUT

FOLDER is a model that thinks between tags (the paper: DeepSeek-R1-Distill-Qwen-14B). SFT holds
`prompt` and `completion` (hard problems with long solutions), TRAIN and HELDOUT problems with
answers, in the columns `problem` and `answer`; all as JSONL, or as Parquet if their names end so.
"""

from typing import Any

from chain_sections import kind_of
from ml_collections import ConfigDict

from rljax.config.recipe_arguments import read_arguments

FILES = ("model", "sft", "train", "heldout")
HERE = "configs/recipes"


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` reads "[model=FOLDER,sft=FILE,train=FILE,heldout=FILE]".

    Raises:
        ValueError: for another argument, or some of the files without the others.
    """
    needed = FILES if arg else ()
    given = read_arguments(arg, "configs/recipes/two_stage_math.py", needed)
    c = ConfigDict()
    c.name = "two-stage-math"
    c.stages = ("sft", "grpo")
    for name, section in (published(given) if needed else tiny()).items():
        c[name] = section
    c.sft.method, c.grpo.method = "sft", "grpo"
    c.grpo.objective = dict(
        reward_shaping="relative_length", kl_placement="loss", kl_estimator="k3", kl_weight=0.04
    )
    return c


def rewards(max_length: int, unit: str) -> tuple[dict[str, Any], ...]:
    """Right or wrong, which the other terms read and which is paid for by them alone."""
    return (
        dict(name="math", weight=0.0),
        dict(name="cosine_length", options=dict(max_length=max_length, unit=unit)),
        dict(name="boxed_in_thinking"),
    )


def tiny() -> dict[str, Any]:
    """Sections of the run from scratch."""
    return dict(
        model=dict(layers=3, width=96, heads=4, kv_heads=2, remat="none"),
        tokenizer=dict(special_tokens=("</think>", "\\boxed{")),
        data=dict(
            kind="jsonl",
            path=f"{HERE}/long_sums.jsonl",
            heldout_path=f"{HERE}/long_sums_heldout.jsonl",
            max_prompt_tokens=8,
            heldout_size=128,
        ),
        scoring=dict(rewards=rewards(80, "tokens")),
        evaluation=dict(max_new_tokens=80, samples_per_prompt=4, prompts_per_batch=64),
        sft=dict(
            steps=300,
            data=dict(source="jsonl", path=f"{HERE}/long_sums.jsonl", row_tokens=128),
            batch=dict(sequences_per_update=16),
            optimizer=dict(learning_rate=2e-3, schedule="cosine", warmup_updates=20, b2=0.95),
        ),
        grpo=dict(
            steps=60,
            batch=dict(prompts_per_step=16, samples_per_prompt=8, sequences_per_micro_batch=64),
            sampling=dict(max_new_tokens=80),
            optimizer=dict(learning_rate=3e-4, schedule="cosine", warmup_updates=5, b2=0.95),
        ),
    )


def published(given: dict[str, str]) -> dict[str, Any]:
    """Sections of the run on a published model: the paper's for 14B."""

    return dict(
        model=dict(init_from=given["model"], dtype="bfloat16", remat="full"),
        mesh=dict(data=1, fsdp=-1),
        data=dict(
            kind=kind_of(given["train"]),
            path=given["train"],
            heldout_path=given["heldout"],
            prompt_column="problem",
            reference_column="answer",
            chat=True,
            max_prompt_tokens=512,
        ),
        # Lengths in characters, as the authors count them.
        scoring=dict(rewards=rewards(30_000, "characters"), workers=4),
        evaluation=dict(every_steps=10, samples_per_prompt=0, max_new_tokens=16_384),
        # About ten epochs of 7,900 long solutions: 20 were planned, and step 350 was taken.
        sft=dict(
            steps=350,
            data=dict(
                source=kind_of(given["sft"]),
                path=given["sft"],
                truncation="drop",
                row_tokens=24_576,
            ),
            batch=dict(sequences_per_update=64, sequences_per_micro_batch=8),
            optimizer=dict(learning_rate=1e-5, schedule="cosine"),
        ),
        # 16 problems with eight samples each; more than about 50 steps did harm.
        grpo=dict(
            steps=40,
            batch=dict(prompts_per_step=16, samples_per_prompt=8, sequences_per_micro_batch=16),
            sampling=dict(max_new_tokens=16_384, top_p=0.9, min_p=0.05),
            optimizer=dict(learning_rate=4e-6, schedule="cosine"),
        ),
    )
