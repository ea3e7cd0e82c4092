"""Whether a run that was killed left what an uninterrupted one leaves.

Only times may differ, and what was saved because of a signal: a step that no run saves by itself.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from rljax.reporting.files import METRICS_FILE, RUN_FILE, SUMMARY_FILE, read_json, read_rows
from rljax.training.run.checkpoints import SOURCE
from rljax.training.run.digests import damage
from rljax.training.run.storage import CHECKPOINTS_FOLDER, DAMAGED_FOLDER

# Files that must be the same, byte by byte.
SAME = (METRICS_FILE, "rollouts/*.json", "pairs/*", "examples/*.json")

# Names of files that only a process that is writing may have.
TEMPORARY = ("*tmp*", "*.unfinished", "lock")


def differences(workdir: Path, reference: Path, *, damaged: bool = False) -> list[str]:
    """A line for everything in which a finished run differs from the reference.

    Args:
        workdir: of the run.
        reference: workdir of the same run, never interrupted.
        damaged: whether a checkpoint may have been set aside.
    """
    lines = []
    if read_json(workdir / RUN_FILE).get("identity") != read_json(reference / RUN_FILE)["identity"]:
        lines.append(f"{RUN_FILE} says that it is another run")
    for pattern in SAME:
        lines += _different_files(workdir, reference, pattern)
    lines += _repeated_rows(workdir)
    lines += _different_checkpoints(workdir, reference)
    ours, theirs = (_untimed(read_json(folder / SUMMARY_FILE)) for folder in (workdir, reference))
    if ours != theirs:
        names = sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n))
        lines.append(f"{SUMMARY_FILE} differs in {', '.join(names)}")
    lines += [
        f"{path.relative_to(workdir)} was left behind"
        for pattern in TEMPORARY
        for path in sorted(workdir.rglob(pattern))
    ]
    if not (workdir / "report.html").exists():
        lines.append("report.html is missing")
    if (workdir / DAMAGED_FOLDER).exists() and not damaged:
        lines.append(f"{DAMAGED_FOLDER}/ holds a checkpoint that nobody has damaged")
    return lines


def state_hash(step: Path) -> str:
    """SHA-256 of all arrays of a checkpoint, with their names, types and shapes."""
    digest = hashlib.sha256()
    for item in ("state", SOURCE):
        if not (step / item).exists():
            continue
        about = ocp.metadata(step, checkpointable_name=item).metadata
        wanted = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), about)
        arrays = ocp.load(step, wanted, checkpointable_name=item)
        for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
            leaf = np.asarray(leaf)
            about_it = f"{item}{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}"
            digest.update(about_it.encode())
            digest.update(leaf.tobytes())
    return digest.hexdigest()


def final_steps(workdir: Path) -> dict[str, Path]:
    """The last checkpoint of each stage."""
    found = {}
    for folder in sorted((workdir / CHECKPOINTS_FOLDER).glob("*")):
        steps = [int(path.name) for path in folder.glob("*") if path.name.isdigit()]
        if steps:
            found[folder.name] = folder / str(max(steps))
    return found


def _different_files(workdir: Path, reference: Path, pattern: str) -> list[str]:
    ours, theirs = (
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob(pattern)}
        for folder in (workdir, reference)
    )
    lines = [f"{name} is missing" for name in sorted(theirs.keys() - ours.keys())]
    lines += [f"{name} is new" for name in sorted(ours.keys() - theirs.keys())]
    both = sorted(ours.keys() & theirs.keys())
    return lines + [f"{name} differs" for name in both if ours[name] != theirs[name]]


def _repeated_rows(workdir: Path) -> list[str]:
    rows = Counter((r["stage"], r["step"], r["kind"]) for r in read_rows(workdir / METRICS_FILE))
    return [f"{METRICS_FILE} has {n} rows of {row}" for row, n in rows.items() if n > 1]


def _different_checkpoints(workdir: Path, reference: Path) -> list[str]:
    ours, theirs = final_steps(workdir), final_steps(reference)
    lines = []
    for stage in sorted(ours.keys() | theirs.keys()):
        here, there = (steps[stage].name if stage in steps else None for steps in (ours, theirs))
        if here != there:
            lines.append(f"{stage} ends with checkpoint {here} instead of {there}")
        elif found := damage(ours[stage]):
            lines.append(f"{stage}/{here} is damaged: {found}")
        elif state_hash(ours[stage]) != state_hash(theirs[stage]):
            lines.append(f"{stage}/{here} holds other parameters")
    return lines


def _untimed(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a summary that no clock has measured, and no path."""
    found = {}
    for name, value in summary.items():
        if name == "best_checkpoint":
            found[name] = "/".join(Path(value).parts[-2:])
        elif isinstance(value, Mapping):
            found |= {f"{name}.{k}": v for k, v in _untimed(value).items()}
        elif not name.endswith("seconds"):
            found[name] = json.dumps(value)
    return {k: v for k, v in found.items() if not k.startswith("goodput.")}
