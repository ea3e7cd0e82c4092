"""The files of a run, and whether a workdir belongs to a config and its data.

config.json      the resolved config          run.json       its hash, what it reads, versions
metrics.jsonl    reproducible numbers         timing.jsonl   seconds
rollouts/        samples for the report       checkpoints/   one folder per stage
summary.json     final figures                report.html    the report
events.jsonl     of a sampler ahead           weights/       what passes to it, if through files
lock             while a process runs         damaged/       checkpoints that were set aside
"""

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rljax.config.identity import config_hash, differing_fields, environment, without_prefixes
from rljax.errors import blamed
from rljax.reporting.files import (
    CONFIG_FILE,
    METRICS_FILE,
    RUN_FILE,
    as_written,
    read_json,
    remove_unfinished,
    write_json_atomic,
)
from rljax.training.run.checkpoints import read_note
from rljax.training.run.contents import (
    Contents,
    as_json,
    changed_files,
    from_json,
    moved_paths,
)
from rljax.training.run.digests import DIGESTS_FILE, file_digest
from rljax.training.run.lock import LOCK_FILE
from rljax.training.run.storage import (
    CHECKPOINTS_FOLDER,
    Folder,
    checkpoints_folder,
    saved_steps,
    stamp,
)

# What may differ between a run and its continuation: how it is shown, and on which devices and by
# how many processes it is computed; not what.
FREE_FIELDS = (
    *("reporting", "checks", "checkpoint", "mesh", "processes"),
    *("scoring.workers", "scoring.timeout_seconds", "scoring.memory_mb", "scoring.try_first"),
    *("asynchronous.transfer", "asynchronous.transfer_folder", "asynchronous.offload_optimizer"),
    *("sampler.mesh", "asynchronous.sampler_devices"),
)

# Any of them says that a run has begun here.
OF_A_RUN = (CONFIG_FILE, RUN_FILE, METRICS_FILE, CHECKPOINTS_FOLDER)

# What a new workdir may hold already: the output of the command that trains in it.
LOG_SUFFIXES = (".log", ".out", ".err", ".txt")


def default_workdir(name: str) -> Path:
    """runs/NAME-DATE-TIME."""
    return Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def run_identity(resolved: Mapping[str, Any], contents: Contents) -> str:
    """A hash of all that a run computes from: its config without paths, and its files."""
    files = {field: content.files for field, content in contents.items()}
    return config_hash({"config": _computed(as_written(resolved), contents), "files": files})


def claim_workdir(
    workdir: Path, resolved: Mapping[str, Any], contents: Contents | None = None
) -> list[str]:
    """Marks a workdir as this run's, or checks that it already is.

    Of config.json and run.json one may be lost: the other one, or a checkpoint, tells whether the
    run is the same, and the lost one is written again.

    Args:
        workdir: made if needed.
        resolved: the config (training/run/context.py).
        contents: what the run reads (training/run/contents.py).

    Returns:
        Lines to say: paths that have moved, files that were written again.

    Raises:
        ValueError: if the folder cannot be written, holds something else, or belongs to another
            config or other data; what differs is listed.
    """
    contents, resolved = contents or {}, as_written(resolved)
    make_folder(workdir)
    folder = resolved.get("checkpoint", {}).get("folder", "")
    root = checkpoints_folder(workdir, folder)
    identity = run_identity(resolved, contents)
    run = {"config_hash": config_hash(resolved), "identity": identity, **environment()}
    whole = {CONFIG_FILE: resolved, RUN_FILE: run | {"contents": as_json(contents)}}
    found = {name: _stored(workdir / name) for name in whole}
    begun = [name for name in OF_A_RUN if (workdir / name).exists()]
    if not begun:
        _check_empty(workdir)
        _write(workdir, whole)
        return []
    remove_unfinished(workdir)
    lost = [name for name, stored in found.items() if stored is None]
    if lost:
        if _recorded_identity(root, found[RUN_FILE]) != identity:
            raise ValueError(_lost(workdir, lost, begun))
        _write(workdir, {name: whole[name] for name in lost})
        return [
            f"{workdir / name} was lost; it is written again, for the same run." for name in lost
        ]
    _check_folder(workdir, found[CONFIG_FILE], folder)
    before = from_json(found[RUN_FILE].get("contents", {}), workdir / RUN_FILE)
    if found[RUN_FILE].get("identity") != identity:
        _check_same(workdir, found[CONFIG_FILE], resolved, before, contents)
    lines = [*moved_paths(before, contents), *_other_mesh(found[CONFIG_FILE], resolved)]
    if lines:  # run.json last: if the process dies before it, the paths are still old to the next
        _write(workdir, {CONFIG_FILE: resolved})
        _write(workdir, {RUN_FILE: found[RUN_FILE] | {"contents": as_json(contents)}})
    return lines


def check_replay(other: Path, resolved: Mapping[str, Any], contents: Contents) -> None:
    """Checks that a run computes what another one did.

    Args:
        other: workdir of the other run.
        resolved: the config of this one.
        contents: what this one reads.

    Raises:
        ValueError: in one line, with the fields and files that differ.
    """
    then = from_json((_stored(other / RUN_FILE) or {}).get("contents", {}), other / RUN_FILE)
    stored, given = _stored(other / CONFIG_FILE) or {}, as_written(resolved)
    both = then.keys() & contents.keys()
    lines = differing_fields(
        _computed(stored, {field: then[field] for field in both}),
        _computed(given, {field: contents[field] for field in both}),
    )
    lines = lines or changed_files(then, contents)
    if lines:
        raise ValueError(
            f"{other} is a run of another config or other data, and cannot be replayed with this "
            f"one (its -> given): {'; '.join(lines)} (--replay)."
        )


def check_note(workdir: Path, step: Path, note: Mapping[str, Any], identity: str) -> None:
    """Checks that a checkpoint is of this run, and that the files of the workdir go with it.

    Args:
        workdir: of the run.
        step: folder of the checkpoint.
        note: of the checkpoint.
        identity: of the run, `run_identity`.

    Raises:
        ValueError: if another run wrote it, or a file is no longer what it was then.
    """
    if note.get("identity") != identity:
        raise ValueError(
            f"The checkpoint {step} is of another run: its config or its data were not those of "
            f"{workdir / CONFIG_FILE}. Put the right files back, or give another --workdir."
        )
    for name, digest in note["files"].items():
        path = workdir / name
        if name != METRICS_FILE and not path.exists():
            continue  # made again by whoever reads it
        if file_digest(path, digest["bytes"]) != digest:
            raise ValueError(
                f"{path} is not what it was when {step} was saved: its first {digest['bytes']} "
                f"bytes are missing or changed. Put the file back, delete {step} to continue from "
                "the checkpoint before it, or give another --workdir."
            )


def make_folder(workdir: Path) -> None:
    """Makes the folder of a run, and those above it.

    Raises:
        ValueError: if it cannot be made or written, or no checkpoint in it could be read again.
    """
    # orbax looks for its own files by patterns, and then leaves out what it has written.
    if patterns := sorted(set("*?[") & set(str(workdir.absolute()))):
        raise ValueError(
            f"The workdir {str(workdir.absolute())!r} has {' '.join(patterns)} in its path, with "
            "which no checkpoint in it can be read again: give one without * ? [ (--workdir)."
        )
    where = f"The workdir {str(workdir)!r} cannot be made or written"
    with blamed(where, OSError, ValueError, field="--workdir"):  # ValueError: a NUL in the name
        workdir.mkdir(parents=True, exist_ok=True)
    if not os.access(workdir, os.W_OK | os.X_OK):
        raise ValueError(f"{where}: no permission (--workdir).")


def _stored(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where the file is missing or damaged."""
    try:
        return read_json(path) or None
    except ValueError:
        return None


def _write(workdir: Path, contents: Mapping[str, Any]) -> None:
    """Writes files of a run; config.json last, which says that the workdir is claimed."""
    for name in (RUN_FILE, CONFIG_FILE):
        if name in contents:
            with blamed(f"{workdir / name} cannot be written", OSError, field="--workdir"):
                write_json_atomic(workdir / name, contents[name])


def _check_empty(workdir: Path) -> None:
    names = sorted(path.name for path in workdir.iterdir() if path.suffix not in LOG_SUFFIXES)
    others = [name for name in names if name != LOCK_FILE and not name.startswith(".")]
    if others:
        listed = ", ".join(map(repr, others[:5])) + (", ..." if len(others) > 5 else "")
        raise ValueError(
            f"{workdir} holds other things than a run: {listed}. Give a new or an empty folder "
            "(--workdir)."
        )


def _check_folder(workdir: Path, stored: Mapping[str, Any], folder: str) -> None:
    """Raises ValueError unless the checkpoints are where the run has put them."""
    before = (stored.get("checkpoint") or {}).get("folder", "")
    if before != folder:
        raise ValueError(
            f"The checkpoints of the run in {workdir} are in {before or CHECKPOINTS_FOLDER!r}, not "
            f"in {folder or CHECKPOINTS_FOLDER!r}: give the stored value to continue it, or "
            "another --workdir (config.checkpoint.folder)."
        )


def _recorded_identity(root: Folder, run: Mapping[str, Any] | None) -> str | None:
    """The identity of a run, from its run.json or a checkpoint of its last stage.

    Args:
        root: of its checkpoints.
        run: run.json; None where it is lost.
    """
    if run is not None:
        return run.get("identity")
    stages = [path for path in root.iterdir() if path.is_dir()] if root.exists() else []
    written = [path / str(steps[-1]) for path in stages if (steps := saved_steps(path))]
    newest = max(written, key=lambda step: stamp(step / DIGESTS_FILE)[2], default=None)
    return None if newest is None else read_note(newest).get("identity")


def _lost(workdir: Path, lost: Sequence[str], begun: Sequence[str]) -> str:
    return (
        f"{workdir} holds {', '.join(begun)}, but {' and '.join(lost)} "
        f"{'is' if len(lost) == 1 else 'are'} missing or damaged, and what is left does not say "
        "that it is of this config and its data: put the file back to continue the run, or give "
        "another --workdir."
    )


def _computed(config: Mapping[str, Any], contents: Contents) -> dict[str, Any]:
    """The fields of a config that decide what is computed; paths are known by their content."""
    paths = {field: content.path for field, content in contents.items()}
    kept = without_prefixes(config, paths)
    for field in FREE_FIELDS:
        section, _, name = field.partition(".")
        if name and section in kept:
            kept[section].pop(name, None)
        elif not name:
            kept.pop(section, None)
    return kept


def _other_mesh(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """A line where a run goes on with another mesh."""
    before, now = (
        ", ".join(f"{axis}={size}" for axis, size in config.get("mesh", {}).items())
        for config in (stored, given)
    )
    if before == now:
        return []
    return [
        f"the mesh was {before} and is {now} now: the run goes on with the same prompts and the "
        "same noise; its numbers agree with those of one mesh up to rounding, not bit for bit"
    ]


def _check_same(
    workdir: Path,
    stored: Mapping[str, Any],
    given: Mapping[str, Any],
    before: Contents,
    now: Contents,
) -> None:
    """Raises ValueError unless config and contents are those of the workdir."""
    both = before.keys() & now.keys()  # a path on one side only is a difference of the config
    then = _computed(stored, {field: before[field] for field in both})
    if lines := differing_fields(then, _computed(given, {field: now[field] for field in both})):
        listed = "\n  ".join(lines)
        raise ValueError(
            f"{workdir} belongs to another config (stored -> given):\n  {listed}\n"
            "Give the stored values to continue it, or another --workdir."
        )
    if lines := changed_files(before, now):
        listed = "\n  ".join(lines)
        raise ValueError(
            f"What the run in {workdir} reads has changed since it began (then -> now):\n"
            f"  {listed}\nPut the files back to continue it, or give another --workdir."
        )
