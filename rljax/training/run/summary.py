"""The final figures of a run, read back from its files."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rljax.config.graph import start_of
from rljax.config.stage import Stage
from rljax.reporting.files import read_rows

# Of held-out pairs (training/pair_evaluation/).
OF_PAIRS = (
    "reward_accuracy",
    "calibration_error",
    "ranking_accuracy",
    "idealised_ranking_accuracy/median",
)


def summarise(
    workdir: Path, stages: Sequence[Stage], seed: int, goodput: Mapping[str, Any]
) -> dict[str, Any]:
    """Figures for WORKDIR/summary.json.

    heldout_accuracy_before is the greedy accuracy at the start of the last stage (after the
    warm-up, where there is one), heldout_accuracy_after that at its end. None where a stage is
    judged by something else, such as a reward model. `goodput` says where the time of all
    processes went (reporting/goodput.py).
    """
    rows = read_rows(workdir / "metrics.jsonl")
    timing = read_rows(workdir / "timing.jsonl")
    heldout = [row for row in rows if row["kind"] == "heldout"]
    last, start = stages[-1].name, start_of(stages, len(stages) - 1)
    before = [r for r in heldout if r["stage"] == start or (r["stage"] == last and r["step"] == 0)]
    after = [r for r in heldout if r["stage"] == last and r["step"] > 0]
    summary: dict[str, Any] = {
        "method": stages[-1].objective.method.name,
        "seed": seed,
        "heldout_accuracy_before": _greedy(before),
        "heldout_accuracy_after": _greedy(after),
        "wall_seconds": sum(goodput["seconds"].values()),
        "goodput": goodput,
    }
    summary |= {f"heldout_{k}": v for k, v in after[-1].items() if "@" in k} if after else {}
    summary["stages"] = {stage.name: _stage_figures(stage.name, rows, timing) for stage in stages}
    return summary


def _greedy(rows: Sequence[dict]) -> float | None:
    """The greedy accuracy of the last evaluation of policies."""
    found = [row["accuracy_greedy"] for row in rows if "accuracy_greedy" in row]
    return found[-1] if found else None


def _stage_figures(stage: str, rows: Sequence[dict], timing: Sequence[dict]) -> dict[str, float]:
    """Steps, last metrics, and the median seconds per step of each phase."""
    train = [row for row in rows if row["stage"] == stage and row["kind"] == "train"]
    figures: dict[str, float] = {"steps": len(train)}
    shown = ("loss", "reward", "accuracy", "reward_accuracy", "bound", "updates_skipped")
    figures |= {name: train[-1][name] for name in shown if train and name in train[-1]}
    judged = [row for row in rows if row["stage"] == stage and row["kind"] == "heldout"]
    of_pairs = OF_PAIRS if judged else ()
    figures |= {f"heldout_{name}": judged[-1][name] for name in of_pairs if name in judged[-1]}
    for phase in ("sampling", "scoring", "update"):
        seconds = [row[phase] for row in timing if row["stage"] == stage and phase in row]
        if seconds:
            figures[f"{phase}_seconds"] = statistics.median(seconds)
    return figures
