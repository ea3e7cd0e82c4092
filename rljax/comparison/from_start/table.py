"""What the runs ended with, and whether orderings that papers claim hold here."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from rljax.comparison.from_start.study import Claim, Study
from rljax.comparison.statistics import ALIKE
from rljax.comparison.table import DASH
from rljax.reporting.files import read_rows

# Five seeds agree by chance, the one way or the other, once in 16 times; fewer say nothing.
LEAST_SEEDS = 5
LAST_STEPS = 10  # of training, over which what evaluations do not measure is averaged

# Method -> measure -> its value in each seed.
Found = Mapping[str, Mapping[str, Sequence[float]]]


def ended_with(study: Study, workdir: Path) -> dict[str, float]:
    """The measures of a run's end: of its last evaluation, or means of its last training steps.

    NaN for what the run has not logged, of sampling in a supervised stage, say.
    """
    rows = list(read_rows(workdir / "metrics.jsonl"))
    heldout = [row for row in rows if row["kind"] == "heldout"][-1]
    train = [row for row in rows if row["kind"] == "train"][-LAST_STEPS:]

    def value(name: str) -> float:
        found = [heldout[name]] if name in heldout else [row[name] for row in train if name in row]
        return float(np.mean(found)) if found else float("nan")

    return {name: value(name) for name in study.measures}


def verdict(claim: Claim, found: Found) -> str:
    """ "yes" where every seed agrees, "no" where every seed disagrees, else "not distinguishable".

    Seeds are compared pair by pair. Fewer than `LEAST_SEEDS` distinguish nothing.
    """
    pairs = [found[name][claim.measure] for name in (claim.better, claim.other)]
    differences = np.subtract(*map(np.asarray, pairs))
    differences = -differences if claim.relation == "<" else differences
    if len(differences) < LEAST_SEEDS:
        return ALIKE
    if (differences > 0).all():
        return "yes"
    return "no" if (differences < 0).all() else ALIKE


def as_markdown(study: Study, task: str, found: Found) -> str:
    """The table of a task, and the verdicts on the claims about what was run.

    Args:
        study: whose measures and claims are shown.
        task: of the study.
        found: what the runs ended with; of decodings those that are there.
    """
    seeds = len(next(iter(found.values()))[next(iter(study.measures))])
    lines = [f"{task}, {seeds} seeds: median (lowest to highest)", ""]
    lines += _table(study.measures.values(), found, tuple(study.measures))
    if study.decodings:
        measure, title = next(iter(study.measures.items()))
        names = [f"{measure}@{decoding}" for decoding in study.decodings]
        lines += ["", f"{title} under other decodings", ""]
        lines += _table(study.decodings, found, names)
    claims = [c for c in study.claims if c.task == task and {c.better, c.other} <= found.keys()]
    if claims:
        lines += ["", "| claim | from | ordering holds |", "| --- | --- | --- |"]
    for claim in claims:
        said = f"{claim.better} {claim.relation} {claim.other}, {claim.measure}"
        lines.append(f"| {said} | {claim.source} | {verdict(claim, found)} |")
    return "\n".join([*lines, ""])


def _table(titles: Iterable[str], found: Found, names: Sequence[str]) -> list[str]:
    """A line for each method, a column for each of the names."""
    lines = [f"| method | {' | '.join(titles)} |", f"| --- |{' --- |' * len(names)}"]
    for method, values in found.items():
        lines.append(f"| {method} | {' | '.join(_spread(values[name]) for name in names)} |")
    return lines


def _spread(values: Sequence[float]) -> str:
    if np.isnan(values).any():
        return DASH
    low, middle, high = (f"{x:.3g}" for x in np.quantile(np.asarray(values), [0, 0.5, 1]))
    return middle if low == high else f"{middle} ({low} to {high})"
