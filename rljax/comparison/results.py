"""The findings of a comparison: a row per method, and what became of the orderings claimed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from rljax.comparison import contrasts, statistics
from rljax.comparison.budget import AXES, spent
from rljax.comparison.censoring import Reached, first_reached
from rljax.comparison.contrasts import Contrast, Verdict
from rljax.comparison.orderings import OPPOSITE, RELATIONS, Claim, judged
from rljax.comparison.runs import MethodRuns, check_labels, find
from rljax.comparison.statistics import Estimate
from rljax.errors import unknown_name

TO_THRESHOLD = "_to_threshold"
TAIL = 0.1  # a logged metric is averaged over this last share of its steps


@dataclasses.dataclass(frozen=True)
class Tested:
    """A claim with its verdict and the numbers behind it.

    Attributes:
        claim: the claim.
        verdict: 'yes', 'no' or 'not distinguishable'.
        value: of `claim.method`: the median over seeds (of costs a lower bound when censored).
        other_value: the same of `claim.other`.
        effect: median difference method - other; for costs P(method is cheaper).
        effect_name: "difference" or "P(cheaper)".
        p: of "both are alike", corrected for the number of claims; NaN where nothing can be said.
        seeds: seeds of the method and of the other.
        paired: whether the difference is within seeds.
        reason: why nothing can be said, or "".
    """

    claim: Claim
    verdict: str
    value: float
    other_value: float
    effect: Estimate
    effect_name: str
    p: float
    seeds: tuple[int, int]
    paired: bool
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """Everything that the tables say about one method.

    Attributes:
        runs: the method's curves, up to its budget.
        baseline: whether it is what the others are compared with.
        accuracy: the median of the held-out accuracy at the end.
        mean: its mean, which has no interval (statistics.py).
        fell: seeds that end below where they began.
        area: median of the mean accuracy over training, see `area`.
        difference: median difference to the baseline; None for the baseline.
        paired: whether that is within seeds.
        improvement: P(a run of the method ends above one of the baseline); None for the baseline.
        p: of "both are alike", corrected for the number of verdicts; NaN for the baseline.
        verdict: 'better', 'worse', 'not distinguishable'; "" for the baseline.
        reason: why no verdict was possible, or "".
        costs: name of `AXES` -> what reaching the threshold took.
        logged: metric, reward first -> median over seeds at the end of training.
    """

    runs: MethodRuns
    baseline: bool
    accuracy: Estimate
    mean: float
    fell: int
    area: Estimate
    difference: Estimate | None
    paired: bool
    improvement: float | None
    p: float
    verdict: str
    reason: str
    costs: dict[str, Reached]
    logged: dict[str, Estimate]


def area(runs: MethodRuns) -> np.ndarray:
    """[S] f64, mean accuracy over training: the area under the curve over the steps' range.

    Between two evaluations the curve is a line. With one evaluation it is that one.
    """
    widths = np.diff(runs.steps)
    if not len(widths):
        return runs.accuracy[:, 0]
    middles = (runs.accuracy[:, 1:] + runs.accuracy[:, :-1]) / 2
    return (middles * widths).sum(1) / widths.sum()


def logged_at_end(runs: MethodRuns, name: str) -> np.ndarray:
    """[S] f64, the metric's mean over the last tenth of the logged steps (at least one)."""
    values = runs.reward if name == "reward" else runs.metrics[name]
    return values[:, -max(1, round(TAIL * values.shape[1])) :].mean(1)


def cost_to_threshold(runs: MethodRuns, name: str, threshold: float) -> Reached:
    """What `runs` took to reach `threshold`, in the unit of `AXES[name]`."""
    return first_reached(runs.accuracy, spent(runs, name), threshold)


def scores(runs: MethodRuns, metric: str) -> np.ndarray:
    """[S] f64, a metric's value of each seed.

    Raises:
        ValueError: if the runs have no such metric.
    """
    if metric == "accuracy":
        return runs.accuracy[:, -1]
    if metric == "accuracy_area":
        return area(runs)
    if metric == "reward" or metric in runs.metrics:
        return logged_at_end(runs, metric)
    costs = [name + TO_THRESHOLD for name in AXES]
    known = ["accuracy", "accuracy_area", "reward", *costs, *runs.metrics]
    raise unknown_name(f"metric of {runs.label}", metric, known, "claims")


def same_seeds(x: MethodRuns, y: MethodRuns) -> bool:
    """Whether both were run with the same seeds, in any order."""
    return set(x.seeds.tolist()) == set(y.seeds.tolist())


def compare_scores(x: MethodRuns, y: MethodRuns, metric: str) -> Contrast:
    """x against y in a metric, within seeds where they have the same ones."""
    a, b = scores(x, metric), scores(y, metric)
    paired = same_seeds(x, y)
    if paired:
        a, b = a[np.argsort(x.seeds)], b[np.argsort(y.seeds)]
    return contrasts.of_scores(a, b, paired=paired)


def find_row(run: MethodRuns, threshold: float) -> Row:
    """All statistics of one method, as if it were the baseline."""
    final = run.accuracy[:, -1]
    return Row(
        runs=run,
        baseline=True,
        accuracy=statistics.median(final),
        mean=float(final.mean()),
        fell=int((final < run.accuracy[:, 0]).sum()),
        area=statistics.median(area(run)),
        difference=None,
        paired=False,
        improvement=None,
        p=math.nan,
        verdict="",
        reason="",
        costs={name: cost_to_threshold(run, name, threshold) for name in AXES},
        logged={
            name: statistics.median(logged_at_end(run, name)) for name in ("reward", *run.metrics)
        },
    )


def find_rows(runs: Sequence[MethodRuns], baseline: str, threshold: float) -> list[Row]:
    """A row per method, the best first: by median, then mean, then label.

    The verdicts against the baseline are corrected for their number (Holm).

    Raises:
        ValueError: for labels that repeat, an unknown baseline, or a threshold outside (0, 1].
    """
    check_labels(runs)
    if not 0 < threshold <= 1:
        raise ValueError(f"The threshold is an accuracy within (0, 1], got {threshold}.")
    base = find(runs, baseline, "baseline")
    rows = [find_row(run, threshold) for run in runs]
    others = [place for place, run in enumerate(runs) if run is not base]
    found = [compare_scores(runs[place], base, "accuracy") for place in others]
    for place, contrast, verdict in zip(others, found, contrasts.verdicts(found), strict=True):
        rows[place] = dataclasses.replace(
            rows[place],
            baseline=False,
            difference=contrast.effect,
            paired=contrast.paired,
            improvement=statistics.probability_of_improvement(
                runs[place].accuracy[:, -1], base.accuracy[:, -1]
            ),
            p=verdict.p,
            verdict=verdict.said,
            reason=verdict.reason,
        )
    return sorted(rows, key=lambda row: (-row.accuracy.value, -row.mean, row.runs.label))


def check_claims(
    claims: Iterable[Claim], runs: Sequence[MethodRuns], threshold: float
) -> list[Tested]:
    """Tests claims; their verdicts are corrected for their number (Holm).

    Raises:
        ValueError: for a relation, method or metric that is not there, or two equal methods.
    """
    claims = list(claims)
    found = [_contrast(claim, runs, threshold) for claim in claims]
    verdicts = judged([_relation(claim) for claim in claims], [one for one, *_ in found])
    return [
        _tested(claim, *one, verdict)
        for claim, one, verdict in zip(claims, found, verdicts, strict=True)
    ]


def _relation(claim: Claim) -> str:
    """As the test ranks: of costs the cheaper run higher, where the claim says "<"."""
    return claim.relation if _cost(claim) is None else OPPOSITE[claim.relation]


def _contrast(
    claim: Claim, runs: Sequence[MethodRuns], threshold: float
) -> tuple[Contrast, float, float]:
    """The contrast that a claim is about, and the values of its two methods."""
    if claim.relation not in RELATIONS:
        raise unknown_name("relation", claim.relation, RELATIONS, "claims")
    x, y = find(runs, claim.method, "claims"), find(runs, claim.other, "claims")
    if x is y:
        raise ValueError(f"A claim compares two methods, got {claim.method!r} twice (claims).")
    if (cost := _cost(claim)) is not None:
        a, b = (cost_to_threshold(run, cost, threshold) for run in (x, y))
        return contrasts.of_costs(a, b), a.at_least, b.at_least
    values = (float(np.median(scores(run, claim.metric))) for run in (x, y))
    return compare_scores(x, y, claim.metric), *values


def _cost(claim: Claim) -> str | None:
    """The name of `AXES` whose cost to the threshold a claim is about."""
    name = claim.metric.removesuffix(TO_THRESHOLD)
    return name if claim.metric.endswith(TO_THRESHOLD) and name in AXES else None


def _tested(
    claim: Claim, contrast: Contrast, value: float, other: float, verdict: Verdict
) -> Tested:
    return Tested(
        claim,
        verdict.said,
        value,
        other,
        contrast.effect,
        "difference" if _cost(claim) is None else "P(cheaper)",
        verdict.p,
        contrast.seeds,
        contrast.paired,
        verdict.reason,
    )


def claims_about(claims: Iterable[Claim], runs: Sequence[MethodRuns]) -> list[Claim]:
    """Those claims both of whose methods were run, each with one setting or named by label."""
    labels = {run.label for run in runs}
    methods = [run.method for run in runs]
    labels |= {method for method in methods if methods.count(method) == 1}
    return [claim for claim in claims if {claim.method, claim.other} <= labels]
