"""Texts as environments: what comes next in a text is what a prefix of it is asked for.

A text s_1 .. s_n is cut into segments. Each s_i from the second on is a target: its context is what
comes before it and nothing else (RLPT, arXiv:2509.19249), or what follows it too (`following`).
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

# What ends a segment, by the name of the split: a segment keeps it.
SPLITS = {
    "line": re.compile(r"\n"),
    "sentence": re.compile(r"(?<=[.!?])\s+|\n+"),
    "word": re.compile(r"\s+"),
}


class Segment(NamedTuple):
    """A target within its text."""

    before: str  # all of the text before it, without white space at its end
    target: str  # without white space at its end; a line keeps its indentation
    following: str  # the next target of the text; "" behind the last one


def segments_of(text: str, split: str, *, shortest: int = 1) -> list[tuple[int, int]]:
    """Where the segments of a text begin and end, white space at their ends left out.

    Args:
        text: any.
        split: a key of `SPLITS`.
        shortest: characters of a segment at least; shorter ones are no targets, as they are easy to
            say without thought, but stay in the contexts of later ones.

    Returns:
        (start, stop) of each, in order.

    Raises:
        ValueError: for another split, or a `shortest` below 1.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r}; known: {', '.join(map(repr, SPLITS))}.")
    if shortest < 1:
        raise ValueError(f"shortest={shortest} characters of a segment: it must be >= 1.")
    found, start = [], 0
    ends = [(match.start(), match.end()) for match in SPLITS[split].finditer(text)]
    for stop, after in [*ends, (len(text), len(text))]:
        length = len(text[start:stop].rstrip())
        if len(text[start:stop].strip()) >= shortest:
            found.append((start, start + length))
        start = after
    return found


def next_segments(text: str, split: str, *, shortest: int = 1) -> Iterator[Segment]:
    """The targets of a text that have something before them. Arguments as of `segments_of`."""
    places = segments_of(text, split, shortest=shortest)
    for number, (start, stop) in enumerate(places):
        before = text[:start].rstrip()
        if not before:
            continue
        later = places[number + 1 : number + 2]
        yield Segment(before, text[start:stop], "".join(text[a:b] for a, b in later))
