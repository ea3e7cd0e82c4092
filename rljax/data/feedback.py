"""Rows of feedback beside pairs: a labelled completion, groups, scored completions, labelled steps.

    labelled    prompt, completion, label                 KTO, binary reward models
    groups      prompt, several chosen, several rejected  mDPO, mIPO
    scored      prompt, K completions, K scores           ranking, regression, off-policy gradients
    stepwise    prompt, the steps of an answer, a label for each      process rewards

Prompts and completions are texts or messages, as everywhere (data/rows.py). The column names are
those of TRL's dataset types; of UltraFeedback, which keeps a completion and its score in one
object, the names are read as well.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rljax.data.conversations import without_nulls
from rljax.data.pairs import SIDES, explicit_prompt
from rljax.data.rows import Record, answer_of, answered_prompt, column_of, prompt_of
from rljax.data.sources import place_of
from rljax.data.text_format import PROMPTS, Prompt, TextFormat
from rljax.data.values import UnusableRow, label_of, number_of, said, token_ids
from rljax.errors import typed

# Keys of an object that holds a completion and its score.
COMPLETION_KEYS = ("completion", "response")
SCORE_KEYS = ("score", "overall_score")

# Columns of the prompt of scored completions: the field's, and UltraFeedback's.
SCORED_PROMPTS = ("prompt", "instruction")

# What stands between two steps of an answer.
STEP_SEPARATOR = "\n"


class Demonstration(NamedTuple):
    """A demonstration: a prompt and the answer to it, as ids with its end."""

    prompt: list[int]
    completion: list[int]

    def answers(self) -> dict[str, list[int]]:
        """The one answer, by its column."""
        return {"completion": self.completion}


class Labelled(NamedTuple):
    """An answer that is desired or not, as ids with its end."""

    prompt: list[int]
    completion: list[int]
    label: bool

    def answers(self) -> dict[str, list[int]]:
        """The one answer, by its column."""
        return {"completion": self.completion}


class Groups(NamedTuple):
    """Two groups of answers to a prompt, as ids with their ends; the first group is preferred."""

    prompt: list[int]
    chosen: list[list[int]]
    rejected: list[list[int]]

    def answers(self) -> dict[str, list[int]]:
        """All answers, by their group and number."""
        named = dict(zip(SIDES, (self.chosen, self.rejected), strict=True))
        return {
            f"{side} {number}": ids
            for side, group in named.items()
            for number, ids in enumerate(group)
        }


class Scored(NamedTuple):
    """K answers to a prompt, as ids with their ends, and a score for each."""

    prompt: list[int]
    completions: list[list[int]]
    scores: list[float]

    def answers(self) -> dict[str, list[int]]:
        """All answers, by their numbers."""
        return {f"completion {number}": ids for number, ids in enumerate(self.completions)}


class Stepwise(NamedTuple):
    """An answer in steps.

    Attributes:
        prompt: ids.
        completion: ids of the whole answer, with the one that ends it.
        ends: step k is `completion[ends[k - 1] : ends[k]]`, the first one begins at 0; its last
            token is at `ends[k] - 1`. What the chat template writes around an answer belongs to
            the first step, or comes after the last one.
        labels: whether each step is right.
        outcome: whether the whole answer is right; None where the row does not say.
    """

    prompt: list[int]
    completion: list[int]
    ends: list[int]
    labels: list[bool]
    outcome: bool | None

    def answers(self) -> dict[str, list[int]]:
        """The one answer, all steps of it together."""
        return {"completion": self.completion}


def answered_of(
    record: Record,
    text_format: TextFormat,
    *,
    where: str,
    field: str = PROMPTS,
    check_whole: bool = False,
) -> Demonstration:
    """The prompt of a row and its answer: prompt and completion, or messages.

    Args:
        record: of a source.
        text_format: of the run.
        where: file and row, for errors.
        field: the config field of the file, for errors.
        check_whole: compare the ids with those of the whole text.

    Raises:
        ValueError: for a row that cannot be read, or an empty answer.
    """
    prompt, answer = answered_prompt(record, text_format, where=where, field=field)
    completion = text_format.completion(prompt, said(answer, f"{where}: the completion"), where)
    if check_whole:
        text_format.check_whole(prompt, answer, completion, where)
    return Demonstration(prompt.tokens, completion)


def labelled_of(
    record: Record,
    text_format: TextFormat,
    *,
    where: str,
    field: str = PROMPTS,
    check_whole: bool = False,
) -> Labelled:
    """The labelled completion of a row: prompt, completion and label, or messages and label.

    Args:
        record: of a source. Columns prompt_tokens and completion_tokens are taken as they are.
        text_format: of the run.
        where: file and row, for errors.
        field: the config field of the file, for errors.
        check_whole: compare the ids with those of the whole text.

    Raises:
        ValueError: for a row that cannot be read, or a label that is neither true nor false.
    """
    label = label_of(column_of(record, "label", where), f"{where}: the column 'label'")
    names = ("prompt_tokens", "completion_tokens")
    if all(isinstance(record.get(name), list) for name in names):
        return Labelled(*(token_ids(record[name], f"{where}: {name}") for name in names), label)
    read = answered_of(record, text_format, where=where, field=field, check_whole=check_whole)
    return Labelled(*read, label)


def scored_of(
    record: Record,
    text_format: TextFormat,
    *,
    where: str,
    field: str = PROMPTS,
    at_least: int = 1,
    check_whole: bool = False,
) -> Scored:
    """The scored completions of a row.

    Args:
        record: with a prompt, and the columns completions and scores, two lists; or completions as
            a list of objects with a text and a score (`COMPLETION_KEYS`, `SCORE_KEYS`). Columns
            prompt_tokens and completions_tokens are taken as they are.
        text_format: of the run.
        where: file and row, for errors.
        field: the config field of the file, for errors.
        at_least: how many completions a row must have.
        check_whole: compare the ids with those of the whole texts.

    Raises:
        ValueError: for a row that cannot be read, a score that is missing or not finite, another
            number of scores than of completions.
    """
    ids = record.get("prompt_tokens"), record.get("completions_tokens")
    if all(isinstance(value, list) for value in ids):
        prompt_ids = token_ids(ids[0], f"{where}: prompt_tokens")
        completions = _ids_of_answers(record, "completions_tokens", at_least, where)
        return Scored(prompt_ids, completions, _scores(record, len(completions), where))
    values, scores = _completions_and_scores(record, at_least, where)
    column = next((name for name in SCORED_PROMPTS if record.get(name) is not None), "prompt")
    prompt = prompt_of(record, text_format, where=where, column=column, field=field)
    places = f"{where}: completion"
    completions = _answers(values, prompt, text_format, places, check_whole=check_whole)
    return Scored(prompt.tokens, completions, scores)


def groups_of(
    record: Record,
    text_format: TextFormat,
    *,
    where: str,
    field: str = PROMPTS,
    check_whole: bool = False,
) -> Groups:
    """The two groups of a row: the columns prompt, chosen and rejected, the latter two lists.

    Args:
        record: of a source. The lists hold texts or messages of the assistant, an answer each; a
            text alone is no list. Columns prompt_tokens, chosen_tokens and rejected_tokens, of
            which the latter two hold a list for each answer, are taken as they are.
        text_format: of the run.
        where: file and row, for errors.
        field: the config field of the file, for errors.
        check_whole: compare the ids with those of the whole texts.

    Raises:
        ValueError: for a row that cannot be read, or a group without a member.
        UnusableRow: for an empty answer, or two groups of the same answers.
    """
    if all(isinstance(record.get(f"{name}_tokens"), list) for name in ("prompt", *SIDES)):
        prompt_ids = token_ids(record["prompt_tokens"], f"{where}: prompt_tokens")
        groups = [_ids_of_answers(record, f"{side}_tokens", 1, where) for side in SIDES]
        return _different(Groups(prompt_ids, *groups), where)
    sides = [_list_of(record, side, 1, where) for side in SIDES]
    prompt = prompt_of(record, text_format, where=where, field=field)
    groups = [
        _answers(
            [[value] if isinstance(value, Mapping) else value for value in values],
            prompt,
            text_format,
            f"{where}: {side}",
            check_whole=check_whole,
        )
        for side, values in zip(SIDES, sides, strict=True)
    ]
    return _different(Groups(prompt.tokens, *groups), where)


def stepwise_of(
    record: Record,
    text_format: TextFormat,
    *,
    where: str,
    field: str = PROMPTS,
    separator: str = STEP_SEPARATOR,
    check_whole: bool = False,
) -> Stepwise:
    """The labelled steps of a row: the columns prompt, completions and labels, as TRL names them.

    A column `label`, where there is one, says whether the whole answer is right.

    Args:
        record: of a source.
        text_format: of the run.
        where: file and row, for errors.
        field: the config field of the file, for errors.
        separator: stands between two steps and belongs to the earlier one.
        check_whole: compare the ids with those of the whole text.

    Raises:
        ValueError: for a row that cannot be read, an empty step, a label that is neither true nor
            false, another number of labels than of steps.
    """
    steps = _list_of(record, "completions", 1, where)
    labels = _list_of(record, "labels", 1, where)
    _same_number(steps, "completions", labels, "labels", where)
    labels = [label_of(each, f"{where}: the label of step {n}") for n, each in enumerate(labels)]
    outcome = record.get("label")
    if outcome is not None:
        outcome = label_of(outcome, f"{where}: the column 'label'")
    prompt = prompt_of(record, text_format, where=where, field=field)
    completion, ends = text_format.steps(prompt, steps, separator, where)
    if check_whole:
        text_format.check_whole(prompt, separator.join(steps), completion, where)
    return Stepwise(prompt.tokens, completion, ends, labels, outcome)


class Unpaired(Sequence[Record]):
    """Pairs as labelled completions: row 2i is the chosen side of pair i, row 2i + 1 the other."""

    def __init__(self, pairs: Sequence[Record]) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(SIDES) * len(self._pairs)

    def __getitem__(self, index: int) -> Record:
        index = range(len(self))[index]
        place, side = self.place(index), SIDES[index % len(SIDES)]
        pair = explicit_prompt(self._pairs[index // len(SIDES)], place)
        own = {key: pair[key] for key in pair if key.removesuffix("_tokens") not in SIDES}
        row = {**own, "completion": column_of(pair, side, place), "label": side == SIDES[0]}
        if f"{side}_tokens" in pair:
            row["completion_tokens"] = pair[f"{side}_tokens"]
        return row

    def place(self, index: int) -> str:
        """Where the pair stands, and which side of it is meant."""
        return f"{place_of(self._pairs, index // len(SIDES))}, {SIDES[index % len(SIDES)]}"


def _answers(
    values: Sequence[Any],
    prompt: Prompt,
    text_format: TextFormat,
    where: str,
    *,
    check_whole: bool,
) -> list[list[int]]:
    """Several answers to a prompt, texts or messages, as ids with their ends."""
    found = []
    for number, value in enumerate(values):
        place = f"{where} {number}"
        answer = said(answer_of(value, prompt, place), place)
        found.append(text_format.completion(prompt, answer, place))
        if check_whole:
            text_format.check_whole(prompt, answer, found[-1], place)
    return found


def _ids_of_answers(record: Record, name: str, at_least: int, where: str) -> list[list[int]]:
    """Several answers that a row gives as ids."""
    values = _list_of(record, name, at_least, where)
    return [token_ids(each, f"{where}: {name}, answer {n}") for n, each in enumerate(values)]


def _different(row: Groups, where: str) -> Groups:
    if sorted(row.chosen) == sorted(row.rejected):
        raise UnusableRow(
            f"{where}: the groups chosen and rejected are the same; a row compares two groups."
        )
    return row


def _completions_and_scores(
    record: Record, at_least: int, where: str
) -> tuple[list[Any], list[float]]:
    values = _list_of(record, "completions", at_least, where)
    if not all(isinstance(value, Mapping) for value in values):
        return values, _scores(record, len(values), where)
    texts, scores = [], []
    for number, value in enumerate(map(without_nulls, values)):
        place = f"{where}: completion {number}"
        texts.append(_of_keys(value, COMPLETION_KEYS, place))
        scores.append(number_of(_of_keys(value, SCORE_KEYS, place), f"{place}: the score"))
    return texts, scores


def _scores(record: Record, count: int, where: str) -> list[float]:
    values = _list_of(record, "scores", 1, where)
    _same_number(range(count), "completions", values, "scores", where)
    return [number_of(each, f"{where}: score {n}") for n, each in enumerate(values)]


def _of_keys(value: Mapping[str, Any], keys: Sequence[str], where: str) -> Any:
    key = next((key for key in keys if key in value), None)
    if key is None:
        raise ValueError(
            f"{where} lacks {' or '.join(map(repr, keys))}; it has {sorted(value)} that are not "
            "null."
        )
    return value[key]


def _list_of(record: Record, name: str, at_least: int, where: str) -> list[Any]:
    value = column_of(record, name, where)
    if not isinstance(value, list) or len(value) < at_least:
        raise ValueError(
            f"{where}: the column {name!r} must be a list of at least {at_least}, got "
            f"{typed(value)}."
        )
    return value


def _same_number(
    some: Sequence[Any], name: str, others: Sequence[Any], other: str, where: str
) -> None:
    if len(some) != len(others):
        raise ValueError(
            f"{where} has {len(some)} {name} and {len(others)} {other}; one is needed for each."
        )
