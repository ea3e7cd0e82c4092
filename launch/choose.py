"""Chooses problems by what a policy's own samples score (BLEUBERI, arXiv:2505.11080).

    python launch/generate.py --model=FOLDER --prompts=PROBLEMS.jsonl --out=SAMPLES.jsonl
    python launch/choose.py SAMPLES.jsonl --reward=bleu --keep=5000 --by=lowest --out=HARD.jsonl

A problem's score is the mean over its completions. The chosen rows are in the order of the file,
without their completions, and with "score". With --config the rewards are those of its
config.scoring, and the prompts and golds are in its columns.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rljax.commands.parser import Parser, named, path, whole
from rljax.commands.paths import check_file
from rljax.commands.run import run
from rljax.config.load import complete, load_config
from rljax.data.data_files import kind_of_files
from rljax.data.rows import reference_columns, reference_of
from rljax.data.sources import open_source, place_of
from rljax.errors import unknown_name
from rljax.reporting.files import write_text_atomic
from rljax.rewards.pool import Scorer

# Without a config: any complete one, for the names of its columns and its limits of a reward.
DEFAULTS = {"stages": ("rl",), "rl": {"method": "grpo"}}

# Rule -> (scores, random numbers) -> numbers, the lowest of which are chosen.
RULES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "lowest": lambda scores, draw: scores,
    "highest": lambda scores, draw: -scores,
    "random": lambda scores, draw: draw.random(len(scores)),
}


def chosen(scores: np.ndarray, keep: int, rule: str, seed: int) -> np.ndarray:
    """The places of the chosen problems, ascending; of equal scores the first.

    Args:
        scores: [M] f32.
        keep: problems that are chosen.
        rule: of `RULES`.
        seed: of "random".
    """
    order = np.argsort(RULES[rule](scores, np.random.default_rng(seed)), kind="stable")
    return np.sort(order[:keep])


def mean_scores(rows: Sequence[dict[str, Any]], options: argparse.Namespace) -> np.ndarray:
    """The mean score of each problem's completions, [M] f32.

    Raises:
        ValueError: for a row without completions, or one that no reward applies to.
    """
    config = load_config(options.config) if options.config else complete(DEFAULTS)
    rewards = [{"name": options.reward}] if options.reward else config.scoring.rewards
    column = options.column or config.data.reference_column
    texts, counts, owner = [], [], []
    for index, row in enumerate(rows):
        answers = row["completions"]
        if not isinstance(answers, list) or not all(_is_sampled(answer) for answer in answers):
            raise ValueError(
                f"{place_of(rows, index)}: completions must be a list as generate.py writes it."
            )
        texts += [answer["text"] for answer in answers]
        counts += [len(answer["tokens"]) for answer in answers]
        owner += [index] * len(answers)
    if len(set(owner)) < len(rows):
        missing = min(set(range(len(rows))) - set(owner))
        raise ValueError(f"{place_of(rows, missing)}: there is no completion to score.")
    scoring = config.scoring
    with Scorer(
        rewards,
        workers=scoring.workers,
        timeout_seconds=scoring.timeout_seconds,
        memory_mb=scoring.memory_mb,
        failure_reward=scoring.failure_reward,
        max_failed_share=scoring.max_failed_share,
    ) as scorer:
        prompts = [str(rows[index][config.data.prompt_column]) for index in owner]
        golds = [reference_of(rows[index], column) for index in owner]
        found = scorer.score(prompts, texts, golds, counts)
    if found.left_out.any():
        index = owner[int(np.argmax(found.left_out))]
        raise ValueError(f"{place_of(rows, index)}: no reward applies to it (--reward, --config).")
    return (np.bincount(owner, found.total) / np.bincount(owner)).astype(np.float32)


def _is_sampled(answer: Any) -> bool:
    return isinstance(answer, dict) and isinstance(answer.get("text"), str) and "tokens" in answer


def choose(options: argparse.Namespace) -> None:
    """Scores the rows, and writes the chosen ones."""
    check_file(options.out, "--out")
    if options.by not in RULES:
        raise unknown_name("rule", options.by, RULES, "--by")
    config = load_config(options.config) if options.config else complete(DEFAULTS)
    names = reference_columns(options.column or config.data.reference_column)
    kind = kind_of_files(options.samples, "SAMPLES")
    columns = (*names, "completions", config.data.prompt_column)
    rows = open_source(kind, path=options.samples, columns=columns, path_field="SAMPLES")
    if options.keep > len(rows):
        raise ValueError(f"keep={options.keep} of {len(rows)} problems (--keep).")
    scores = mean_scores(rows, options)
    kept = chosen(scores, options.keep, options.by, options.seed)
    lines = []
    for index in kept:
        row = {name: value for name, value in rows[index].items() if name != "completions"}
        lines.append(json.dumps(row | {"score": float(scores[index])}, ensure_ascii=False))
    write_text_atomic(options.out, "".join(f"{line}\n" for line in lines))
    print(
        f"wrote {options.out}: {len(kept)} of {len(rows)} problems, mean score "
        f"{scores[kept].mean():.4f} of {scores.mean():.4f}"
    )


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    add = made.add_argument
    add("samples", type=path, metavar="SAMPLES", help="what generate.py wrote")
    add("--reward", type=named, metavar="NAME", help="the one that scores (config.scoring's)")
    add("--column", type=named, metavar="NAME", help="of gold answers: A, or A,B (reference)")
    add("--config", type=named, metavar="FILE[:ARG]", help="says columns and rewards")
    add("--keep", type=whole(1), required=True, metavar="N", help="problems that are chosen")
    add("--by", type=named, default="lowest", metavar="RULE", help="lowest, highest or random")
    add("--seed", type=whole(0), default=0, metavar="N", help="of --by=random (0)")
    add("--out", type=path, required=True, metavar="FILE", help="the chosen rows, JSON lines")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), choose, arguments)


if __name__ == "__main__":
    sys.exit(main())
