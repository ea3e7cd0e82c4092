"""What the runs ended with, and whether orderings that papers claim hold here."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from rljax.comparison import contrasts
from rljax.comparison.contrasts import Contrast
from rljax.comparison.from_start.study import Study
from rljax.comparison.orderings import Claim, judged
from rljax.comparison.table import DASH, interval
from rljax.reporting.files import read_rows

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
    claims = [c for c in study.claims if c.where == task and {c.method, c.other} <= found.keys()]
    return "\n".join([*lines, *claims_table(claims, found), ""])


def claims_table(claims: Sequence[Claim], found: Found) -> list[str]:
    """Whether claims hold, within seeds; verdicts corrected for their number (Holm)."""
    if not claims:
        return []
    against = [_contrast(claim, found) for claim in claims]
    heads = ("claim", "from", "difference", "seeds that agree", "ordering holds")
    lines = ["", f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    verdicts = judged([claim.relation for claim in claims], against)
    for claim, one, verdict in zip(claims, against, verdicts, strict=True):
        said = f"{claim.method} {claim.relation} {claim.other}, {claim.metric}"
        holds = f"{verdict.said} ({verdict.reason})" if verdict.reason else verdict.said
        effect = interval(one.effect, signed=True)
        cells = (said, claim.source, effect, _agreement(claim, found), holds)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _values(claim: Claim, found: Found) -> tuple[np.ndarray, np.ndarray]:
    """What both methods of a claim ended with, seed by seed."""
    ours, theirs = (np.asarray(found[name][claim.metric]) for name in (claim.method, claim.other))
    return ours, theirs


def _contrast(claim: Claim, found: Found) -> Contrast:
    return contrasts.of_scores(*_values(claim, found), paired=True)


def _agreement(claim: Claim, found: Found) -> str:
    """How many seeds are ordered as the claim says."""
    differences = np.subtract(*_values(claim, found)) * (-1 if claim.relation == "<" else 1)
    return f"{int((differences > 0).sum())} of {len(differences)}"


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
