"""Files of demonstrations as examples, and the chosen ones as a file with weights."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rljax.data.data_files import kind_of_files
from rljax.data.packing import Example
from rljax.data.rows import example_of, prompt_of
from rljax.data.sources import open_source, place_of
from rljax.data.text_format import TextFormat
from rljax.reporting.files import write_text_atomic

# The column that a supervised stage reads as `data.weight_column`.
WEIGHT = "weight"


class Demonstrations(NamedTuple):
    """A file."""

    records: Sequence[dict[str, Any]]
    examples: list[Example]


def read_set(path: Path, text_format: TextFormat, most_tokens: int, flag: str) -> Demonstrations:
    """The rows of a file, each with what is learned of it.

    Args:
        path: JSONL or Parquet.
        text_format: of the model.
        most_tokens: of a row.
        flag: that names the file.

    Raises:
        ValueError: for a file without rows, a row that cannot be read, or a longer one.
    """
    records = open_source(kind_of_files(str(path), flag), path=str(path), path_field=flag)
    examples = [
        example_of(record, text_format, where=place_of(records, index), field=flag)
        for index, record in enumerate(records[i] for i in range(len(records)))
    ]
    for index, example in enumerate(examples):
        if len(example.tokens) > most_tokens:
            where = place_of(records, index)
            raise _too_long(where, len(example.tokens), most_tokens, flag)
    return Demonstrations(records, examples)


def read_prompts(
    path: Path, text_format: TextFormat, most_tokens: int, column: str, flag: str
) -> Demonstrations:
    """The problems of a file, each with the ids of its prompt, of which nothing is learned.

    Args:
        path, text_format, most_tokens, flag: as for `read_set`.
        column: of the prompts.
    """
    kind = kind_of_files(str(path), flag)
    records = open_source(kind, path=str(path), path_field=flag, chat_columns=(column,))
    examples = []
    for index in range(len(records)):
        where = place_of(records, index)
        tokens = prompt_of(
            records[index], text_format, where=where, column=column, field=flag
        ).tokens
        if len(tokens) > most_tokens:
            raise _too_long(where, len(tokens), most_tokens, flag)
        examples.append(Example(tokens, [False] * len(tokens)))
    return Demonstrations(records, examples)


def _too_long(where: str, tokens: int, most_tokens: int, flag: str) -> ValueError:
    return ValueError(
        f"{where} has {tokens} tokens, and at most {most_tokens} are read: raise it, or leave the "
        f"row out ({flag}, --row-tokens)."
    )


def tasks_of(shown: Demonstrations, column: str, flag: str) -> tuple[np.ndarray, list[str]]:
    """The task of each row, [M] i32, and the names of the tasks; one of all without a column.

    Raises:
        ValueError: for a row without the column.
    """
    if not column:
        return np.zeros(len(shown.examples), np.int32), ["all"]
    values = []
    for index in range(len(shown.examples)):
        value = shown.records[index].get(column)
        if value is None:
            where = place_of(shown.records, index)
            raise ValueError(f"{where} has no {column!r} ({flag}, --task-column).")
        values.append(str(value))
    names, numbers = np.unique(values, return_inverse=True)
    return numbers.astype(np.int32), names.tolist()


def write_set(
    path: Path,
    shown: Demonstrations,
    chosen: Sequence[int],
    columns: dict[str, np.ndarray],
) -> None:
    """Writes the chosen rows as JSON lines, with further columns of all rows."""
    lines = []
    for index in chosen:
        own = {name: float(values[index]) for name, values in columns.items()}
        lines.append(json.dumps({**shown.records[index], **own}, ensure_ascii=False))
    write_text_atomic(path, "".join(f"{line}\n" for line in lines))


def best_share(scores: np.ndarray, share: float) -> list[int]:
    """The rows of the highest scores, in the order of the file: so many of all, at least one.

    Args:
        scores: [N] f32; of equal ones the first are taken.
        share: in (0, 1].
    """
    count = max(1, round(share * len(scores)))
    return sorted(np.argsort(-scores, kind="stable")[:count].tolist())
