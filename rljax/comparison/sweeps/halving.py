"""Successive halving: the worse conditions end early (Jamieson and Talwalkar 2016, 1502.07943).

At each rung, a step of the last stage, the best 1 / factor of the conditions go on. A condition is
judged by its metric *at* that step, so it does not matter how far its processes came meanwhile.
"""

import math
from collections.abc import Mapping


def rungs(conditions: int, steps: int, every: int, factor: int) -> tuple[int, ...]:
    """The steps at which conditions are judged, ascending.

    Args:
        conditions: that begin.
        steps: of a whole run.
        every: the metric is there at each multiple of this many steps.
        factor: one of so many goes on.

    Raises:
        ValueError: if there is nothing to judge before the end.
    """
    rounds = math.floor(math.log(conditions, factor) + 1e-9) if conditions > 1 else 0
    found = {math.ceil(steps / factor**power / every) * every for power in range(1, rounds + 1)}
    kept = tuple(sorted(step for step in found if step < steps))
    if not kept:
        raise ValueError(
            f"Halving by {factor} finds no rung: {conditions} conditions of {steps} steps, whose "
            f"metric is there every {every} steps. Take more steps, more evaluations "
            "(config.evaluation.every_steps) or a smaller factor (--factor)."
        )
    return kept


def survivors(scores: Mapping[str, float], factor: int) -> tuple[str, ...]:
    """The conditions that go on, the best first: one of `factor`, at least one.

    Args:
        scores: condition -> its score, more is better; NaN comes last, ties keep their order.
        factor: one of so many goes on.
    """

    def key(name: str) -> float:
        return math.inf if math.isnan(scores[name]) else -scores[name]

    return tuple(sorted(scores, key=key)[: math.ceil(len(scores) / factor)])
