"""Random-access record sources, and the shuffled endless stream over one.

Element k of a stream is a pure function of (source, seed, k). So a place in it is all that has to
be saved, and nothing is skipped or read twice.
"""

import json
import os
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from rljax.data.conversations import is_conversation, read_messages
from rljax.data.data_files import SeveralFiles, data_files
from rljax.data.text_format import check_texts
from rljax.errors import blamed, typed, unknown_name
from rljax.tasks.problem import Problem
from rljax.tasks.reasoning_gym import ReasoningGym
from rljax.tasks.symbols.records import SymbolSet

if TYPE_CHECKING:
    import grain
    import pyarrow

FIELD = "config.data"

# Kind of source -> the argument of `open_source` that it is made from.
_NEEDED = {
    "jsonl": "path",
    "parquet": "path",
    "memory": "records",
    "problems": "records",
    "reasoning_gym": "gym",
    "symbols": "symbols",
}

# How files begin that are taken for JSONL.
_OTHER_KINDS = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\x1f\x8b": "a gzip file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"PK\x03\x04": "a zip file",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"version https://git-lfs": "a pointer of Git LFS, without the data,",
    b"[": "a JSON array",
}

Record = dict[str, Any]


class Layout(NamedTuple):
    """What every record must hold, and the config fields that errors name.

    Attributes:
        columns: must be there and hold anything but null.
        text_columns: must hold a text.
        chat_columns: must hold a text or a conversation (data/conversations.py).
        path_field: names the file.
        columns_field: names the columns.
    """

    columns: tuple[str, ...] = ()
    text_columns: tuple[str, ...] = ()
    chat_columns: tuple[str, ...] = ()
    path_field: str = f"{FIELD}.path"
    columns_field: str = f"{FIELD}.prompt_column, {FIELD}.reference_column"

    @property
    def required(self) -> tuple[str, ...]:
        """Every column named, once."""
        return tuple(dict.fromkeys(self.columns + self.text_columns + self.chat_columns))


# Nothing is required.
ANYTHING = Layout()


def open_source(
    kind: str,
    *,
    path: str | os.PathLike[str] | None = None,
    records: Sequence[Any] | None = None,
    gym: Mapping[str, Any] | None = None,
    symbols: Mapping[str, Any] | None = None,
    columns: Sequence[str] = (),
    text_columns: Sequence[str] = (),
    chat_columns: Sequence[str] = (),
    path_field: str = f"{FIELD}.path",
    columns_field: str | None = None,
) -> Sequence[Record]:
    """Opens a source of records.

    Args:
        kind: "jsonl" or "parquet" (needs `path`), "memory" or "problems" (needs `records`),
            "reasoning_gym" (needs `gym`) or "symbols" (needs `symbols`).
        path: file, folder of files or pattern (data/data_files.py), relative to the current
            directory.
        records: mappings, or for "problems" a sequence of `rljax.tasks.problem.Problem`, whose
            records have the columns prompt, reference, answer and demonstration.
        gym: keyword arguments of `rljax.tasks.reasoning_gym.ReasoningGym`, a set of problems.
        symbols: arguments of `rljax.tasks.symbols.records.SymbolSet`, another set of problems.
        columns: columns that every record must have, with anything but null in them.
        text_columns: columns that every record must have as text; need not be in `columns` too.
        chat_columns: the same, but a conversation (data/conversations.py) will do as well.
        path_field: the config field that errors about the file name.
        columns_field: the config field that errors about columns name; by default
            config.data.prompt_column and reference_column for a file of config.data, and
            `path_field` for any other, whose columns have fixed names.

    Returns:
        A sequence of dicts; index i is the stable id of its record.

    Raises:
        ValueError: unknown kind, missing or superfluous argument, missing or empty file, a line
            that is no JSON object, a missing column, a value of another type than asked for.
    """
    if kind not in _NEEDED:
        raise unknown_name("data source", kind, _NEEDED, f"{FIELD}.kind")
    needed = _NEEDED[kind]
    given = {"path": path, "records": records, "gym": gym, "symbols": symbols}
    _check_arguments(kind, given, path_field)
    if needed != "path":
        columns_field = _argument("columns")
    elif columns_field is None:
        in_data = path_field.startswith(f"{FIELD}.")
        columns_field = ANYTHING.columns_field if in_data else path_field
    layout = Layout(
        tuple(columns), tuple(text_columns), tuple(chat_columns), path_field, columns_field
    )
    if kind == "memory":
        return MemorySource(records, layout)
    if kind == "problems":
        return ProblemSource(records, layout)
    if kind == "reasoning_gym":
        return ProblemSource(ReasoningGym(**gym), layout)
    if kind == "symbols":
        return ProblemSource(SymbolSet(**symbols), layout)
    opened = JsonlSource if kind == "jsonl" else ParquetSource
    sources = [opened(file, layout) for file in data_files(path, kind, path_field).values()]
    return sources[0] if len(sources) == 1 else SeveralFiles(sources)


def _check_arguments(kind: str, given: Mapping[str, Any], path_field: str) -> None:
    needed = _NEEDED[kind]
    if given[needed] is None:
        field = path_field if needed == "path" else _argument(needed)
        raise ValueError(f"A {kind!r} source needs {needed!r} ({field}).")
    unused = [name for name, value in given.items() if value is not None and name != needed]
    if unused:
        raise ValueError(f"A {kind!r} source does not read {unused} ({_argument(unused[0])}).")


class JsonlSource(Sequence[Record]):
    """One JSON object a line; blank lines are skipped.

    Opening reads the file once, checks every line and keeps only where it starts. So the file must
    stay as it is: reading from one that has changed is an error, not another record.
    """

    def __init__(self, path: str | os.PathLike[str], layout: Layout = ANYTHING) -> None:
        self.path, self._name = os.path.abspath(path), str(path)
        self._field = layout.path_field
        self._offsets, self._lines = array("Q"), array("Q")
        offset = 0
        with blamed(self._name, OSError, field=self._field):
            file = open(self.path, "rb")  # noqa: SIM115
        with file:
            self._version = _version(file)
            for number, line in enumerate(file, start=1):
                if line.strip():
                    _check_line(line, f"{path}, line {number}", layout)
                    self._offsets.append(offset)
                    self._lines.append(number)
                offset += len(line)
        if not self._offsets:
            raise ValueError(f"{path} holds no record ({layout.path_field}).")

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> Record:
        offset = self._offsets[index]
        with self._open() as file:  # no shared handle: readers may be threads
            file.seek(offset)
            return json.loads(file.readline())

    def place(self, index: int) -> str:
        """File and line of a record."""
        return f"{self._name}, line {self._lines[index]}"

    def _open(self) -> BinaryIO:
        """The file, if it is still the one whose lines were checked."""
        with blamed(self.path, OSError, field=self._field):
            file = open(self.path, "rb")
        if _version(file) != self._version:
            file.close()
            raise ValueError(
                f"{self.path} was changed while it is being read: put the file back and give the "
                f"same command again to continue, or start in a new workdir ({self._field})."
            )
        return file


def _version(file: BinaryIO) -> tuple[int, int, int]:
    """What changes when a file is written again or another one takes its name."""
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns, found.st_ino


class ParquetSource(Sequence[Record]):
    """The rows of a Parquet file, memory-mapped. Opening checks every row of the columns needed."""

    def __init__(self, path: str | os.PathLike[str], layout: Layout = ANYTHING) -> None:
        import pyarrow
        import pyarrow.parquet

        self.path, self._name = os.path.abspath(path), str(path)
        kinds = (pyarrow.ArrowException, OSError, ValueError)
        with blamed(f"{path} is no Parquet file", *kinds, field=layout.path_field):
            table = pyarrow.parquet.read_table(self.path, memory_map=True)
            table.validate(full=True)
            self._table = _with_decimals(table)
        if self._table.num_rows == 0:
            raise ValueError(f"{path} holds no record ({layout.path_field}).")
        _check_columns(self._table.column_names, str(path), layout)
        for column in layout.required:
            _check_arrow_column(self._table.column(column), column, str(path), layout)

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, index: int) -> Record:
        index = range(len(self))[index]
        return self._table.slice(index, 1).to_pylist(maps_as_pydicts="lossy")[0]

    def place(self, index: int) -> str:
        """File and row of a record."""
        return f"{self._name}, row {index + 1}"


def _with_decimals(table: "pyarrow.Table") -> "pyarrow.Table":
    """The same, with float32 as the decimals they were: 0.1, and not 0.10000000149011612."""
    import pyarrow

    for place, field in enumerate(table.schema):
        if field.type == pyarrow.float32():
            written = table.column(place).cast(pyarrow.string())
            table = table.set_column(place, field.name, written.cast(pyarrow.float64()))
    return table


class MemorySource(Sequence[Record]):
    """A list of mappings."""

    def __init__(self, records: Sequence[Mapping[str, Any]], layout: Layout = ANYTHING) -> None:
        if len(records) == 0:
            raise ValueError(f"The record list is empty ({_argument('records')}).")
        for place, record in enumerate(records):
            _check_record(record, f"record {place}", layout)
        self._records = list(records)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Record:
        return dict(self._records[index])

    def place(self, index: int) -> str:
        """Number of a record."""
        return f"record {index}"


class ProblemSource(Sequence[Record]):
    """Problems as records with the columns prompt, reference, answer, demonstration and level.

    `answer` is the reference's gold answer as text; a column that a task lacks is absent, so that
    asking for it fails here.
    """

    def __init__(self, problems: Sequence[Problem], layout: Layout = ANYTHING) -> None:
        if len(problems) == 0:
            raise ValueError(f"The problem set is empty ({_argument('records')}).")
        self.problems = problems
        self._layout = layout
        self._last = -1, ""  # number and place of the problem that was made last
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
            "level": problem.level,
        }
        record = {key: value for key, value in record.items() if value is not None}
        where = self._place_of(problem)
        _check_record(record, where, self._layout)
        self._last = index, where
        return record

    def place(self, index: int) -> str:
        """Number and task of a problem; whoever has just read it does not make it again."""
        last, where = self._last
        return where if index == last else self._place_of(self.problems[index])

    @staticmethod
    def _place_of(problem: Problem) -> str:
        return f"problem {problem.id} ({_task_of(problem)})"


class Part(Sequence[Record]):
    """Some records of a source, in any order."""

    def __init__(self, source: Sequence[Record], places: Sequence[int]) -> None:
        self._source, self._places = source, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Record:
        return self._source[self._places[index]]

    def place(self, index: int) -> str:
        """Where the record stands in the source."""
        return place_of(self._source, self._places[index])


def place_of(source: Sequence[Record], index: int) -> str:
    """Where a record stands, for errors: file and line, file and row, or its number."""
    place = getattr(source, "place", None)
    return f"record {index}" if place is None else place(index)


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


class _WithId(Sequence[Record]):
    """Adds the stable index of each record."""

    def __init__(self, source: Sequence[Record]) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        return {**self._source[index], "id": int(index)}


def _check_line(line: bytes, where: str, layout: Layout) -> None:
    known = next((kind for mark, kind in _OTHER_KINDS.items() if line.startswith(mark)), None)
    if known is not None:
        raise ValueError(
            f"{where} begins as {known} does; a JSONL file is UTF-8 text with one JSON object a "
            f"line ({layout.path_field})."
        )
    # Also of text that is no UTF-8, and of brackets nested deeper than Python counts.
    with blamed(f"{where} is no JSON", ValueError, RecursionError, field=layout.path_field):
        record = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_no_key_twice)
    if not isinstance(record, dict):
        raise ValueError(
            f"{where} is a JSON {type(record).__name__}, not an object; a JSONL file has one "
            f"object a line ({layout.path_field})."
        )
    _check_record(record, where, layout)


def _no_key_twice(pairs: list[tuple[str, Any]]) -> Record:
    """An object of JSON; of a key that is there twice nobody knows which value is meant."""
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} is there twice")
    return record


def _check_record(record: Mapping[str, Any], where: str, layout: Layout) -> None:
    _check_columns(record, where, layout)
    for column in layout.required:
        _check_value(record[column], column, where, layout)


def _check_columns(present: Iterable[str], where: str, layout: Layout) -> None:
    missing = [column for column in layout.required if column not in present]
    if missing:
        raise ValueError(
            f"{where} lacks the column {missing[0]!r}; it has {sorted(present)} "
            f"({layout.columns_field})."
        )


def _check_arrow_column(
    values: "pyarrow.ChunkedArray", column: str, path: str, layout: Layout
) -> None:
    import pyarrow

    typed = column in layout.text_columns or column in layout.chat_columns
    is_text = pyarrow.types.is_string(values.type) or pyarrow.types.is_large_string(values.type)
    if typed and not is_text:
        rows = (value for chunk in values.chunks for value in chunk.to_pylist())
        for number, value in enumerate(rows, start=1):
            _check_value(value, column, f"{path}, row {number}", layout)
    elif values.null_count:  # of a text or untyped column only the nulls can be wrong
        number = values.is_null().index(True).as_py() + 1
        _check_value(None, column, f"{path}, row {number}", layout)


def _check_value(value: Any, column: str, where: str, layout: Layout) -> None:
    place, field = f"{where}: the column {column!r}", layout.columns_field
    if column in layout.chat_columns and is_conversation(value):
        value = read_messages(value, place)
    elif column in layout.text_columns or column in layout.chat_columns:
        wanted = "a text" if column in layout.text_columns else "a text, or a list of messages"
        _require(isinstance(value, str), value, f"{place} must hold {wanted}", field)
    else:
        _require(value is not None, value, f"{place} must hold anything but null", field)
    check_texts(value, place)


def _require(fits: bool, value: Any, what: str, field: str) -> None:
    if not fits:
        raise ValueError(f"{what}, got {typed(value)} ({field}).")


def _argument(name: str) -> str:
    """Names an argument in the place of a config field, where there is none."""
    return f"the argument {name!r} of open_source"


def _task_of(problem: Problem) -> str:
    return problem.reference["task"] if isinstance(problem.reference, dict) else "task"
