"""What was found, as JSON and as tables: medians over seeds, verdicts, and claims of papers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rljax.comparison import contrasts, statistics
from rljax.comparison.contrasts import Contrast
from rljax.comparison.orderings import Claim, judged
from rljax.comparison.preferences.methods import BASELINE, CLAIMS
from rljax.comparison.statistics import ALIKE
from rljax.comparison.table import interval, number

# Measure -> noise -> ...: see `run.Found`.
Found = Mapping[str, Mapping[str, Mapping[str, Any]]]
Lines = list[str]

GAPS = ("ranking_accuracy", "idealised/0.1")


def as_markdown(found: Found) -> str:
    """All tables.

    Args:
        found: of `run_table`, or read back from its JSON.
    """
    parts = [
        measure_table(found, "gold", "gold reward"),
        measure_table(found, "reward_accuracy", "reward accuracy"),
        ranking_table(found),
        claims_table(found),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def measure_table(found: Found, measure: str, title: str) -> Lines:
    """A measure of every method at every rate of swapped labels, and whether DPO differs.

    The verdicts of a table are corrected for their number (Holm).
    """
    methods, noises = _methods(found), _noises(found)
    places = [(m, e) for m in methods for e in noises if m != BASELINE and BASELINE in found]
    against = [contrast(found[m][e][measure], found[BASELINE][e][measure]) for m, e in places]
    verdicts = dict(zip(places, contrasts.verdicts(against), strict=True))
    heads = [f"{float(e):.0%} swapped" for e in noises]
    lines = head(title, *heads)
    for method in methods:
        cells = []
        for noise in noises:
            text = interval(statistics.median(np.array(found[method][noise][measure])))
            verdict = verdicts.get((method, noise))
            said = "" if verdict is None or verdict.said == ALIKE else f", {verdict.said}"
            cells.append(text + said)
        lines.append(row(method, *cells))
    return lines


def ranking_table(found: Found) -> Lines:
    """Ranking accuracy of all methods at the lowest and the middle rate of swapped labels."""
    noises = _noises(found)
    columns = (
        ("reward accuracy", "reward_accuracy"),
        ("ranking accuracy", "ranking_accuracy"),
        ("per token", "ranking_accuracy_per_token"),
        ("flipped, near", "flipped_near"),
        ("flipped, far", "flipped_far"),
        ("KL, nats", "kl"),
    )
    lines = head("method", "swapped", *(title for title, _ in columns))
    for noise in dict.fromkeys((noises[0], noises[len(noises) // 2])):
        for method in _methods(found):
            values = found[method][noise]
            cells = (number(float(np.median(values[name]))) for _, name in columns)
            lines.append(row(method, f"{float(noise):.0%}", *cells))
    return lines + ["", *data_lines(found)]


def data_lines(found: Found) -> Lines:
    """Ranking accuracy of the start and of DPO's exact minimisers, and what DPO made of it."""
    betas = [name for name in found["data"][_noises(found)[0]] if name.startswith("idealised/")]
    heads = [f"idealised, beta {name.removeprefix('idealised/')}" for name in betas]
    lines = head("swapped", "start", *heads, "required loss", "gap of DPO")
    for noise, values in found["data"].items():
        middles = [number(float(np.median(values[name]))) for name in ("start", *betas)]
        needed = number(float(np.median(values["required_loss"])))
        gap = "–"
        if BASELINE in found:
            reached, ideal = found[BASELINE][noise][GAPS[0]], values[GAPS[1]]
            gap = interval(statistics.median(np.subtract(ideal, reached)))
        lines.append(row(f"{float(noise):.0%}", *middles, needed, gap))
    return lines


def claims_table(found: Found) -> Lines:
    """Whether the claims about what was run hold; verdicts corrected for their number (Holm)."""
    claims = [claim for claim in CLAIMS if _was_run(claim, found)]
    if not claims:
        return []
    against = [
        contrast(*(_values(claim, name, found) for name in (claim.method, claim.other)))
        for claim in claims
    ]
    verdicts = judged([claim.relation for claim in claims], against)
    lines = head("claim", "in", "swapped", "source", "difference", "holds")
    for claim, one, verdict in zip(claims, against, verdicts, strict=True):
        said = f"{claim.method} {claim.relation} {claim.other}"
        effect = interval(one.effect, signed=True)
        measure, noise = claim.metric.replace("_", " "), f"{float(claim.where):.0%}"
        lines.append(row(said, measure, noise, claim.source, effect, verdict.said))
    return lines


def contrast(values: Sequence[float], others: Sequence[float]) -> Contrast:
    """Two methods in a measure, within seeds."""
    return contrasts.of_scores(np.array(values), np.array(others), paired=True)


def _methods(found: Found) -> list[str]:
    return [name for name in found if name != "data"]


def _noises(found: Found) -> list[str]:
    return list(found["data"])


def _was_run(claim: Claim, found: Found) -> bool:
    return {claim.method, claim.other} <= found.keys() and claim.where in found["data"]


def _values(claim: Claim, method: str, found: Found) -> list[float]:
    return found[method][claim.where][claim.metric]


def head(*titles: str) -> Lines:
    """The first two lines of a Markdown table."""
    return [row(*titles), row(*("---" for _ in titles))]


def row(*cells: str) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"
