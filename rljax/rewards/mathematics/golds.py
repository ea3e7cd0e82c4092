"""The gold answers of a data set: read when the file is opened, or refused."""

import ast
import functools
import json
import re
from typing import Any, NamedTuple

from rljax.rewards.answers import box_content, last_boxed
from rljax.rewards.mathematics import limits, readings, spelling
from rljax.rewards.mathematics.readings import Reading
from rljax.rewards.references import gold_texts

_PLACEHOLDERS = ("nan", "null", "n/a", "#n/a", "<na>")
_QUOTED_LIST = re.compile(r"""\s*[\[{]\s*["']""")
_CONTROL = re.compile(r"[\x00-\x1f]")
_UNCLEAR = [
    (
        re.compile(r"\d\s*(?:\.\.\.|\\(?:l|c)?dots)\s*$"),
        "a number that goes on; write it whole, or with \\overline{}",
    ),
    (
        re.compile(r"\d\.\d{3},\d"),
        "a point between thousands and a decimal comma; write 1000.5 or 1,000.5",
    ),
    (
        re.compile(r"(?<![\d,])\d{1,2}(?:,\d{2})+,\d{3}(?![\d,])"),
        "groups of two digits; write 100000 or 100,000",
    ),
]


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
    golds = [_read_text(text) for text in _listed(gold_texts(reference))]
    rule = golds[0].rule if len(golds) == 1 else "alternatives"
    return Gold(tuple(reading for gold in golds for reading in gold.alternatives), rule)


@functools.lru_cache(maxsize=4096)
def _read_text(text: str) -> Gold:
    content, place = _answer_in(text)
    halves = readings.choice_and_text(content)
    if halves is not None:
        return Gold(halves, "choice and its text")
    reading = readings.read(content)
    if reading is None:
        count = len(content.strip())
        raise ValueError(f"it has {count} characters; 1 to {limits.MAX_CHARACTERS} are read")
    if reading.text.casefold() in _PLACEHOLDERS:
        raise ValueError("it stands for a missing value")
    if reading.kind in ("expression", "spelling"):
        reading = _checked(reading)
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
        raise ValueError("a text of several lines, of which the answer cannot be told")
    if spelling.without_sentence(text) != text.strip():
        return text, "in a sentence"
    return text, ""


def _checked(reading: Reading) -> Reading:
    """An expression that math-verify parses, or one that is compared as it is spelled.

    Raises:
        ValueError: for what would be read as something else than is meant.
    """
    text = reading.text
    if text.replace("\\{", "").count("{") != text.replace("\\}", "").count("}"):
        raise ValueError("its braces do not match")
    if readings.is_sentence(text):
        raise ValueError("words and mathematics in one text, of which the answer cannot be told")
    for pattern, problem in _UNCLEAR:
        if pattern.search(text):
            raise ValueError(problem)
    if readings.expressions(reading):
        return reading
    if not re.search(r"\w", text):
        raise ValueError("it holds no number, letter or word")
    return reading._replace(kind="spelling")


def _listed(texts: list[str]) -> list[str]:
    """Lists and mappings that are written as text taken apart."""
    listed = []
    for text in texts:
        if not _QUOTED_LIST.match(text):
            listed.append(text)
            continue
        inner = gold_texts(_unquoted(text))
        if any(_CONTROL.search(one) for one in inner):
            raise ValueError(
                "a list as text whose backslashes stand for control characters; write them twice"
            )
        listed += inner
    return listed


def _unquoted(text: str) -> Any:
    """The value that is written as JSON or, with other quotes, as Python writes it."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(f"a list as text that is no JSON ({error.msg})") from error
