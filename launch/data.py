"""Shows what data files hold, how each gold answer is read, and what preference or supervised sets
are like.

    python launch/data.py problems.jsonl
    python launch/data.py train.parquet --reward=exact_match --column=answer --show=50
    python launch/data.py problems.jsonl --config=configs/mine.py
    python launch/data.py problems.jsonl --tokenizer=FOLDER
    python launch/data.py train.jsonl heldout.jsonl --tokenizer=FOLDER --html=pairs.html

The first one shows columns, prompts, and gold answers as the reward "math" reads them. A config
says which columns, rewards and tokenizer are meant; with a tokenizer the lengths of prompts in
tokens are shown as well.

Of pairs, groups, demonstrations, labelled or scored completions and labelled steps
(data/README.md) it shows lengths, margins, labels, rows that repeat or contradict others, what
truncation costs, and rows in colours; of several files also what they have in common with the
first. --html draws the same as a page. Without a tokenizer lengths are bytes.

Each of FILES is a file, a folder of files or a quoted pattern, as a config's path is: JSONL, or
Parquet where the names end so. The exit status is 1 if a file, a row or a gold
answer cannot be read.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from rich.console import Console
from rich.text import Text

from rljax.commands.parser import Parser, named, path, whole, words
from rljax.commands.paths import check_file
from rljax.commands.run import run
from rljax.commands.statuses import Status
from rljax.config.load import complete, load_config
from rljax.config.validate import validate
from rljax.data.data_files import kind_of_files
from rljax.data.feedback_survey import overlap_remark
from rljax.data.rows import prompt_of, reference_columns, reference_of
from rljax.data.set_view import READERS, SetView, Shown, kind_of_set, view_of
from rljax.data.sources import open_source, place_of
from rljax.data.survey import columns_of, convention_of, quantiles
from rljax.data.text_format import TextFormat
from rljax.data.truncation import Budgets
from rljax.errors import unknown_name
from rljax.reporting.data_page import render_sets
from rljax.reporting.files import write_text_atomic
from rljax.rewards.functions import REWARDS
from rljax.rewards.golds import GOLD_READERS, Refused, read_all
from rljax.rewards.member import parse_rewards
from rljax.training.collect.stage_rows import budgets_of
from rljax.training.run.text_format import make_text_format, settle_tokenizer
from rljax.training.self_check.example import coloured, first_example, legend

# Without a config: any complete one, for the names of its columns and its budget of tokens.
DEFAULTS = {"stages": ("rl",), "rl": {"method": "grpo"}}

# Without a tokenizer: how conversations are written, so that their lengths can be told.
PLAIN_TURNS = {"chat_turn": "{role}: {content}\n", "chat_generation_prompt": "assistant: "}

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
    budgets: Budgets | None  # of the config's stage of feedback


def plan_of(options: argparse.Namespace) -> Plan:
    """Flags before the config, the config before defaults.

    Raises:
        ValueError: for a config that cannot be read, or a reward that is not there.
    """
    config = load_config(options.config) if options.config else complete(DEFAULTS)
    if options.tokenizer:
        config.tokenizer.path = options.tokenizer
    if not (options.config or options.tokenizer):
        config.tokenizer.update(PLAIN_TURNS)
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
        budgets=budgets_in(config) if options.config else None,
    )


def budgets_in(config: ConfigDict) -> Budgets | None:
    """What the first stage that learns from feedback has room for."""
    stages = (stage for stage in validate(config) if "max_completion_tokens" in stage.data)
    return next((budgets_of(config, stage) for stage in stages), None)


class Described(NamedTuple):
    """What was found in a file."""

    fine: bool  # everything could be read
    rows: int
    view: SetView | None


def describe(path: Path, plan: Plan) -> Described:
    """Prints what a file holds.

    Raises:
        ValueError: for a file that cannot be read.
    """
    rows = open_source(kind_of_files(path, "FILES"), path=path, path_field="FILES")
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
    kind, text_format = kind_of_set(columns), None
    if kind is not None or plan.lengths:
        text_format = text_format_of(plan)
    fine, view = True, None
    # A pair or a conversation may do without the column.
    nulls = next((c.kinds["null"] for c in columns if c.name == plan.prompt), len(rows))
    if plan.lengths and nulls < (1 if kind else len(rows)):
        fine = print_lengths(rows, plan, text_format)
    if kind is not None:
        view = view_of(rows, kind, text_format, budgets=plan.budgets)
        print_view(view, plan)
        fine = fine and not view.refused
    missing = [name for name in reference_columns(plan.reference) if name not in names]
    if not missing:
        fine = all([fine, *(print_golds(rows, reward, plan) for reward in plan.rewards)])
    elif kind is None:
        print(f"No column {missing[0]!r}: no gold answers (--column).")
    return Described(fine, len(rows), view)


def text_format_of(plan: Plan) -> TextFormat:
    """How rows become tokens.

    Raises:
        ValueError: for a tokenizer that cannot be used.
    """
    return make_text_format(settle_tokenizer(plan.config))


def print_view(view: SetView, plan: Plan) -> None:
    """Prints a set of feedback or demonstrations."""
    print(f"rows are {view.kind}\n")
    for remark in view.remarks:
        print(f"- {remark}")
    if view.remarks:
        print()
    if view.refused:
        print(f"{len(view.refused)} rows are refused; the first ones:")
        print("\n".join(view.refused[: max(plan.show, 1)]) + "\n")
    for table in view.tables:
        print(f"{table.title}\n")
        print_table(table.head, table.rows)
    for bars in view.bars:
        print_table((bars.title, "rows"), bars.counts)


def print_lengths(rows: Sequence[dict[str, Any]], plan: Plan, text_format: TextFormat) -> bool:
    """Lengths of the prompts in tokens; returns whether all prompts can be read."""
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
    add("files", nargs="+", type=path, metavar="FILES", help="files, folders or patterns")
    add("--reward", type=words, default=(), metavar="A,B", help="that read the golds (math)")
    add("--column", type=named, metavar="NAME", help="of gold answers: A, or A,B (reference)")
    add("--config", type=named, metavar="FILE[:ARG]", help="says columns, rewards and tokenizer")
    add("--tokenizer", type=named, metavar="DIR", help="or byte: shows lengths in tokens")
    add("--html", type=path, metavar="FILE", help="draws the sets as a page")
    add("--show", type=whole(0), default=20, metavar="N", help="rows of a table (20)")
    return made


def show(options: argparse.Namespace) -> int:
    """Describes all files; 1 if a row or a gold answer cannot be read."""
    if hasattr(sys.stdout, "reconfigure"):  # a console that lacks a sign shows its code
        sys.stdout.reconfigure(errors="backslashreplace")
    if options.html is not None:
        check_file(options.html, "--html")
    plan = plan_of(options)
    found = {file: describe(file, plan) for file in options.files}
    sets = {file: each for file, each in found.items() if each.view is not None}
    overlaps = print_overlaps(sets)
    if sets:
        text_format = text_format_of(plan)
        for file, each in sets.items():
            print_shown(file, each.view.shown, text_format)
    if options.html is not None:
        if not sets:
            raise ValueError(
                f"No file holds {', '.join(READERS)}: there is nothing to draw (--html)."
            )
        write_text_atomic(options.html, page_of(sets, overlaps, text_format, plan.show))
        print(f"wrote {options.html}")
    return Status.DONE if all(each.fine for each in found.values()) else Status.FAILED


def print_overlaps(sets: Mapping[Path, Described]) -> dict[Path, list[str]]:
    """Says what each further set has in common with the first one, the training set."""
    overlaps: dict[Path, list[str]] = {}
    for file, each in list(sets.items())[1:]:
        first = next(iter(sets.values()))
        overlaps[file] = overlap_remark(first.view.survey, each.view.survey)
        for remark in overlaps[file]:
            print(f"{file}: {remark}\n")
    return overlaps


def print_shown(file: Path, shown: Sequence[Shown], text_format: TextFormat) -> None:
    """Prints rows of a set in colours."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text.assemble(f"{file}: rows as ", legend()))
    for one in shown:
        console.print(Text(f"\n{one.title}", style="bold"))
        console.print(coloured(example(one, text_format)))
    console.print()


def example(shown: Shown, text_format: TextFormat) -> dict[str, Any]:
    """A row as the report shows examples."""
    return first_example([(np.asarray(shown.tokens), np.asarray(shown.learned))], text_format)


def page_of(
    sets: Mapping[Path, Described],
    overlaps: Mapping[Path, list[str]],
    text_format: TextFormat,
    show: int,
) -> str:
    """The page of the sets, with at most so many errors of rows."""
    drawn = []
    for file, each in sets.items():
        view = each.view
        drawn.append(
            {
                "name": file.name,
                "facts": facts_of(each),
                "remarks": [*view.remarks, *overlaps.get(file, ())],
                "refused": view.refused[:show],
                "tables": view.tables,
                "curves": view.curves,
                "bars": view.bars,
                "examples": [(one.title, example(one, text_format)) for one in view.shown],
            }
        )
    return render_sets(drawn)


def facts_of(found: Described) -> list[tuple[str, str]]:
    """The figures at the head of the page."""
    survey = found.view.survey
    return [
        ("rows", f"{found.rows:,}"),
        ("kind", found.view.kind),
        ("refused", f"{len(found.view.refused):,}"),
        ("repeat others", f"{len(survey.duplicates):,}"),
        ("contradict others", f"{len(survey.contradictions):,}"),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), show, arguments)


if __name__ == "__main__":
    sys.exit(main())
