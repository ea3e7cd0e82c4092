"""Random-access record sources, and the shuffled endless stream over one.

What a step reads is a pure function of (source, seed, step): resuming needs no iterator state, and
nothing is skipped or read twice.
"""

import json
import os
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rljax.errors import unknown_name
from rljax.tasks.problem import Problem
from rljax.tasks.reasoning_gym import ReasoningGym

if TYPE_CHECKING:
    import grain

FIELD = "config.data"
KINDS = ("jsonl", "parquet", "memory", "problems", "reasoning_gym")

Record = dict[str, Any]


def open_source(
    kind: str,
    *,
    path: str | os.PathLike[str] | None = None,
    records: Sequence[Any] | None = None,
    gym: Mapping[str, Any] | None = None,
    columns: Sequence[str] = (),
    path_field: str = f"{FIELD}.path",
) -> Sequence[Record]:
    """Opens a source of records.

    Args:
        kind: "jsonl" or "parquet" (needs `path`), "memory" or "problems" (needs `records`), or
            "reasoning_gym" (needs `gym`).
        path: file, relative to the current directory.
        records: mappings, or for "problems" a sequence of `rljax.tasks.problem.Problem`, whose
            records have the columns prompt, reference, answer and demonstration.
        gym: keyword arguments of `rljax.tasks.reasoning_gym.ReasoningGym`, a set of problems.
        columns: columns that every record must have.
        path_field: the config field that errors about the file name.

    Returns:
        A sequence of dicts; index i is the stable id of its record.

    Raises:
        ValueError: unknown kind, missing or superfluous argument, missing or empty file, a line
            that is no JSON object, a missing column.
    """
    if kind not in KINDS:
        raise unknown_name("data source", kind, KINDS, f"{FIELD}.kind")
    given = {"path": path, "records": records, "gym": gym}
    needed = {"memory": "records", "problems": "records", "reasoning_gym": "gym"}.get(kind, "path")
    if given[needed] is None:
        field = path_field if needed == "path" else f"{FIELD}.{needed}"
        raise ValueError(f"A {kind!r} source needs {needed!r} ({field}).")
    extra = [name for name, value in given.items() if value is not None and name != needed]
    if extra:
        raise ValueError(f"A {kind!r} source does not read {extra} ({FIELD}.{extra[0]}).")
    if kind == "memory":
        return MemorySource(records, columns=columns)
    if kind == "problems":
        return ProblemSource(records, columns=columns)
    if kind == "reasoning_gym":
        return ProblemSource(ReasoningGym(**gym), columns=columns)
    if not Path(path).is_file():
        raise ValueError(
            f"No file {str(path)!r} (from {os.getcwd()!r}); give an existing {kind} file "
            f"({path_field})."
        )
    return (JsonlSource if kind == "jsonl" else ParquetSource)(path, columns=columns)


class JsonlSource(Sequence[Record]):
    """One JSON object a line; blank lines are skipped.

    Opening reads the file once, checks every line and keeps only where it starts.
    """

    def __init__(self, path: str | os.PathLike[str], *, columns: Sequence[str] = ()) -> None:
        self.path = os.path.abspath(path)
        self._offsets = array("Q")
        offset = 0
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    _check_line(line, f"{path}, line {number}", columns)
                    self._offsets.append(offset)
                offset += len(line)
        if not self._offsets:
            raise ValueError(f"{path} holds no record ({FIELD}.path).")

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> Record:
        offset = self._offsets[index]
        with open(self.path, "rb") as file:  # no shared handle: readers may be threads
            file.seek(offset)
            return json.loads(file.readline())


class ParquetSource(Sequence[Record]):
    """The rows of a Parquet file, memory-mapped."""

    def __init__(self, path: str | os.PathLike[str], *, columns: Sequence[str] = ()) -> None:
        import pyarrow
        import pyarrow.parquet

        self.path = os.path.abspath(path)
        try:
            self._table = pyarrow.parquet.read_table(self.path, memory_map=True)
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path} is no Parquet file: {error} ({FIELD}.path).") from error
        if self._table.num_rows == 0:
            raise ValueError(f"{path} holds no record ({FIELD}.path).")
        _check_columns(self._table.column_names, str(path), columns)

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, index: int) -> Record:
        index = range(len(self))[index]
        return self._table.slice(index, 1).to_pylist()[0]


class MemorySource(Sequence[Record]):
    """A list of mappings."""

    def __init__(
        self, records: Sequence[Mapping[str, Any]], *, columns: Sequence[str] = ()
    ) -> None:
        if len(records) == 0:
            raise ValueError(f"The record list is empty ({FIELD}.records).")
        for place, record in enumerate(records):
            _check_columns(record, f"record {place}", columns)
        self._records = list(records)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        return dict(self._records[index])


class ProblemSource(Sequence[Record]):
    """Problems as records with the columns prompt, reference, answer and demonstration.

    `answer` is the reference's gold answer as text; a column that a task lacks is absent, so that
    asking for it fails here.
    """

    def __init__(self, problems: Sequence[Problem], *, columns: Sequence[str] = ()) -> None:
        if len(problems) == 0:
            raise ValueError(f"The problem set is empty ({FIELD}).")
        self.problems = problems
        self._columns = tuple(columns)
        self[0]

    def __len__(self) -> int:
        return len(self.problems)

    def __getitem__(self, index: int) -> Record:
        problem = self.problems[index]
        answer = problem.reference.get("answer") if isinstance(problem.reference, dict) else None
        record = {
            "prompt": problem.prompt,
            "reference": problem.reference,
            "answer": answer,
            "demonstration": problem.demonstration,
        }
        record = {key: value for key, value in record.items() if value is not None}
        _check_columns(record, f"problem {problem.id} ({_task_of(problem)})", self._columns)
        return record


def stream(source: Sequence[Record], *, seed: int, shuffle: bool) -> "grain.MapDataset":
    """Repeats a source forever; with `shuffle`, every epoch has its own order drawn from `seed`.

    Element k is {**record, "id": i}, where i is the index in `source` (an "id" column of the
    record's own is replaced). Position k alone determines it.
    """
    import grain

    dataset = grain.MapDataset.source(_WithId(source)).seed(seed % 2**32)
    if shuffle:
        dataset = dataset.shuffle()
    return dataset.repeat()


def records_for_step(dataset: "grain.MapDataset", step: int, per_step: int) -> list[Record]:
    """The `per_step` records of one step: a pure function of the stream's seed and `step`."""
    start = step * per_step
    return [dataset[start + place] for place in range(per_step)]


class _WithId(Sequence[Record]):
    """Adds the stable index of each record."""

    def __init__(self, source: Sequence[Record]) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        return {**self._source[index], "id": int(index)}


def _check_line(line: bytes, where: str, columns: Sequence[str]) -> None:
    try:
        record = json.loads(line)
    except ValueError as error:  # also text that is no UTF-8
        raise ValueError(f"{where} is no JSON: {error} ({FIELD}.path).") from error
    if not isinstance(record, dict):
        raise ValueError(
            f"{where} is a JSON {type(record).__name__}, not an object ({FIELD}.path)."
        )
    _check_columns(record, where, columns)


def _check_columns(present: Any, where: str, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in present]
    if missing:
        raise ValueError(
            f"{where} lacks the column {missing[0]!r}; it has {sorted(present)} "
            f"({FIELD}.prompt_column, {FIELD}.reference_column)."
        )


def _task_of(problem: Problem) -> str:
    return problem.reference["task"] if isinstance(problem.reference, dict) else "task"
