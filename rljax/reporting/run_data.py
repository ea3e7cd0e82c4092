"""A workdir as the report sees it: rows sorted into curves, rollouts, figures.

Reads what is there. A run that is still running has no summary and perhaps half a last line.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rljax.reporting import files


@dataclasses.dataclass(frozen=True)
class Curve:
    """One metric over the steps of one stage."""

    steps: np.ndarray  # [n] i64, ascending
    values: np.ndarray  # [n] f64, non-finite where the run logged so


@dataclasses.dataclass(frozen=True)
class Stage:
    """The curves of one stage of one run: by metric name, for each kind of row."""

    train: dict[str, Curve]
    heldout: dict[str, Curve]
    timing: dict[str, Curve]

    @property
    def last_step(self) -> int:
        curves = [*self.train.values(), *self.heldout.values(), *self.timing.values()]
        return max((int(curve.steps[-1]) for curve in curves), default=0)


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that the report shows of one workdir."""

    name: str
    path: Path
    stages: dict[str, Stage]
    config: dict[str, Any]
    environment: dict[str, Any]
    summary: dict[str, Any]
    goodput: dict[str, Any]  # reporting/goodput.py
    timeline: dict[str, Any]  # reporting/timeline.py
    rollout_paths: dict[str, list[Path]]  # by stage, ascending steps
    example_paths: dict[str, Path]  # by stage, in the order of the stages

    @property
    def complete(self) -> bool:
        return bool(self.summary)


def to_curves(rows: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
    """Sorts the rows' numbers by metric; when a step occurs twice, its last row counts."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in row.items():
            value = None if name in ("stage", "step", "kind") else files.number(value)
            if value is not None:
                found.setdefault(name, {})[int(row["step"])] = value
    curves = {}
    for name, points in found.items():
        steps = np.array(sorted(points), dtype=np.int64)
        curves[name] = Curve(steps, np.array([points[step] for step in steps], dtype=np.float64))
    return curves


def read_stages(workdir: Path) -> dict[str, Stage]:
    """The stages in the order in which they first logged something."""
    metric_rows = checked_rows(workdir / files.METRICS_FILE)
    timing_rows = checked_rows(workdir / files.TIMING_FILE)
    names = dict.fromkeys(row["stage"] for row in [*metric_rows, *timing_rows])
    stages = {}
    for name in names:
        mine = [row for row in metric_rows if row["stage"] == name]
        stages[name] = Stage(
            train=to_curves(row for row in mine if row.get("kind", "train") == "train"),
            heldout=to_curves(row for row in mine if row.get("kind") == "heldout"),
            timing=to_curves(row for row in timing_rows if row["stage"] == name),
        )
    return stages


def checked_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metric file, each with a stage and a step."""
    rows = files.read_rows(path)
    for row in rows:
        if not isinstance(row.get("stage"), str) or not isinstance(row.get("step"), int):
            raise ValueError(f"{path}: a row without a stage (text) and a step (integer): {row!r}.")
    return rows


def read_run(workdir: Path, name: str | None = None) -> Run:
    """Reads a workdir.

    Raises:
        ValueError: if `workdir` is not the folder of a run, or one of its files is damaged.
    """
    if not workdir.is_dir():
        raise ValueError(f"No such folder: {workdir}. Give the --workdir of a run.")
    known = (files.METRICS_FILE, files.CONFIG_FILE, files.RUN_FILE)
    if not any((workdir / file).exists() for file in known):
        raise ValueError(
            f"{workdir} is not the workdir of a run: it holds none of {', '.join(known)}."
        )
    stages = read_stages(workdir)
    examples = {stage: workdir / files.EXAMPLES_FOLDER / f"{stage}.json" for stage in stages}
    rollout_paths: dict[str, list[Path]] = {}
    for path in sorted((workdir / files.ROLLOUTS_FOLDER).glob("*-*.json")):
        rollout_paths.setdefault(path.stem.rpartition("-")[0], []).append(path)
    return Run(
        name=name or workdir.resolve().name,
        path=workdir,
        stages=stages,
        config=files.read_json(workdir / files.CONFIG_FILE),
        environment=files.read_json(workdir / files.RUN_FILE),
        summary=files.read_json(workdir / files.SUMMARY_FILE),
        goodput=files.read_json(workdir / files.GOODPUT_FILE),
        timeline=files.read_json(workdir / files.TIMELINE_FILE),
        rollout_paths=rollout_paths,
        example_paths={stage: path for stage, path in examples.items() if path.exists()},
    )


def read_runs(workdirs: Sequence[Path]) -> list[Run]:
    """Reads several workdirs and gives each the shortest name that tells them apart."""
    if not workdirs:
        raise ValueError("No workdir was given; give at least one.")
    resolved = [Path(workdir).resolve() for workdir in workdirs]
    for index, path in enumerate(resolved):
        if path in resolved[:index]:
            raise ValueError(f"The workdir {workdirs[index]} was given twice.")
    names = [path.name for path in resolved]
    if len(set(names)) < len(names):
        common = os.path.commonpath(resolved)
        names = [os.path.relpath(path, common) for path in resolved]
    return [read_run(Path(w), name) for w, name in zip(workdirs, names, strict=True)]


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} becomes {"a.b": 1}; lists stay whole, empty mappings too."""
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: tree} if prefix else {}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return found
