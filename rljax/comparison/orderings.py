"""Orderings that sources claim, and how every table of comparisons judges them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rljax.comparison.contrasts import Contrast, Verdict, verdicts
from rljax.comparison.statistics import ALIKE, BETTER, WORSE

RELATIONS = (">", "<", "=")
# The same ordering where a test ranks the other way round.
OPPOSITE = {">": "<", "<": ">", "=": "="}


@dataclasses.dataclass(frozen=True)
class Claim:
    """An ordering that a source claims, such as dapo > grpo in accuracy.

    Attributes:
        method: a label, or a method that was run with one setting.
        relation: ">" (the metric is higher), "<" (lower) or "=" (no difference).
        other: the method compared with.
        metric: what is compared, by the name that the table of the comparison has for it. Where
            runs were logged: "accuracy" (held-out, at the end), "accuracy_area" (mean over
            training), "tokens_to_threshold", "updates_to_threshold", "seconds_to_threshold",
            "reward", or any logged metric, at the end.
        source: where it is claimed, for the reader.
        where: the one of several settings that it is about: a task, or a rate of swapped labels.
    """

    method: str
    relation: str
    other: str
    metric: str
    source: str
    where: str = ""


def judged(relations: Sequence[str], contrasts: Sequence[Contrast]) -> list[Verdict]:
    """Whether orderings hold: 'yes', 'no' or 'not distinguishable'.

    They hold or are the other way round where their p-values, corrected for their number, are at
    most 5 %. "=" is refuted ('no') by either and never proved.

    Args:
        relations: what is claimed of the first method of each contrast, one of `RELATIONS`.
        contrasts: of all claims that are reported together.
    """
    return [
        verdict._replace(said=_holds(relation, verdict.said))
        for relation, verdict in zip(relations, verdicts(contrasts), strict=True)
    ]


def _holds(relation: str, found: str) -> str:
    if found == ALIKE:
        return ALIKE
    return "yes" if found == {">": BETTER, "<": WORSE}.get(relation) else "no"
