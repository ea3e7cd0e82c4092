"""Two files of completions of the same prompts, brought together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rljax.data.sources import open_source, place_of
from rljax.data.values import number_of
from rljax.errors import typed

# What a line of `launch/evaluate.py --samples` calls its completions.
EVALUATED = ("greedy", "samples")


class Written(NamedTuple):
    """A completion of a file."""

    text: str
    tokens: int | None  # how many, where the file says it
    reward: float | None


class Compared(NamedTuple):
    """Prompts of two files with K completions in each.

    Attributes:
        records: N lines of the first file.
        places: N, where the lines stand, for errors.
        sides: [N][K] pairs of completions, of the first and of the second file.
    """

    records: list[Mapping[str, Any]]
    places: list[str]
    sides: list[list[tuple[Written, Written]]]

    @property
    def lengths(self) -> np.ndarray:
        """[N, K, 2] f64: tokens, or letters where not every completion says how many it has."""
        pairs = [[list(pair) for pair in row] for row in self.sides]
        known = all(one.tokens is not None for row in pairs for pair in row for one in pair)
        return np.array(
            [[[_length(one, known) for one in pair] for pair in row] for row in pairs], np.float64
        )


def read_completions(first: Path, second: Path, which: str) -> Compared:
    """Brings the completions of two files together: by `id`, where all lines have one, or by line.

    A line holds a prompt and `completions`, a list of texts or of objects with a `text`, as
    `launch/generate.py --out` writes them, or one `completion`; or what `launch/evaluate.py
    --samples` writes. The first completion is compared with the first one, and so on.

    Args:
        first: JSON lines.
        second: JSON lines.
        which: "greedy" or "samples", where evaluate.py wrote the file.

    Raises:
        ValueError: for a line that cannot be read, prompts that are not those of the other file, or
            another number of completions.
    """
    files = [_lines(path, flag) for path, flag in ((first, "FIRST"), (second, "SECOND"))]
    keys = [_keys(lines) for lines in files]
    if set(keys[0]) != set(keys[1]):
        missing = sorted(set(keys[0]) ^ set(keys[1]), key=str)
        raise ValueError(
            f"{first} and {second} hold completions of different prompts: {missing[0]!r} and "
            f"{len(missing) - 1} more are in one of them only (FIRST, SECOND)."
        )
    others = dict(zip(keys[1], range(len(keys[1])), strict=True))
    records, places, sides = [], [], []
    for index, key in enumerate(keys[0]):
        line, where = files[0][index], place_of(files[0], index)
        other, there = files[1][others[key]], place_of(files[1], others[key])
        if line.get("prompt") != other.get("prompt"):
            raise ValueError(f"{where} and {there} have different prompts (FIRST, SECOND).")
        found = _written(line, which, where), _written(other, which, there)
        if len(found[0]) != len(found[1]) or len(found[0]) != len(sides[0] if sides else found[0]):
            raise ValueError(
                f"{where} has {len(found[0])} completions and {there} {len(found[1])}; all prompts "
                "need equally many (FIRST, SECOND)."
            )
        records.append(line)
        places.append(where)
        sides.append(list(zip(*found, strict=True)))
    return Compared(records, places, sides)


def _lines(path: Path, flag: str) -> Sequence[Mapping[str, Any]]:
    return open_source("jsonl", path=path, path_field=flag)


def _keys(lines: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What a line is known by: its id where every line has one of its own, else its place."""
    ids = [line.get("id") for line in lines]
    distinct = all(isinstance(each, int | str) for each in ids) and len(set(ids)) == len(ids)
    return ids if distinct else list(range(len(lines)))


def _written(line: Mapping[str, Any], which: str, where: str) -> list[Written]:
    name = next((n for n in ("completions", "completion", which) if line.get(n)), None)
    if name is None:
        raise ValueError(
            f"{where} has neither 'completions' nor 'completion' nor {which!r} (FIRST, SECOND)."
        )
    values = line[name] if isinstance(line[name], list) else [line[name]]
    return [_one(value, f"{where}: completion {number}") for number, value in enumerate(values)]


def _one(value: Any, where: str) -> Written:
    if isinstance(value, str):
        return Written(value, None, None)
    if not isinstance(value, Mapping) or not isinstance(value.get("text"), str):
        raise ValueError(f"{where} must be a text, or hold one in 'text', got {typed(value)}.")
    tokens, reward = value.get("tokens"), value.get("reward")
    count = len(tokens) if isinstance(tokens, list) else tokens
    reward = None if reward is None else number_of(reward, f"{where}: the reward")
    return Written(value["text"], count if isinstance(count, int) else None, reward)


def _length(one: Written, known: bool) -> int:
    return one.tokens if known and one.tokens is not None else len(one.text)
