"""Sections that the chains of this folder share: a small model of letters, files of the hub."""

from collections.abc import Mapping
from typing import Any

PAIRS = "configs/examples/pairs.jsonl"
PROBLEMS = "configs/examples/problems.jsonl"


def letters(**rewards: Any) -> dict[str, Any]:
    """A small model that sorts four letters, from scratch.

    Args:
        rewards: fields of its only reward besides the name.
    """
    return dict(
        model=dict(layers=2, width=64, heads=4, kv_heads=2),
        data=dict(
            kind="jsonl",
            path=PROBLEMS,
            heldout_path="configs/examples/heldout.jsonl",
            max_prompt_tokens=10,
            heldout_size=64,
        ),
        scoring=dict(rewards=(dict(name="exact_match", **rewards),)),
        evaluation=dict(max_new_tokens=6, samples_per_prompt=4, prompts_per_batch=64),
    )


def some_demonstrations() -> dict[str, Any]:
    """SFT that stops early, so that there is something left to learn."""
    return dict(
        steps=20,
        data=dict(source="jsonl", path=PROBLEMS, row_tokens=64),
        batch=dict(sequences_per_update=32),
        optimizer=dict(learning_rate=2e-3, warmup_updates=10),
    )


def small_pairs() -> dict[str, Any]:
    """A sorted and a nearly sorted answer."""
    return dict(path=PAIRS, max_completion_tokens=6)


def questions(given: Mapping[str, str], *, tokens: int, every: int, **rewards: Any) -> dict:
    """A published model that is trained and judged by questions in GSM8K's columns.

    Args:
        given: the recipe's arguments: model, train, heldout.
        tokens: of a prompt at most, and of an evaluated answer.
        every: steps from one evaluation to the next.
        rewards: fields of the reward besides the name.
    """
    return dict(
        model=dict(init_from=given["model"], dtype="bfloat16", remat="full"),
        mesh=dict(data=1, fsdp=-1),
        data=dict(
            kind=kind_of(given["train"]),
            path=given["train"],
            heldout_path=given["heldout"],
            prompt_column="question",
            reference_column="answer",
            chat=True,
            max_prompt_tokens=tokens,
        ),
        scoring=dict(rewards=(dict(name="gsm8k_open_instruct", **rewards),), workers=4),
        evaluation=dict(every_steps=every, samples_per_prompt=0, max_new_tokens=tokens),
    )


def conversations(path: str) -> dict[str, Any]:
    """Every message of the assistant; conversations beyond 4,096 tokens are left out, counted."""
    rows = dict(source=kind_of(path), path=path, truncation="drop")
    return rows | dict(learn="all", row_tokens=4096, packed=False)


def pairs(path: str) -> dict[str, Any]:
    """Pairs as hubs hold them: some are too long, some have equal sides; they are left out."""
    rows = dict(source=kind_of(path), path=path, truncation="drop", unusable="drop")
    return rows | dict(max_completion_tokens=2048)


def kind_of(path: str) -> str:
    """Parquet or JSONL, by the name of a file."""
    return "parquet" if path.endswith(".parquet") else "jsonl"
