"""Shows what data files hold, and how each gold answer is read.

    python launch/data.py problems.jsonl
    python launch/data.py train.parquet --reward=exact_match --column=answer --show=50
    python launch/data.py problems.jsonl --config=configs/mine.py
    python launch/data.py problems.jsonl --tokenizer=FOLDER

The first one shows columns, prompts, and gold answers as the reward "math" reads them. A config
says which columns, rewards and tokenizer are meant; with a tokenizer the lengths of prompts in
tokens are shown as well.

Files are JSONL, or Parquet where the name ends so. The exit status is 1 if a file, a prompt or a
gold answer cannot be read.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from rljax.commands.parser import Parser, named, path, whole, words
from rljax.commands.run import run
from rljax.commands.statuses import Status
from rljax.config.load import complete, load_config
from rljax.data.rows import prompt_of, reference_columns, reference_of
from rljax.data.sources import open_source, place_of
from rljax.data.survey import columns_of, convention_of, quantiles
from rljax.errors import unknown_name
from rljax.rewards.compose import parse_rewards
from rljax.rewards.functions import REWARDS
from rljax.rewards.golds import GOLD_READERS, Refused, read_all
from rljax.training.run.text_format import make_text_format, settle_tokenizer

# Without a config: any complete one, for the names of its columns and its budget of tokens.
DEFAULTS = {"stages": ("rl",), "rl": {"method": "grpo"}}

# Characters of a value that are shown.
WIDTH = 48


class Plan(NamedTuple):
    """What is looked at."""

    config: ConfigDict
    rewards: tuple[str, ...]
    prompt: str
    reference: str
    lengths: bool  # in tokens
    show: int


def plan_of(options: argparse.Namespace) -> Plan:
    """Flags before the config, the config before defaults.

    Raises:
        ValueError: for a config that cannot be read, or a reward that is not there.
    """
    config = load_config(options.config) if options.config else complete(DEFAULTS)
    if options.tokenizer:
        config.tokenizer.path = options.tokenizer
    rewards = ["math"]
    if options.config:
        rewards = [member.name for member in parse_rewards(config.scoring.rewards)]
    if options.reward:
        rewards = list(options.reward)
    for name in rewards:
        if name not in REWARDS and ":" not in name:
            raise unknown_name("reward", name, REWARDS, "--reward")
    return Plan(
        config=config,
        rewards=tuple(rewards),
        prompt=config.data.prompt_column,
        reference=options.column or config.data.reference_column,
        lengths=bool(options.config or options.tokenizer),
        show=options.show,
    )


def describe(path: Path, plan: Plan) -> bool:
    """Prints what a file holds; returns whether all of its gold answers can be read.

    Raises:
        ValueError: for a file that cannot be read.
    """
    kind = "parquet" if path.suffix == ".parquet" else "jsonl"
    rows = open_source(kind, path=path, path_field="FILES")
    print(f"{path}: {len(rows)} rows\n")
    columns = columns_of(rows)
    print_table(
        ("column", "types", "first value"),
        [(c.name, counted(c.kinds), short(c.example)) for c in columns],
    )
    names = [column.name for column in columns]
    if plan.prompt in names:
        counts = Counter(convention_of(row.get(plan.prompt)) for row in rows)
        print_table(("prompts", "rows"), counts.most_common(plan.show))
    fine = print_lengths(rows, plan) if plan.lengths and plan.prompt in names else True
    missing = [name for name in reference_columns(plan.reference) if name not in names]
    if missing:
        print(f"No column {missing[0]!r}: no gold answers (--column).")
        return fine
    return all([fine, *(print_golds(rows, reward, plan) for reward in plan.rewards)])


def print_lengths(rows: Sequence[dict[str, Any]], plan: Plan) -> bool:
    """Lengths of the prompts in tokens; returns whether all prompts can be read.

    Raises:
        ValueError: for a tokenizer that cannot be used.
    """
    text_format = make_text_format(settle_tokenizer(plan.config))
    lengths, problems = [], []
    for index, row in enumerate(rows):
        where = place_of(rows, index)
        try:
            lengths.append(len(prompt_of(row, text_format, where=where, column=plan.prompt).tokens))
        except ValueError as error:
            problems.append(str(error))
    if lengths:
        print_table(("tokens of a prompt", ""), quantiles(lengths).items())
        budget = plan.config.data.max_prompt_tokens
        beyond = sum(length > budget for length in lengths)
        print(
            f"{beyond} of {len(lengths)} have more than {budget} (config.data.max_prompt_tokens)\n"
        )
    if problems:
        print(f"{len(problems)} of {len(rows)} prompts cannot be read; the first one:")
        print(f"{problems[0]}\n")
    return not problems


def print_golds(rows: Sequence[dict[str, Any]], reward: str, plan: Plan) -> bool:
    """How a reward reads the golds: rows, counts, and what it refuses; returns whether nothing."""
    if reward not in GOLD_READERS:
        print(f"The reward {reward!r} brings no reader of gold answers.\n")
        return True
    columns = reference_columns(plan.reference)
    filled = [{**dict.fromkeys(columns), **row} for row in rows]
    references = [reference_of(row, plan.reference) for row in filled]
    golds = list(read_all(reward, references))
    read = [(i, gold) for i, gold in enumerate(golds) if not isinstance(gold, Refused)]
    refused = [gold for gold in golds if isinstance(gold, Refused)]
    print_table(
        ("row", "gold as written", f"as {reward!r} reads it", "rule"),
        [
            (place_of(rows, i).rpartition(", ")[2], short(references[i]), cut(g.shown), g.rule)
            for i, g in read[: plan.show]
        ],
    )
    print_table(("rule", "rows"), Counter(gold.rule for _, gold in read).most_common())
    if refused:
        print(f"{len(refused)} of {len(rows)} gold answers cannot be read by {reward!r}:\n")
        print_table(
            ("row", "gold as written", "why"),
            [
                (place_of(rows, r.row).rpartition(", ")[2], short(r.reference), r.reason)
                for r in refused[: max(plan.show, 1)]
            ],
        )
    return not refused


def counted(counts: Counter[str]) -> str:
    """The types of a column, the most frequent one first."""
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())


def short(value: Any) -> str:
    """A value as Python writes it, cut in its middle."""
    return cut(repr(value))


def cut(text: str) -> str:
    """A text on one line, cut in its middle."""
    text = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 20]} ... {text[-14:]}"


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns under their heads, as wide as needed; nothing where there are no rows."""
    lines = [[str(cell) for cell in row] for row in rows]
    if not lines:
        return
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    for line in [list(head), ["-" * width for width in widths], *lines]:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        print("  ".join(cells).rstrip())
    print()


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    add = made.add_argument
    add("files", nargs="+", type=path, metavar="FILES", help="JSONL, or Parquet by their names")
    add("--reward", type=words, default=(), metavar="A,B", help="that read the golds (math)")
    add("--column", type=named, metavar="NAME", help="of gold answers: A, or A,B (reference)")
    add("--config", type=named, metavar="FILE[:ARG]", help="says columns, rewards and tokenizer")
    add("--tokenizer", type=named, metavar="DIR", help="or byte: shows lengths in tokens")
    add("--show", type=whole(0), default=20, metavar="N", help="rows of a table (20)")
    return made


def show(options: argparse.Namespace) -> int:
    """Describes all files; 1 if a prompt or a gold answer cannot be read."""
    if hasattr(sys.stdout, "reconfigure"):  # a console that lacks a sign shows its code
        sys.stdout.reconfigure(errors="backslashreplace")
    plan = plan_of(options)
    fine = [describe(path, plan) for path in options.files]
    return Status.DONE if all(fine) else Status.FAILED


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), show, arguments)


if __name__ == "__main__":
    sys.exit(main())
