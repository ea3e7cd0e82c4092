"""The findings of a comparison: a row per method, and what became of the orderings claimed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from rljax.comparison import statistics
from rljax.comparison.censoring import Reached, cheaper, first_reached
from rljax.comparison.runs import MethodRuns, check_labels, find
from rljax.comparison.statistics import ALIKE, BETTER, WORSE, Estimate
from rljax.errors import unknown_name

COSTS = {"tokens": "tokens", "updates": "updates", "seconds": "s"}  # and their units
TO_THRESHOLD = "_to_threshold"
RELATIONS = (">", "<", "=")
TAIL = 0.1  # a logged metric is averaged over this last share of its steps


@dataclasses.dataclass(frozen=True)
class Claim:
    """An ordering that a source claims, such as dapo > grpo in accuracy.

    Attributes:
        method: a label, or a method that was run with one setting.
        relation: ">" (the metric is higher), "<" (lower) or "=" (no difference).
        other: the method compared with.
        metric: "accuracy" (held-out, at the end), "accuracy_area" (mean over training),
            "tokens_to_threshold", "updates_to_threshold", "seconds_to_threshold", "reward", or
            any logged metric, at the end.
        source: where it is claimed, for the reader.
    """

    method: str
    relation: str
    other: str
    metric: str
    source: str


@dataclasses.dataclass(frozen=True)
class Tested:
    """A claim with its verdict and the numbers behind it.

    Attributes:
        claim: the claim.
        verdict: 'yes', 'no' or 'not distinguishable'.
        value: of `claim.method`: mean over seeds, or the median cost (a lower bound when
            censored).
        other_value: the same of `claim.other`.
        effect: mean difference method - other; for costs P(method is cheaper).
        effect_name: "difference" or "P(cheaper)".
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
    seeds: tuple[int, int]
    paired: bool
    reason: str


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """Everything that the tables say about one method.

    Attributes:
        runs: the method's curves.
        baseline: whether it is what the others are compared with.
        iqm: interquartile mean of the held-out accuracy after the last step.
        accuracy: its mean.
        area: mean accuracy over training, see `area`.
        difference: mean accuracy minus the baseline's; None for the baseline.
        paired: whether that is within seeds.
        improvement: P(a run of the method ends above one of the baseline); None for the baseline.
        verdict: from `difference`: 'better', 'worse', 'not distinguishable'; "" for the baseline.
        reason: why no verdict was possible, or "".
        costs: name of `COSTS` -> what reaching the threshold took.
        logged: metric, reward first -> mean over seeds at the end of training.
    """

    runs: MethodRuns
    baseline: bool
    iqm: Estimate
    accuracy: Estimate
    area: Estimate
    difference: Estimate | None
    paired: bool
    improvement: Estimate | None
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
    """What `runs` took to reach `threshold`, in the unit of `COSTS[name]`."""
    costs = {
        "tokens": runs.tokens,
        "updates": runs.updates,
        "seconds": runs.steps * runs.seconds_per_step,
    }
    return first_reached(runs.accuracy, costs[name], threshold)


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
    costs = [name + TO_THRESHOLD for name in COSTS]
    known = ["accuracy", "accuracy_area", "reward", *costs, *runs.metrics]
    raise unknown_name(f"metric of {runs.label}", metric, known, "claims")


def same_seeds(x: MethodRuns, y: MethodRuns) -> bool:
    """Whether both were run with the same seeds, in any order."""
    return set(x.seeds.tolist()) == set(y.seeds.tolist())


def compare_scores(x: MethodRuns, y: MethodRuns, metric: str) -> tuple[Estimate, bool, str]:
    """(mean difference x - y, whether it is within seeds, why nothing can follow from it)."""
    a, b = scores(x, metric), scores(y, metric)
    paired = same_seeds(x, y)
    if paired:
        a, b = a[np.argsort(x.seeds)], b[np.argsort(y.seeds)]
    found = statistics.difference(a, b, paired=paired)
    return found, paired, _doubt(a, b, paired)


def compare_costs(
    x: MethodRuns, y: MethodRuns, name: str, threshold: float
) -> tuple[Estimate, str]:
    """(P(a run of x gets there cheaper than one of y), why nothing can follow from it)."""
    a, b = cost_to_threshold(x, name, threshold), cost_to_threshold(y, name, threshold)
    return statistics.win_share(cheaper(a, b)), _doubt(a.cost, b.cost, paired=False)


def _doubt(a: np.ndarray, b: np.ndarray, paired: bool) -> str:
    lost = int((~np.isfinite(a)).sum() + (~np.isfinite(b)).sum())
    if lost:
        return f"{lost} of {len(a) + len(b)} values are not finite"
    if not statistics.enough_seeds(len(a), None if paired else len(b)):
        return f"too few seeds ({len(a)})" if len(a) == len(b) else "too few seeds"
    return ""


def find_row(run: MethodRuns, base: MethodRuns, threshold: float) -> Row:
    """All statistics of one method."""
    final, share = run.accuracy[:, -1], statistics.SHARE
    shared = dict(
        runs=run,
        iqm=statistics.estimate(final, statistics.interquartile_mean, share),
        accuracy=statistics.estimate(final, options=share),
        area=statistics.estimate(area(run), options=share),
        costs={name: cost_to_threshold(run, name, threshold) for name in COSTS},
        logged={
            name: statistics.estimate(logged_at_end(run, name)) for name in ("reward", *run.metrics)
        },
    )
    if run is base:
        nothing = dict(difference=None, improvement=None, paired=False, verdict="", reason="")
        return Row(**shared, **nothing, baseline=True)
    difference, paired, doubt = compare_scores(run, base, "accuracy")
    return Row(
        **shared,
        baseline=False,
        difference=difference,
        paired=paired,
        improvement=statistics.probability_of_improvement(final, base.accuracy[:, -1]),
        verdict=ALIKE if doubt else statistics.verdict(difference),
        reason=doubt,
    )


def find_rows(runs: Sequence[MethodRuns], baseline: str, threshold: float) -> list[Row]:
    """A row per method, the best first: by interquartile mean, then mean, then label.

    Raises:
        ValueError: for labels that repeat, an unknown baseline, or a threshold outside (0, 1].
    """
    check_labels(runs)
    if not 0 < threshold <= 1:
        raise ValueError(f"The threshold is an accuracy within (0, 1], got {threshold}.")
    base = find(runs, baseline, "baseline")
    rows = [find_row(run, base, threshold) for run in runs]
    return sorted(rows, key=lambda row: (-row.iqm.value, -row.accuracy.value, row.runs.label))


def check_claim(claim: Claim, runs: Sequence[MethodRuns], threshold: float) -> Tested:
    """Tests one claim.

    An ordering holds ('yes') or is the other way round ('no') when the interval of the effect
    excludes 0 (costs: one half). "=" is refuted ('no') by either and never proved: an interval
    that holds 0 leaves it at 'not distinguishable'.

    Raises:
        ValueError: for a relation, method or metric that is not there, or two equal methods.
    """
    if claim.relation not in RELATIONS:
        raise unknown_name("relation", claim.relation, RELATIONS, "claims")
    x, y = find(runs, claim.method, "claims"), find(runs, claim.other, "claims")
    if x is y:
        raise ValueError(f"A claim compares two methods, got {claim.method!r} twice (claims).")
    cost = claim.metric.removesuffix(TO_THRESHOLD)
    if claim.metric.endswith(TO_THRESHOLD) and cost in COSTS:
        effect, doubt = compare_costs(x, y, cost, threshold)
        paired, name = False, "P(cheaper)"
        value, other = (cost_to_threshold(run, cost, threshold).at_least for run in (x, y))
        # Cheaper is a lower cost: what is 'better' here is the relation "<".
        found = statistics.verdict(effect, neutral=0.5, higher_is_better=False)
    else:
        effect, paired, doubt = compare_scores(x, y, claim.metric)
        name = "difference"
        value, other = (float(scores(run, claim.metric).mean()) for run in (x, y))
        found = statistics.verdict(effect)
    wanted = {">": BETTER, "<": WORSE}.get(claim.relation)
    said = ALIKE if doubt or found == ALIKE else "yes" if found == wanted else "no"
    seeds = (len(x.seeds), len(y.seeds))
    return Tested(claim, said, value, other, effect, name, seeds, paired, doubt)


def claims_about(claims: Iterable[Claim], runs: Sequence[MethodRuns]) -> list[Claim]:
    """Those claims both of whose methods were run, each with one setting or named by label."""
    labels = {run.label for run in runs}
    methods = [run.method for run in runs]
    labels |= {method for method in methods if methods.count(method) == 1}
    return [claim for claim in claims if {claim.method, claim.other} <= labels]


def notes(rows: Sequence[Row]) -> list[str]:
    """What a reader must know before believing the table."""
    found = []
    base = next(row for row in rows if row.baseline)
    unpaired = [row.runs.label for row in rows if not row.baseline and not row.paired]
    if unpaired:
        found.append(
            f"Seeds other than the baseline's, hence differences between unpaired runs: "
            f"{', '.join(unpaired)}."
        )
    doubtful = [row.runs.label for row in rows if row.reason]
    if doubtful:
        found.append(
            "No verdict, as chance alone would bring any result of so few seeds too often (6 "
            f"shared seeds, or 4 against 4, are the least): {', '.join(doubtful)}."
        )
    if any(len(row.runs.seeds) == 1 for row in rows):
        found.append("A single seed has no interval.")
    ends = sorted({int(row.runs.steps[-1]) for row in rows})
    if len(ends) > 1:
        found.append(f"The runs end at different steps ({', '.join(map(str, ends))}).")
    spent = [float(row.runs.tokens[:, -1].mean()) for row in rows]
    if min(spent) > 0 and max(spent) / min(spent) > 1.2:
        found.append(
            f"The methods generated between {min(spent):,.0f} and {max(spent):,.0f} tokens per "
            "seed: equal steps are not equal effort."
        )
    if (tests := len(rows) - 1) > 1:
        found.append(
            f"{tests} verdicts against {base.runs.label} at 95 % each: if nothing differed, "
            f"{0.05 * tests:.2g} of them would be wrong on average."
        )
    if any(math.isnan(estimate.value) for row in rows for estimate in row.logged.values()):
        found.append("Logged metrics of runs that diverged are not finite and shown as a dash.")
    return found
