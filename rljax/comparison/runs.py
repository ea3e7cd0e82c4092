"""What a comparison knows about one method: the curves of all its seeds, on disk and in memory."""

from __future__ import annotations

import dataclasses
import functools
import io
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rljax.errors import unknown_name
from rljax.reporting import files

METRIC_PREFIX = "metric/"
ROUNDING = 1e-6  # a float32 mean of ones may be a little more than 1


@dataclasses.dataclass(frozen=True, eq=False)
class MethodRuns:
    """The curves of one method, or of one point of a sweep over its fields, for S seeds.

    Attributes:
        method: its name.
        seeds: [S] i64, all different. Runs of two methods with the same seed started from the
            same parameters and saw the same prompts.
        steps: [K] i64, ascending; the steps after which held-out accuracy was measured.
        accuracy: [S, K] f64 in [0, 1], share of held-out problems solved.
        tokens: [S, K] f64, tokens that the run had generated for training by then.
        updates: [K] i64, optimizer updates made by then.
        metric_steps: [M] i64, ascending; the steps of `reward` and `metrics`.
        reward: [S, M] f64, mean reward of the sampled training completions.
        seconds: wall seconds of the compiled run of all seeds, divided by S.
        seconds_per_step: wall seconds of one step of all seeds, divided by S.
        point: the swept fields and their values; empty when nothing was swept.
        metrics: name -> [S, M] f64, such as "entropy" or "gradient_norm"; may hold NaN.
        learning_rate: of the policy, peak; None where it is not known.

    Raises:
        ValueError: for a shape that does not fit, steps that do not ascend, a repeated seed, or
            accuracies and tokens that are impossible.
    """

    method: str
    seeds: np.ndarray
    steps: np.ndarray
    accuracy: np.ndarray
    tokens: np.ndarray
    updates: np.ndarray
    metric_steps: np.ndarray
    reward: np.ndarray
    seconds: float
    seconds_per_step: float
    point: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        put = functools.partial(object.__setattr__, self)
        for name in ("seeds", "steps", "updates", "metric_steps"):
            put(name, np.asarray(getattr(self, name), dtype=np.int64))
        for name in ("accuracy", "tokens", "reward"):
            put(name, np.asarray(getattr(self, name), dtype=np.float64))
        for name in ("seconds", "seconds_per_step"):
            put(name, float(getattr(self, name)))
        put("point", files.plain(self.point))
        put("metrics", {k: np.asarray(v, dtype=np.float64) for k, v in self.metrics.items()})
        _check_shapes(self)
        _check_values(self)

    @property
    def label(self) -> str:
        """The method with the point of its sweep, such as "grpo clip_high=0.28"."""
        return label_of(self.method, self.point)


def label_of(method: str, point: Mapping[str, Any]) -> str:
    """How the runs of a method at a point of a sweep are called."""
    return " ".join([method, *(f"{name}={value}" for name, value in point.items())])


def _check_shapes(runs: MethodRuns) -> None:
    for name in ("seeds", "steps", "metric_steps"):
        array = getattr(runs, name)
        if array.ndim != 1 or not len(array):
            raise ValueError(
                f"{runs.label}: {name} must be a list of at least one, got shape {array.shape}."
            )
    seeds, points, logged = len(runs.seeds), len(runs.steps), len(runs.metric_steps)
    expected = {
        "accuracy": (runs.accuracy, (seeds, points)),
        "tokens": (runs.tokens, (seeds, points)),
        "updates": (runs.updates, (points,)),
        "reward": (runs.reward, (seeds, logged)),
        **{f"metrics[{k!r}]": (value, (seeds, logged)) for k, value in runs.metrics.items()},
    }
    for name, (array, shape) in expected.items():
        if array.shape != shape:
            raise ValueError(
                f"{runs.label}: {name} has shape {array.shape}; {seeds} seeds, {points} "
                f"evaluations and {logged} logged steps need {shape}."
            )


def _check_values(runs: MethodRuns) -> None:
    if len(set(runs.seeds.tolist())) < len(runs.seeds):
        raise ValueError(f"{runs.label}: seeds must differ, got {runs.seeds.tolist()}.")
    for name in ("steps", "metric_steps"):
        if (np.diff(getattr(runs, name)) <= 0).any():
            raise ValueError(f"{runs.label}: {name} must ascend.")
    # Written such that it fails for NaN, too.
    if not ((runs.accuracy >= 0) & (runs.accuracy <= 1 + ROUNDING)).all():
        raise ValueError(f"{runs.label}: accuracy must be within [0, 1], which is not so.")
    for name in ("tokens", "updates"):
        values = getattr(runs, name)
        if not (np.isfinite(values).all() and (values >= 0).all() and (np.diff(values) >= 0).all()):
            raise ValueError(f"{runs.label}: {name} must count up from 0 or more.")
    for name in ("seconds", "seconds_per_step"):
        if not 0 <= getattr(runs, name) < float("inf"):
            raise ValueError(f"{runs.label}: {name} must be 0 or more, got {getattr(runs, name)}.")


def file_stem(label: str) -> str:
    """The name of the files of `label`: readable, safe on every file system, one per label."""
    stem = re.sub(r"[^A-Za-z0-9=._+-]", ",", label)
    # Labels that differ in replaced characters only must not share a file.
    return stem if stem.replace(",", " ") == label else f"{stem},{zlib.crc32(label.encode()):08x}"


def save(runs: MethodRuns, folder: Path | str) -> Path:
    """Writes FOLDER/STEM.npz (arrays) and FOLDER/STEM.json (the rest); returns the latter.

    Both are replaced atomically, the json last: where it is there, the arrays are.
    """
    path = Path(folder) / f"{file_stem(runs.label)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ("seeds", "steps", "accuracy", "tokens", "updates", "metric_steps", "reward")
    arrays = {name: getattr(runs, name) for name in names}
    arrays |= {METRIC_PREFIX + name: values for name, values in runs.metrics.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    files.write_bytes_atomic(path.with_suffix(".npz"), buffer.getvalue())
    rest = {
        "method": runs.method,
        "point": runs.point,
        "seconds": runs.seconds,
        "seconds_per_step": runs.seconds_per_step,
        "metrics": list(runs.metrics),
        "learning_rate": runs.learning_rate,
    }
    files.write_json_atomic(path, rest)
    return path


def load(path: Path | str) -> MethodRuns:
    """Reads what `save` wrote; `path` is that of the json.

    Raises:
        ValueError: if a file is missing, lacks an entry, or holds impossible values.
    """
    path = Path(path)
    rest = files.read_json(path)
    if not rest or not path.with_suffix(".npz").exists():
        raise ValueError(f"{path} and its .npz must both be there.")
    try:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            metrics = {name: arrays[METRIC_PREFIX + name] for name in rest.pop("metrics")}
            plain = {k: arrays[k] for k in arrays.files if not k.startswith(METRIC_PREFIX)}
        return MethodRuns(**rest, **plain, metrics=metrics)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not complete: {error}.") from error


def load_all(folder: Path | str) -> list[MethodRuns]:
    """All methods saved in `folder`, in the order of their labels."""
    return sorted((load(path) for path in Path(folder).glob("*.json")), key=lambda runs: runs.label)


def check_labels(runs: Sequence[MethodRuns]) -> None:
    """Raises a ValueError when there is nothing to compare or two runs have the same label."""
    labels = [run.label for run in runs]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if not runs or twice:
        raise ValueError(
            f"A comparison needs runs with different labels, got {labels}"
            + (f"; {twice} occur more than once." if twice else ".")
        )


def find(runs: Iterable[MethodRuns], name: str, field: str) -> MethodRuns:
    """The runs whose label is `name`, or the only point of the method `name`.

    Raises:
        ValueError: if there are none, or several points of that method; names `field`.
    """
    runs = list(runs)
    points = [run for run in runs if run.label == name] or [r for r in runs if r.method == name]
    if not points:
        raise unknown_name("method", name, [run.label for run in runs], field)
    if len(points) > 1:
        raise ValueError(
            f"{name!r} was run with {len(points)} settings; name one of "
            f"{[run.label for run in points]} ({field})."
        )
    return points[0]
