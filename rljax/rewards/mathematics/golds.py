"""The gold answers of a data set: read when the file is opened, or refused."""

import functools
from typing import NamedTuple

from rljax.rewards.answers import box_content, last_boxed
from rljax.rewards.mathematics import limits, readings, spelling
from rljax.rewards.mathematics.readings import Reading
from rljax.rewards.references import gold_texts


class Gold(NamedTuple):
    """A gold answer.

    Attributes:
        alternatives: each of them is right.
        rule: how it was read, for counts: what it is, and where in the text it stood.
    """

    alternatives: tuple[Reading, ...]
    rule: str

    @property
    def shown(self) -> str:
        return " | ".join(reading.shown for reading in self.alternatives)


def read_gold(reference: object) -> Gold:
    r"""Reads the gold answer of a reference.

    A whole solution of GSM8K counts from "####" on, one with a \boxed{} by its last box, a sentence
    such as "The answer is 42" by what follows.

    Args:
        reference: text or number, a mapping with "answer" or "ground_truth", or a list of
            alternatives.

    Raises:
        ValueError: says what is wrong and what is allowed.
    """
    golds = [_read_text(text) for text in gold_texts(reference)]
    rule = golds[0].rule if len(golds) == 1 else "alternatives"
    return Gold(tuple(reading for gold in golds for reading in gold.alternatives), rule)


@functools.lru_cache(maxsize=4096)
def _read_text(text: str) -> Gold:
    content, place = _answer_in(text)
    reading = readings.read(content)
    if reading is None:
        allowed = f"1 to {limits.MAX_CHARACTERS} characters"
        raise ValueError(f"the answer has {len(content)} characters; {allowed} are read")
    if reading.kind in ("expression", "spelling"):
        _check_expression(reading)
    return Gold((reading,), f"{reading.kind}, {place}" if place else reading.kind)


def _answer_in(text: str) -> tuple[str, str]:
    """The part of a gold text that is the answer, and where it stood."""
    before, mark, tail = text.rpartition("####")
    if mark:
        return tail, "after ####"
    if "\\boxed" in text or "\\fbox" in text:
        box = last_boxed(text)
        if box is None:
            raise ValueError("the last box is not closed")
        return box_content(box), "in a box"
    if "\n" in text.strip() and "\\begin" not in text:
        raise ValueError(
            "a text of several lines; the answer must stand alone, after ####, or in \\boxed{}"
        )
    if spelling.without_sentence(text) != text.strip():
        return text, "in a sentence"
    return text, ""


def _check_expression(reading: Reading) -> None:
    text = reading.text
    if text.replace("\\{", "").count("{") != text.replace("\\}", "").count("}"):
        raise ValueError("its braces do not match")
    if readings.is_sentence(text):
        raise ValueError(
            "words and mathematics in one text; write the answer alone, after ####, or in \\boxed{}"
        )
    if reading.kind == "expression" and not readings.expressions(reading):
        raise ValueError(
            "math-verify cannot parse it; allowed are numbers, LaTeX expressions, words and letters"
        )
