"""The problems of a run: opened, and their prompts read, before anything compiles."""

import functools
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from rljax.data.encode import check_length
from rljax.data.rows import prompt_of, reference_columns, reference_of
from rljax.data.sources import Part, ProblemSource, open_source, place_of
from rljax.data.text_format import TextFormat
from rljax.environments.problems import EnvironmentProblems, MadeRecords
from rljax.environments.table import find_environment
from rljax.remarks import say_once
from rljax.rewards.golds import check_golds, counted
from rljax.rewards.member import FIELD, parse_rewards
from rljax.tasks.reasoning_gym import splits
from rljax.tasks.seeds import check_seeds_apart
from rljax.tasks.symbols.records import symbol_splits

Record = dict[str, Any]

BUDGET = "config.data.max_prompt_tokens"

# Kinds of data whose problems are made, not read.
GENERATED = ("reasoning_gym", "symbols", "environment")

# Generated training problems looked at before anything compiles; files are looked at whole.
CHECKED_PROBLEMS = 1000

# Rows of a file whose ids are compared with those of the whole text.
CHECKED_ROWS = 64


def prompt_column(config: ConfigDict) -> str:
    """The column of problems that holds the prompt."""
    made = config.data.kind in GENERATED or config.environment.name
    return "prompt" if made else config.data.prompt_column


def is_generated(records: Sequence[Record]) -> bool:
    """Whether problems are made when they are asked for."""
    inner = records.problems if isinstance(records, EnvironmentProblems) else records
    return isinstance(inner, ProblemSource | MadeRecords)


def checked_count(records: Sequence[Record]) -> int:
    """How many records are checked at the start: files whole, generated problems in part."""
    generated = is_generated(records)
    return min(len(records), CHECKED_PROBLEMS) if generated else len(records)


def checked_records(problems: Sequence[Record]) -> list[Record]:
    """The problems that are checked at the start, each with its stable "id"."""
    return [{**problems[index], "id": index} for index in range(checked_count(problems))]


def checks_whole(config: ConfigDict, index: int) -> bool:
    """Whether the ids of a row are compared with those of its whole text: of the first rows."""
    return config.checks.tokens and index < CHECKED_ROWS


def checked_problems(
    config: ConfigDict, text_format: TextFormat
) -> tuple[Sequence[Record], Sequence[Record]]:
    """Training and held-out problems.

    Raises:
        ValueError: for a prompt that cannot be read, or one that is too long and not dropped; if
            none is left; for a gold answer that a reward cannot read.
    """
    train, heldout = open_problems(config)
    if name := config.environment.name:
        environment = find_environment(name, config.environment.options.to_dict())
        train, heldout = (EnvironmentProblems(environment, each) for each in (train, heldout))
    count = min(len(heldout), config.data.heldout_size)
    train = _that_fit(train, checked_count(train), "training", text_format, config)
    heldout = _that_fit(heldout, count, "held-out", text_format, config)
    for problems, what in ((train, "training"), (heldout, "held-out")):
        _read_golds(problems, what, config)
    return train, heldout


def _read_golds(problems: Sequence[Record], what: str, config: ConfigDict) -> None:
    """Says how the gold answers of a file are read; generated ones are as they should be."""
    if config.data.kind in GENERATED:
        return
    references = [reference_of(record, config.data.reference_column) for record in problems]
    for member in parse_rewards(config.scoring.rewards):
        rows = [row for row, one in enumerate(references) if member.applies_to(one)]
        if not rows and what == "training":
            raise ValueError(
                f"The reward {member.label!r} applies to none of {len(problems)} training problems "
                f"({FIELD}[{member.label}].where, {member.where!r})."
            )
        own = [references[row] for row in rows]
        places = functools.partial(_place, problems, rows)
        counts = check_golds([member.name], own, places)
        for line in counted(counts, what):
            say_once(line)


def _place(problems: Sequence[Record], rows: Sequence[int], place: int) -> str:
    return place_of(problems, rows[place])


def _that_fit(
    problems: Sequence[Record],
    count: int,
    what: str,
    text_format: TextFormat,
    config: ConfigDict,
) -> Sequence[Record]:
    """The source, of whose first problems those are dropped whose prompt is too long."""
    column, budget, field = prompt_column(config), config.data.max_prompt_tokens, BUDGET
    dropping = config.data.overlong == "drop" and not is_generated(problems)
    if not is_generated(problems):
        field += "; config.data.overlong='drop' leaves it out"
    kept = []
    for index in range(count):
        where = place_of(problems, index)
        tokens = prompt_of(problems[index], text_format, where=where, column=column).tokens
        if not dropping:
            check_length(tokens, budget, f"The prompt of {where}", field)
        if len(tokens) <= budget:
            kept.append(index)
    if len(kept) == count:
        return problems
    said = f"{count - len(kept)} of {count} {what} prompts have more than {budget} tokens"
    if not kept:
        raise ValueError(f"{said}: none is left ({BUDGET}).")
    say_once(f"{said} and are left out (config.data.overlong)")
    return Part(problems, kept)


def open_problems(config: ConfigDict) -> tuple[Sequence[Record], Sequence[Record]]:
    """Training and held-out problems as random-access records."""
    data = config.data
    if data.kind == "environment":
        name, options = config.environment.name, config.environment.options.to_dict()
        environment = find_environment(name, options)
        names = ("train_seed", "train_size", "heldout_seed", "heldout_size")
        check_seeds_apart(**{name: data[name] for name in names})
        return (
            MadeRecords(environment, first_seed=data.train_seed, size=data.train_size),
            MadeRecords(environment, first_seed=data.heldout_seed, size=data.heldout_size),
        )
    if data.kind == "reasoning_gym":
        train, heldout = splits(
            [dict(task) for task in data.tasks],
            train_seed=data.train_seed,
            heldout_seed=data.heldout_seed,
            train_size=data.train_size,
            heldout_size=data.heldout_size,
            prompt_pattern=data.prompt_pattern or None,
            answer_template=data.answer_template,
            worked_share=data.worked_share,
        )
        return ProblemSource(train), ProblemSource(heldout)
    if data.kind == "symbols":
        if len(data.tasks) != 1:
            raise ValueError(
                f"kind='symbols' runs one task, got {len(data.tasks)} (config.data.tasks)."
            )
        train, heldout = symbol_splits(
            dict(data.tasks[0]),
            train_seed=data.train_seed,
            heldout_seed=data.heldout_seed,
            train_size=data.train_size,
            heldout_size=data.heldout_size,
        )
        return ProblemSource(train), ProblemSource(heldout)
    references = reference_columns(data.reference_column)
    columns = {"chat_columns": (data.prompt_column,), "columns": references}
    train = open_source(data.kind, path=data.path or None, **columns)
    heldout = open_source(
        data.kind,
        path=data.heldout_path or None,
        path_field="config.data.heldout_path",
        **columns,
    )
    return train, heldout
