"""Pairs of a data set: two answers to a prompt, of which the first one is preferred."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from rljax.data.conversations import common_prefix, is_conversation, read_messages
from rljax.data.rows import Record, answer_of, column_of, prompt_of
from rljax.data.text_format import PROMPTS, TextFormat
from rljax.data.values import UnusableRow, number_of, said, token_ids

# Columns of a pair, in the order of the sides; the first one is preferred.
SIDES = ("chosen", "rejected")

# Columns that say by how much: the difference itself, or a score of each side.
MARGIN = "margin"
SCORES = ("score_chosen", "score_rejected")


class Pair(NamedTuple):
    """Two answers to a prompt.

    Attributes:
        prompt: ids.
        sides: ids of the answers with their ends; the first one is preferred.
        margin: by how much it is better; None where the row does not say it as a finite number.
    """

    prompt: list[int]
    sides: tuple[list[int], list[int]]
    margin: float | None = None

    def answers(self) -> dict[str, list[int]]:
        """Both sides by their columns."""
        return dict(zip(SIDES, self.sides, strict=True))


def pair_of(
    record: Record,
    text_format: TextFormat,
    *,
    where: str,
    field: str = PROMPTS,
    check_whole: bool = False,
) -> Pair:
    """The pair of a row: as ids, as texts, as messages, or as two conversations.

    Args:
        record: with the columns chosen and rejected, and prompt unless both begin alike (see
            `explicit_prompt`). Columns prompt_tokens, chosen_tokens and rejected_tokens are taken
            as they are. A column margin, or score_chosen and score_rejected, say by how much the
            chosen side is better; most losses never read them, so what is there may be anything.
        text_format: of the run.
        where: file and row, for errors.
        field: the config field of the file, for errors.
        check_whole: compare the ids with those of the whole texts.

    Raises:
        ValueError: for a row that cannot be read.
        UnusableRow: for an empty side, or two sides that are equal.
    """
    margin = _margin_if_readable(record, where)
    if all(isinstance(record.get(f"{name}_tokens"), list) for name in ("prompt", *SIDES)):
        names = [f"{name}_tokens" for name in ("prompt", *SIDES)]
        prompt, *sides = (token_ids(record[name], f"{where}: {name}") for name in names)
        return Pair(prompt, _unequal(*sides, where), margin)
    if text_format.chat and record.get("prompt") is None and is_text_pair(record):
        raise ValueError(
            f"{where} lacks the column 'prompt', which a conversation needs whose prompt is a text "
            "(config.data.chat)."
        )
    record = explicit_prompt(record, where)
    prompt = prompt_of(record, text_format, where=where, field=field)
    answers = []
    for side in SIDES:
        place = f"{where}: {side}"
        answers.append(said(answer_of(record[side], prompt, place), place))
    ids = [text_format.completion(prompt, answer, where) for answer in answers]
    if check_whole:
        for answer, completion in zip(answers, ids, strict=True):
            text_format.check_whole(prompt, answer, completion, where)
    return Pair(prompt.tokens, _unequal(*ids, where), margin)


def margin_of(record: Record, where: str) -> float | None:
    """By how much the chosen side of a pair is better: `MARGIN`, or the difference of `SCORES`.

    Args:
        record: of a source.
        where: file and row, for errors.

    Raises:
        ValueError: for a margin or a score that is no finite number, one score without the other.
    """
    scores = [record.get(name) for name in SCORES]
    if record.get(MARGIN) is not None:
        return number_of(record[MARGIN], f"{where}: the column {MARGIN!r}")
    if scores == [None, None]:
        return None
    chosen, rejected = (
        number_of(value, f"{where}: the column {name!r}")
        for name, value in zip(SCORES, scores, strict=True)
    )
    return chosen - rejected


def _margin_if_readable(record: Record, where: str) -> float | None:
    try:
        return margin_of(record, where)
    except ValueError:
        return None


def _unequal(chosen: Any, rejected: Any, where: str) -> tuple[Any, Any]:
    if chosen == rejected:
        raise UnusableRow(
            f"{where}: chosen and rejected are the same; a pair compares two answers."
        )
    return chosen, rejected


def is_text_pair(record: Record) -> bool:
    """Whether both sides are texts."""
    return all(isinstance(record.get(side), str) for side in SIDES)


def explicit_prompt(record: Record, where: str) -> Record:
    """The row of a pair with its prompt in a column of its own, and the answers alone.

    Two whole conversations: the messages that they share are the prompt. Two texts without a
    prompt: what they share at their beginning is the prompt, without a blank at its end, as TRL
    extracts it. Where one text begins with the whole other one, the last letter that they share
    belongs to the answers, none of which is empty then.

    Args:
        record: with the columns chosen and rejected.
        where: file and row, for errors.

    Raises:
        ValueError: for sides that are equal, that begin differently, or that are not those of the
            row's prompt.
    """
    sides = _unequal(*(column_of(record, side, where) for side in SIDES), where)
    if all(map(is_conversation, sides)):
        return _parted(record, sides, where)
    if record.get("prompt") is not None or not is_text_pair(record):
        return record
    shared = os.path.commonprefix(sides)
    if shared.endswith(" ") or shared in sides:
        shared = shared[:-1]
    if not shared:
        raise ValueError(
            f"{where} lacks the column 'prompt', and the texts chosen and rejected begin "
            f"differently: {sides[0][:40]!r}, {sides[1][:40]!r}."
        )
    chosen, rejected = (side[len(shared) :] for side in sides)
    return {**record, "prompt": shared, "chosen": chosen, "rejected": rejected}


def _parted(record: Record, sides: Sequence[Any], where: str) -> Record:
    """Two whole conversations: what they share is the prompt, what follows the answers."""
    read = [
        read_messages(value, f"{where}: {side}") for side, value in zip(SIDES, sides, strict=True)
    ]
    if all(len(messages) == 1 for messages in read):
        return record
    shared = common_prefix([messages[:-1] for messages in read])
    if not shared:
        raise ValueError(f"{where}: the conversations chosen and rejected begin differently.")
    given = record.get("prompt")
    if is_conversation(given):
        given = read_messages(given, f"{where}: the prompt")
    if given not in (None, shared, shared[-1].get("content")):
        raise ValueError(
            f"{where}: the prompt is not that of the conversations chosen and rejected: "
            f"{repr(given)[:80]}."
        )
    chosen, rejected = (messages[len(shared) :] for messages in read)
    return {**record, "prompt": shared, "chosen": chosen, "rejected": rejected}
