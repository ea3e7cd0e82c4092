"""Which tokens of a written tool call decide it: TL-Training (arXiv:2412.15495).

A call is `name(key = value, ...)`. Key tokens are the first one of the tool's name, and where
another tool's name begins alike, the first one in which they differ. Value tokens are the last ones
of the arguments' values.
"""

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rljax.config.stage import Stage
from rljax.data.packing import Example
from rljax.data.rows import Record, nested

_NAME = re.compile(r"\s*(\w[\w.]*)\s*(?=\()")


class Marks(NamedTuple):
    """Both as long as the example."""

    key: np.ndarray  # bool
    value: np.ndarray  # bool


def marks_of(
    record: Record, example: Example, token_bytes: Sequence[bytes], stage: Stage, where: str
) -> Marks:
    """The marks of an example.

    Args:
        record: with the columns completion, a text, and tool_names, or tools where the prompt is a
            conversation; a list of tools may be JSON text.
        example: its tokens.
        token_bytes: of the tokenizer, by id.
        stage: for errors.
        where: file and row, for errors.

    Raises:
        ValueError: for a row without these columns.
    """
    column = "tool_names" if record.get("tool_names") else "tools"
    names = tool_names(nested(record.get(column), list, f"{where}: the column {column!r}"))
    text = record.get("completion")
    if names is None or not isinstance(text, str):
        raise ValueError(
            f"{where}: token_weight='key_tokens' reads a text 'completion', and names or "
            f"schemas of tools in the column 'tool_names' or 'tools'; it has {sorted(record)} "
            f"(config.{stage.name}.objective.token_weight, config.{stage.name}.data.path)."
        )
    learned = np.flatnonzero(example.learned)
    pieces = [token_bytes[example.tokens[index]] for index in learned]
    marks = Marks(*(np.zeros(len(example.tokens), bool) for _ in range(2)))
    # What a tokenizer writes before the first word is no part of the text.
    shift = max(b"".join(pieces).find(text.encode()), 0)
    ends = np.cumsum([len(piece) for piece in pieces])
    for mark, offsets in zip(marks, call_offsets(text, names), strict=True):
        places = np.searchsorted(ends, [shift + offset for offset in offsets], side="right")
        mark[learned[places[places < len(learned)]]] = True
    return marks


def packed_marks(
    marks: Sequence[Marks], plan: Sequence[Sequence[int]], row_tokens: int
) -> tuple[np.ndarray, np.ndarray]:
    """The marks of packed rows (data/packing.py), [R, S] bool both."""
    packed = tuple(np.zeros((len(plan), row_tokens), bool) for _ in range(2))
    for row, members in enumerate(plan):
        for flags, name in zip(packed, Marks._fields, strict=True):
            joined = np.concatenate([getattr(marks[index], name) for index in members])
            flags[row, : len(joined)] = joined
    return packed


def tool_names(tools: Any) -> list[str] | None:
    """The names of tools that are given by name or by schema; None for anything else."""
    if not isinstance(tools, list | tuple) or not tools:
        return None
    found = []
    for tool in tools:
        if isinstance(tool, Mapping):
            function = tool.get("function")
            tool = (function if isinstance(function, Mapping) else tool).get("name")
        if not isinstance(tool, str):
            return None
        found.append(tool)
    return found


def call_offsets(text: str, tools: Iterable[str]) -> tuple[list[int], list[int]]:
    """Bytes of a text that key tokens and value tokens hold; none where it is no call.

    Args:
        text: of a completion.
        tools: names of all tools.
    """
    found = _NAME.match(text)
    if found is None:
        return [], []
    try:
        call = ast.parse("f" + text[found.end() :].strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return [], []
    if not isinstance(call, ast.Call) or call.end_lineno != 1:
        return [], []
    name, start = found[1], len(text[: found.start(1)].encode())
    shared = {_common(name, other) for other in tools if other != name}
    keys = {start} | {start + count for count in shared if count}
    # Columns of a line count bytes, and "f" stands for what comes before the arguments.
    arguments = len(text[: found.end()].encode()) - 1
    values = [each.value.end_col_offset for each in call.keywords]
    return sorted(keys), [arguments + end - 1 for end in values]


def _common(name: str, other: str) -> int:
    """Bytes that two names begin with alike."""
    pairs = zip(name.encode(), other.encode(), strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(name), len(other)))
