"""The files of a workdir: names, atomic writing, and reading what a killed run has left.

    metrics.jsonl               one row per step: {"stage", "step", "kind", metric: number, ...}
    timing.jsonl                {"stage", "step", "sampling": seconds, ..., "tokens_per_second"}
    rollouts/STAGE-STEP.json    the samples of one step, token by token
    examples/STAGE.json         one sequence of the first batch, token by token
    config.json run.json        what was run, and on what
    summary.json                the final figures; missing while the run is still running
    goodput.json                seconds by phase, over all starts of the run
    timeline.json               spans of the steps that --profile named, for Perfetto

Only metrics.jsonl must be the same, byte for byte, when a run was interrupted and continued.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

METRICS_FILE = "metrics.jsonl"
TIMING_FILE = "timing.jsonl"
ROLLOUTS_FOLDER = "rollouts"
EXAMPLES_FOLDER = "examples"
CONFIG_FILE = "config.json"
RUN_FILE = "run.json"
SUMMARY_FILE = "summary.json"
GOODPUT_FILE = "goodput.json"
TIMELINE_FILE = "timeline.json"
REPORT_FILE = "report.html"
SWEEP_FILE = "sweep.json"  # of the folder of a sweep, which holds workdirs

# Ends the name of a file that is being written, and has no name of its own yet.
UNFINISHED = ".unfinished"


def _umask() -> int:
    """The permissions that new files do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


# Asked for once: while it is, files and processes that other threads make would be open to all.
_UMASK = _umask()

# JSON has no spelling of these; as strings they survive every reader and `float` takes them back.
NON_FINITE = ("nan", "inf", "-inf")


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: array scalars become numbers, non-finite floats strings."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        value = float(value)  # also turns numpy's float64, a subclass, into the plain type
        if value != value:
            return "nan"
        if value in (float("inf"), float("-inf")):
            return repr(value)
        return value
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # numpy and JAX arrays and scalars, without importing either
        return plain(value.tolist())
    raise ValueError(
        f"Cannot write {value!r} ({type(value).__name__}) as JSON; allowed are numbers, text, "
        "booleans, None, arrays, and lists and mappings of them."
    )


def number(value: Any) -> float | None:
    """The float that a row's entry stands for, or None when it is no number."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float):
        return float(value)
    return float(value) if isinstance(value, str) and value in NON_FINITE else None


def write_text_atomic(path: Path | str, text: str) -> None:
    """`write_bytes_atomic` of a text in UTF-8."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_bytes_atomic(path: Path | str, content: bytes) -> None:
    """Writes `content` so that a reader sees the old file or the whole new one, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only the owner may read; the rest of the workdir is not so.
        os.chmod(temporary, 0o666 & ~_UMASK)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_unfinished(workdir: Path) -> None:
    """Removes what killed processes were writing; no other process may be writing here."""
    for folder in (workdir, *(path for path in workdir.glob("*") if path.is_dir())):
        for path in folder.glob(f".*{UNFINISHED}"):
            path.unlink(missing_ok=True)


def write_json_atomic(path: Path | str, obj: Any) -> None:
    """Writes `obj` as indented JSON, atomically (see `plain` for what is allowed)."""
    write_text_atomic(path, json_text(obj))


def json_text(obj: Any) -> str:
    """`obj` as the text of a JSON file."""
    text = json.dumps(plain(obj), indent=2, ensure_ascii=False, allow_nan=False)
    # A byte-level tokenizer may hand over half of a surrogate pair, which UTF-8 cannot hold.
    return text.encode("utf-8", "replace").decode("utf-8") + "\n"


def as_written(obj: Any) -> Any:
    """`obj` as it would be read back from a JSON file: infinities are texts, tuples lists."""
    return json.loads(json_text(obj))


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; empty when the file is missing.

    Raises:
        ValueError: if the file holds something else than a JSON object.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} must hold a JSON object, found a {type(found).__name__}.")
    return found


def read_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Every complete row of a .jsonl file as (the line without its end, the row).

    A last line that is cut off (the run was killed, or is writing right now) is left out.

    Raises:
        ValueError: if any other line is not a JSON object, with its line number.
    """
    if not path.exists():
        return []
    # Split on bytes: the cut may go through a character, and only "\n" ends a row.
    *lines, rest = path.read_bytes().split(b"\n")
    found = []
    for line_number, line in enumerate([*lines, rest], start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            if line_number > len(lines):
                break
            raise ValueError(f"{path}, line {line_number} is not valid JSON: {error}.") from error
        if not isinstance(row, dict):
            if line_number > len(lines):  # `{"a": 12` cannot end up here, but a cut `12` can
                break
            raise ValueError(f"{path}, line {line_number} must be a JSON object, found {row!r}.")
        found.append((line.decode("utf-8"), row))
    return found


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file (see `read_lines`); empty when the file is missing."""
    return [row for _, row in read_lines(path)]


def row_filter(
    resume_from: Mapping[str, int] | Callable[[dict], bool] | None,
) -> Callable[[dict], bool]:
    """Which rows a resumed run keeps.

    Args:
        resume_from: stage -> last step kept, where stages that are not named keep nothing; or a
            predicate on the row; or None, which keeps everything.
    """
    if resume_from is None:
        return lambda row: True
    if callable(resume_from):
        return resume_from
    last = dict(resume_from)
    return lambda row: row.get("step", 0) <= last.get(row.get("stage"), -1)
