"""What a run reads, by content: data, rewards with what they import, tokenizer, weights.

A run is its config and these files. Their digests are saved in run.json; a run continues with the
same content only, wherever the files lie by then. A config file counts by the values that it gives,
which are in config.json. Files that a reward opens by itself are not seen.
"""

import ast
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rljax.config.data import FILE_SOURCES
from rljax.data.data_files import data_files, kind_of_files
from rljax.environments.table import environment_file, is_users
from rljax.errors import blamed
from rljax.rewards.functions import REWARDS
from rljax.rewards.user_rewards import reward_file
from rljax.training.run.context import Context
from rljax.training.run.digests import DIGESTS_FILE, Digest, file_digests
from rljax.training.run.start import Source

# Of a folder of a published model or tokenizer; other files, such as a README.md, are not read.
TEXT_SUFFIXES = (".json", ".jinja", ".model", ".txt", ".tiktoken")
WEIGHT_SUFFIXES = (".safetensors",)


class Content(NamedTuple):
    """The files behind one path of the config."""

    path: str  # as the config says it
    files: dict[str, Digest]  # by name, relative to the path or beside it


Contents = dict[str, Content]  # by field: "config.data.path", "config.scoring.rewards.0.name"


def read_contents(context: Context) -> Contents:
    """Hashes all files that a run reads, each once; about 2 GB a second on one core."""
    files = {field: (path, files) for field, path, files in _files(context)}
    paths = sorted({file for _, table in files.values() for file in table.values()})
    with blamed("A file of the run cannot be read", OSError, field="config.data, config.model"):
        digests = dict(zip(paths, file_digests(paths), strict=True))
    return {
        field: Content(path, {name: digests[file] for name, file in table.items()})
        for field, (path, table) in files.items()
    }


def as_json(contents: Contents) -> dict[str, Any]:
    """The contents as run.json holds them."""
    return {field: content._asdict() for field, content in contents.items()}


def from_json(stored: Mapping[str, Any], where: Path) -> Contents:
    """The contents that `as_json` wrote.

    Raises:
        ValueError: for anything else; `where` it was read is named.
    """
    contents = {}
    for field, entry in stored.items():
        if not isinstance(entry, Mapping) or not isinstance(entry.get("files"), Mapping):
            raise ValueError(f"{where}: {field!r} must hold a table of files, found {entry!r}.")
        contents[field] = Content(str(entry.get("path")), dict(entry["files"]))
    return contents


def changed_files(old: Contents, new: Contents) -> list[str]:
    """A line for every file that is not what it was."""
    lines = []
    for field in sorted(old.keys() & new.keys()):
        before, after = old[field].files, new[field].files
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                change = f"{_short(before.get(name))} -> {_short(after.get(name))}"
                lines.append(f"{field}: {name} of {new[field].path!r}: {change}")
    return lines


def moved_paths(old: Contents, new: Contents) -> list[str]:
    """A line for every path that has moved with its content."""
    return [
        f"{field}: {old[field].path!r} is now {new[field].path!r}, with the same content"
        for field in sorted(old.keys() & new.keys())
        if old[field].path != new[field].path and old[field].files == new[field].files
    ]


def _short(digest: Digest | None) -> str:
    if digest is None:
        return "nothing"
    return f"sha256 {str(digest.get('sha256'))[:12]} ({digest.get('bytes')} bytes)"


def _files(context: Context) -> Iterator[tuple[str, str, dict[str, Path]]]:
    """(field, its path, files by name) of all that is read from disk."""
    config = context.config
    if config.data.kind in FILE_SOURCES:
        for name in ("path", "heldout_path"):
            field, path = f"config.data.{name}", config.data[name]
            yield field, path, _data(path, config.data.kind, field)
    for stage in context.stages:
        where, kind = f"config.{stage.name}", stage.data.get("source")
        for name in ("path", "heldout_path"):
            if path := stage.data.get(name):
                field = f"{where}.data.{name}"
                yield field, path, _data(path, kind if kind in FILE_SOURCES else "jsonl", field)
        for role, model in stage.models.items():
            if path := model.get("reference_path"):
                field = f"{where}.models.{role}.reference_path"
                yield field, path, _data(path, kind_of_files(path, field), field)
            if Path(model["start_from"]).is_absolute():  # not the name of a stage
                start = model["start_from"]
                yield f"{where}.models.{role}.start_from", start, _model(start)
            for number, start in enumerate(model.get("members", ())):
                if Path(start).is_absolute():
                    yield f"{where}.models.{role}.members.{number}", start, _model(start)
    for field in ("name", "agent"):
        if is_users(name := config.environment[field]):
            yield f"config.environment.{field}", name, local_modules(environment_file(name))
    for index, reward in enumerate(config.scoring.rewards):
        if reward["name"] not in REWARDS:
            path = reward_file(reward["name"])
            yield f"config.scoring.rewards.{index}.name", str(path), local_modules(path)
    if start := Source.of(config).init_from:
        yield "config.model.init_from", start, _model(start)
    folder = Path(config.tokenizer.path).absolute()
    if folder.is_dir():
        yield "config.tokenizer.path", str(folder), _folder(folder, TEXT_SUFFIXES)


def _data(path: str, kind: str, field: str) -> dict[str, Path]:
    return {name: Path(file) for name, file in data_files(path, kind, field).items()}


def _model(folder: str) -> dict[str, Path]:
    """A checkpoint of another run, whose digests stand for its files; or a published folder."""
    digests = Path(folder) / DIGESTS_FILE
    if digests.is_file():
        return {DIGESTS_FILE: digests}
    return _folder(Path(folder), (*TEXT_SUFFIXES, *WEIGHT_SUFFIXES))


def _folder(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """The files with these suffixes; what is hidden is left out."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        if path.suffix in suffixes and path.is_file() and not hidden:
            found[str(name)] = path
    return found


def local_modules(path: Path) -> dict[str, Path]:
    """A Python file, the modules beside it that it imports, and those that these import.

    Installed packages are not followed.

    Returns:
        Files by name, relative to the folder of `path`.
    """
    folder = path.absolute().parent
    found: dict[str, Path] = {}
    waiting = [path.absolute()]
    while waiting:
        file = waiting.pop()
        name = os.path.relpath(file, folder)
        if name not in found:
            found[name] = file
            waiting += _imported(file, folder)
    return dict(sorted(found.items()))


def _imported(file: Path, folder: Path) -> list[Path]:
    """The modules in `folder`, or beside `file`, that a file imports anywhere in its code."""
    with blamed(str(file), OSError, SyntaxError, ValueError, field="config.scoring.rewards"):
        tree = ast.parse(file.read_bytes())
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found += _module_files(folder, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            start = file.parents[node.level - 1] if node.level else folder
            if node.level:
                found.append(start / "__init__.py")
            parts = node.module.split(".") if node.module else []
            for alias in node.names:  # a name in the module, or a module of its own
                found += _module_files(start, [*parts, alias.name])
    return [path for path in found if path.is_file()]


def _module_files(start: Path, parts: Sequence[str]) -> list[Path]:
    """Where a dotted module and the packages that it lies in would be."""
    places = [start.joinpath(*parts[: count + 1]) for count in range(len(parts))]
    return [path for place in places for path in (place.with_suffix(".py"), place / "__init__.py")]
