"""A preference or supervised set at a glance: tables, curves, bars and rows to look at.

What is here is plain (texts, numbers, ids): a command prints it, a page draws it
(reporting/data_page.py).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rljax.data.conversations import WHOLE
from rljax.data.feedback import answered_of, groups_of, labelled_of, scored_of, stepwise_of
from rljax.data.feedback_survey import FeedbackSurvey, Row, short_place
from rljax.data.pairs import SIDES, Pair, pair_of
from rljax.data.rows import Record
from rljax.data.sources import place_of
from rljax.data.survey import Column, quantiles
from rljax.data.text_format import TextFormat
from rljax.data.truncation import TRUNCATIONS, Budgets, Losses, fitting_prompt

# Kind of a set -> how a row of it is read.
READERS: dict[str, Callable[..., Row]] = {
    "pairs": pair_of,
    "groups": groups_of,
    "labelled steps": stepwise_of,
    "scored completions": scored_of,
    "labelled completions": labelled_of,
    "demonstrations": answered_of,
}

# Rows whose ids are compared with those of the whole text.
COMPARED = 64

BINS = 24  # of a curve
BARS = 8  # of margins


class Table(NamedTuple):
    """Rows of cells under their heads."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[object, ...]]


class Curves(NamedTuple):
    """How many values there are in each of some bins, for several series."""

    title: str
    meaning: str
    starts: list[int]  # of the bins
    counts: dict[str, list[int]]


class Bars(NamedTuple):
    """Counts by what they are of."""

    title: str
    counts: list[tuple[str, int]]


class Shown(NamedTuple):
    """A sequence to look at."""

    title: str
    tokens: list[int]
    learned: list[bool]


class SetView(NamedTuple):
    """A set at a glance.

    Attributes:
        kind: one of `READERS`.
        remarks: what should be known before training.
        refused: errors of rows that cannot be read.
        survey: to be compared with that of another set.
    """

    kind: str
    remarks: list[str]
    refused: list[str]
    tables: list[Table]
    curves: list[Curves]
    bars: list[Bars]
    shown: list[Shown]
    survey: FeedbackSurvey


def kind_of_set(columns: Iterable[Column]) -> str | None:
    """What kind of rows a file has; None where nothing answers a prompt."""
    examples = {column.name: column.example for column in columns}
    whole = any(name in examples for name in WHOLE)
    if all(side in examples for side in SIDES):
        return "groups" if all(_of_answers(examples[side]) for side in SIDES) else "pairs"
    if "completions" in examples:
        values = examples["completions"]
        objects = isinstance(values, list) and all(isinstance(each, Mapping) for each in values)
        if "labels" in examples:
            return "labelled steps"
        return "scored completions" if "scores" in examples or objects else None
    if "completion" not in examples and not whole:
        return None
    return "labelled completions" if "label" in examples else "demonstrations"


def _of_answers(value: Any) -> bool:
    """Whether a side holds several answers, and not the messages of a single one."""
    return isinstance(value, list) and bool(value) and not isinstance(value[0], Mapping)


def view_of(
    records: Sequence[Record],
    kind: str,
    text_format: TextFormat,
    *,
    budgets: Budgets | None = None,
) -> SetView:
    """Looks at every row of a set.

    Args:
        records: of a source.
        kind: one of `READERS`.
        text_format: says how they become tokens.
        budgets: of the stage that is to learn from them, where there is one.
    """
    survey, refused, rows, places = FeedbackSurvey(), [], [], []
    for index in range(len(records)):
        where = place_of(records, index)
        try:
            row = _read(records, kind, text_format, index)
        except ValueError as error:
            refused.append(str(error))
            continue
        survey.add(row)
        rows.append(Lengths.of(row))
        places.append(index)
    if not rows:
        return SetView(kind, [], refused, [], [], [], [], survey)
    where = [place_of(records, index) for index in places]
    remarks = survey.remarks(where.__getitem__)
    if (refusal := survey.refusal()) is not None:
        remarks.insert(0, refusal)
    tables = [lengths_table(rows), cost_table(rows)]
    if budgets is not None:
        tables.append(rules_table(rows, budgets))
    bars = [Bars("margins", binned(survey.margins))] if survey.margins else []
    if sum(survey.labels):
        bars.append(Bars("labels", [("wrong", survey.labels[0]), ("right", survey.labels[1])]))
    shown = []
    for place, what in to_show(rows, survey).items():
        title = f"{short_place(where[place])} ({', '.join(what)})"
        shown += _sequences(_read(records, kind, text_format, places[place]), title)
    return SetView(kind, remarks, refused, tables, [length_curves(rows)], bars, shown, survey)


class Lengths(NamedTuple):
    """Tokens of a row."""

    prompt: int
    answers: dict[str, int]

    @classmethod
    def of(cls, row: Row) -> "Lengths":
        """The lengths of a row; only the sides of a pair have names of their own."""
        lengths = {name: len(ids) for name, ids in row.answers().items()}
        named = lengths if isinstance(row, Pair) else {"answer": max(lengths.values())}
        return cls(len(row.prompt), named)

    @property
    def longest(self) -> int:
        """Tokens of the longest answer."""
        return max(self.answers.values())


def lengths_table(rows: Sequence[Lengths]) -> Table:
    """Quantiles of the lengths of prompts and answers; of pairs, which side is longer."""
    named = {"prompt": [row.prompt for row in rows]}
    for name in rows[0].answers:
        named[name] = [row.answers[name] for row in rows]
    found = {name: quantiles(lengths) for name, lengths in named.items()}
    head = ("tokens", *found)
    cells = [(what, *(each[what] for each in found.values())) for what in found["prompt"]]
    if set(SIDES) <= set(named):
        apart = [row.answers[SIDES[0]] - row.answers[SIDES[1]] for row in rows]
        longer, shorter = sum(n > 0 for n in apart), sum(n < 0 for n in apart)
        cells.append(("longer than the other side", "", longer, shorter))
    return Table("lengths", head, cells)


def cost_table(rows: Sequence[Lengths]) -> Table:
    """For limits that are powers of two: what cutting prompts costs, and who has to stay away."""
    longest = max(max(row.prompt, row.longest) for row in rows)
    last = max(longest - 1, 1).bit_length()
    cells = []
    for limit in (2**power for power in range(max(0, last - 6), last + 1)):
        beyond = [row.prompt - limit for row in rows if row.prompt > limit]
        answers = sum(row.longest > limit for row in rows)
        cells.append((limit, len(beyond), sum(beyond), answers))
    head = ("room for tokens", "longer prompts", "tokens cut off them", "rows with a longer answer")
    return Table("what truncation costs", head, cells)


def rules_table(rows: Sequence[Lengths], budgets: Budgets) -> Table:
    """For each rule of data/truncation.py: what it costs with the room that a stage has."""
    cells = []
    for rule in TRUNCATIONS:
        losses, refused = Losses(), 0
        for row in rows:
            answers = {name: range(count) for name, count in row.answers.items()}
            prompt = range(row.prompt)
            try:
                kept = fitting_prompt(prompt, answers, budgets, rule, bos_id=None, where="a row")
            except ValueError:
                refused += 1
                continue
            losses.add(prompt, kept)
        cells.append((rule, refused, losses.left_out, losses.cut, losses.lost))
    room = f"{budgets.prompt} tokens of a prompt, {budgets.answer} of an answer"
    head = ("truncation", "rows refused", "rows left out", "prompts cut", "tokens lost")
    return Table(f"what each rule costs with room for {room}", head, cells)


def length_curves(rows: Sequence[Lengths]) -> Curves:
    """How many prompts and answers there are of each length."""
    series = {"prompt": [row.prompt for row in rows]}
    for name in rows[0].answers:
        series[name] = [row.answers[name] for row in rows]
    width = max(1, -(-(max(map(max, series.values())) + 1) // BINS))
    counts = {
        name: np.bincount(np.asarray(values) // width, minlength=BINS)[:BINS].tolist()
        for name, values in series.items()
    }
    starts = [number * width for number in range(BINS)]
    return Curves("lengths", f"rows by tokens, {width} to a bin", starts, counts)


def binned(values: Sequence[float]) -> list[tuple[str, int]]:
    """Counts of numbers in `BARS` bins of one width, each named by its interval."""
    low, high = min(values), max(values)
    if low == high:
        return [(f"{low:g}", len(values))]
    counts, edges = np.histogram(values, bins=BARS)
    names = [f"{a:.4g} to {b:.4g}" for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return list(zip(names, counts.tolist(), strict=True))


def to_show(rows: Sequence[Lengths], survey: FeedbackSurvey) -> dict[int, list[str]]:
    """Rows worth a look, by their index among those that can be read, and what they show."""
    total = [row.prompt + row.longest for row in rows]
    found = {"the first one": 0, "the longest one": total.index(max(total))}
    for what, pairs in (("repeat", survey.duplicates), ("contradict", survey.contradictions)):
        for place, earlier in pairs[:1]:
            found[f"{what}s another one"] = place
            found[f"{what}ed"] = earlier
    if len(survey.margins) == len(rows):
        found["the least margin"] = survey.margins.index(min(survey.margins))
    shown: dict[int, list[str]] = {}
    for what, place in found.items():
        shown.setdefault(place, []).append(what)
    return shown


def _read(records: Sequence[Record], kind: str, text_format: TextFormat, index: int) -> Row:
    where = place_of(records, index)
    compare = index < COMPARED
    return READERS[kind](
        records[index], text_format, where=where, field="FILES", check_whole=compare
    )


def _sequences(row: Row, title: str) -> list[Shown]:
    answers: Mapping[str, Any] = row.answers()
    return [
        Shown(
            f"{title}, {name}",
            [*row.prompt, *ids],
            [False] * len(row.prompt) + [True] * len(ids),
        )
        for name, ids in answers.items()
    ]
