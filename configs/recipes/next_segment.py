"""Texts as environments: the next segment of a text is learned with a thought before it.

A row is a context and what comes next in its text; launch/segments.py cuts texts into rows. The
policy writes a thought up to the end of a line, and the likelihood that it then gives to the text's
own segment is what it learns from: no judge and no verifier (the objective of RLPT,
arXiv:2509.19249, with the bound of JEPO, arXiv:2503.19618, in place of its judge).

    python launch/train.py --config=configs/recipes/next_segment.py

is that on lines of sums, from scratch; with `method=ra3` a thought costs 0.05 nats, so that it is
written where it helps (arXiv:2509.25810, as far as rljax/registry/methods/evidence.py says):

    python launch/train.py --config=configs/recipes/next_segment.py:method=ra3

On a published model and rows of your own, with the batch and samples of RLPT:

    python launch/train.py \
        --config=configs/recipes/next_segment.py:model=FOLDER,train=ROWS,heldout=HELDOUT

Held-out accuracy counts segments that are written word for word; `answer_nll` is the proxy of the
bound, and says more. Shrinking budgets and tiers of difficulty are parts of other rows:
`reward_shaping=token_budget`, `curriculum=moving_mixture` (RMT, arXiv:2509.24375).
"""

from typing import Any

from chain_sections import kind_of
from ml_collections import ConfigDict

from rljax.config.recipe_arguments import read_arguments

FILES = ("model", "train", "heldout")
HERE = "configs/recipes"
BREAK = "\n"  # ends a thought
FORM = dict(answer_phrase=BREAK, answer_end="")


def get_config(arg: str = "") -> ConfigDict:
    """The config; `arg` reads "[model=FOLDER,train=FILE,heldout=FILE][,method=ra3]".

    Raises:
        ValueError: for another argument, or some of the files without the others.
    """
    with_files = any(word.partition("=")[0] in FILES for word in arg.split(","))
    needed = FILES if with_files else ()
    given = read_arguments(arg, f"{HERE}/next_segment.py", needed, {"method": "jepo"})
    c = ConfigDict()
    c.name = f"next-segment-{given['method']}"
    for name, section in (published(given) if needed else tiny()).items():
        c[name] = section
    c.scoring = dict(rewards=(dict(name="exact_match"),), workers=0)
    c.next.method = given["method"]
    c.next.objective = dict(FORM, kl_placement="none")
    return c


def tiny() -> dict[str, Any]:
    """Sections of the run from scratch."""
    rows = f"{HERE}/next_line.jsonl"
    return dict(
        stages=("text", "next"),
        model=dict(layers=2, width=64, heads=4, kv_heads=2, remat="none"),
        data=dict(
            kind="jsonl",
            path=rows,
            heldout_path=f"{HERE}/next_line_heldout.jsonl",
            max_prompt_tokens=12,
            heldout_size=96,
        ),
        evaluation=dict(
            max_new_tokens=8, samples_per_prompt=0, answer_samples=4, max_answer_tokens=5, **FORM
        ),
        text=dict(
            method="sft",
            steps=400,
            data=dict(source="jsonl", path=rows, row_tokens=64),
            batch=dict(sequences_per_update=16),
            optimizer=dict(learning_rate=2e-3, schedule="linear", warmup_updates=20, b2=0.95),
        ),
        next=dict(
            steps=40,
            batch=dict(prompts_per_step=32, samples_per_prompt=4),
            sampling=dict(max_new_tokens=8),
            data=dict(max_answer_tokens=5),
            optimizer=dict(learning_rate=3e-4, schedule="linear", warmup_updates=5, b2=0.95),
        ),
    )


def published(given: dict[str, str]) -> dict[str, Any]:
    """Sections on a published model: 512 contexts x 8 samples, at 1e-6 (RLPT's table)."""
    return dict(
        stages=("next",),
        model=dict(init_from=given["model"], dtype="bfloat16", remat="full"),
        mesh=dict(data=1, fsdp=-1),
        data=dict(
            kind=kind_of(given["train"]),
            path=given["train"],
            heldout_path=given["heldout"],
            max_prompt_tokens=2048,
            overlong="drop",
        ),
        evaluation=dict(max_new_tokens=512, samples_per_prompt=0, every_steps=50),
        next=dict(
            steps=1000,
            batch=dict(prompts_per_step=512, samples_per_prompt=8, sequences_per_micro_batch=64),
            sampling=dict(max_new_tokens=512),
            data=dict(max_answer_tokens=128),
            optimizer=dict(learning_rate=1e-6, schedule="constant"),
        ),
    )
