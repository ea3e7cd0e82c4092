"""What the runs ended with, and whether orderings that papers claim hold here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rljax.reporting.files import read_rows

MEASURES = ("accuracy_greedy", "answer_nll", "answer_share", "completion_tokens")

# Method -> measure -> its value in each seed.
Found = Mapping[str, Mapping[str, Sequence[float]]]


class Claim(NamedTuple):
    """An ordering of two methods in a measure."""

    task: str
    better: str
    measure: str
    relation: str  # "<" or ">"
    other: str
    source: str


_JEPO, _STUDY = "arXiv:2503.19618", "arXiv:2602.03979"
CLAIMS = (
    Claim("short", "jepo", "accuracy_greedy", ">", "warmup", _JEPO),
    Claim("short", "rloo", "accuracy_greedy", ">", "warmup", _JEPO),
    Claim("short", "jepo", "answer_nll", "<", "rloo", f"{_JEPO}, proxy-NLL on Numina"),
    Claim("short", "trice", "accuracy_greedy", ">", "star", "arXiv:2312.02179, abstract"),
    Claim("long", "jepo", "answer_nll", "<", "sft_direct", f"{_JEPO}, Numina-proof"),
    Claim("long", "jepo", "answer_nll", "<", "jepo_unsupervised", f"{_JEPO}, Numina-proof"),
    Claim("long", "jepo", "answer_nll", "<", "probability", _STUDY),
)


def ended_with(workdir: Path) -> dict[str, float]:
    """The measures of a run's last evaluation."""
    rows = [row for row in read_rows(workdir / "metrics.jsonl") if row["kind"] == "heldout"]
    return {name: float(rows[-1].get(name, np.nan)) for name in MEASURES}


def verdict(claim: Claim, found: Found) -> str:
    """ "yes" where every seed agrees, "no" where every seed disagrees, else "not distinguishable".

    Seeds are compared pair by pair, as they share their warm-up. Five that agree by chance do so
    once in 32 times.
    """
    pairs = [found[name][claim.measure] for name in (claim.better, claim.other)]
    differences = np.subtract(*map(np.asarray, pairs))
    differences = -differences if claim.relation == "<" else differences
    if (differences > 0).all():
        return "yes"
    return "no" if (differences < 0).all() else "not distinguishable"


def as_markdown(task: str, found: Found) -> str:
    """The table of a task, and the verdicts on the claims about what was run."""
    seeds = len(next(iter(found.values()))[MEASURES[0]])
    lines = [
        f"{task} answers, {seeds} seeds: median (lowest to highest)",
        "",
        "| method | held-out accuracy | answer NLL, nats | with an answer | tokens |",
        "| --- | --- | --- | --- | --- |",
    ]
    for method, values in found.items():
        cells = [_spread(values[name]) for name in MEASURES]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    claims = [c for c in CLAIMS if c.task == task and {c.better, c.other} <= found.keys()]
    if claims:
        lines += ["", "| claim | from | ordering holds |", "| --- | --- | --- |"]
    for claim in claims:
        said = f"{claim.better} {claim.relation} {claim.other}, {claim.measure}"
        lines.append(f"| {said} | {claim.source} | {verdict(claim, found)} |")
    return "\n".join([*lines, ""])


def _spread(values: Sequence[float]) -> str:
    low, middle, high = (f"{x:.3g}" for x in np.quantile(np.asarray(values), [0, 0.5, 1]))
    return middle if low == high else f"{middle} ({low} to {high})"
