"""All runs of the second table: a proxy of few pairs optimised further and further, beside DPO."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import Array

from rljax.comparison.preferences.draws import PAIRS, Rows
from rljax.comparison.preferences.fit import UPDATES
from rljax.comparison.preferences.measures import worth
from rljax.comparison.preferences.proxy import Curve, curve_of, fit_proxy, gold_at, optimised
from rljax.comparison.preferences.run import (
    FIRST_TUNING_SEED,
    TUNING_SEEDS,
    Seeds,
    best_rate,
    draw_seeds,
    train,
)
from rljax.comparison.preferences.task import Problem

SIZES = (80, 320)  # rows of pairs
REPEAT = -2.0  # is added to the gold reward of a token that repeats the one before it
KL_WEIGHT = 0.3


class Against(NamedTuple):
    """What a policy is trained against."""

    sees_order: bool  # of the reward model (`fit_proxy`)
    kl_weight: float  # of the KL to the start


POLICIES = {
    "rloo": Against(sees_order=True, kl_weight=0.0),
    "rloo_kl": Against(sees_order=True, kl_weight=KL_WEIGHT),
    "rloo_blind": Against(sees_order=False, kl_weight=0.0),
    "rloo_blind_kl": Against(sees_order=False, kl_weight=KL_WEIGHT),
}

# Pairs -> policy -> measure -> seeds.
Found = dict[str, dict[str, dict[str, list[float]]]]


def run_overoptimisation(seeds: int, told: Callable[[str], None]) -> Found:
    """Trains proxies, policies against them, and DPO on the same pairs; labels are not swapped.

    Args:
        seeds: 0 .. seeds - 1 are reported.
        told: gets a line for each number of pairs.
    """
    reported = draw_seeds(range(seeds), 0.0, REPEAT)
    # As many as are reported: the same programs run them.
    tuning = draw_seeds(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + seeds), 0.0, REPEAT)
    programs = {name: jax.jit(jax.vmap(trained(against))) for name, against in POLICIES.items()}
    found: Found = {}
    for size in SIZES:
        mine, others = first_rows(reported, size), first_rows(tuning, size)
        turns = {name: turning_kl(curves(program, others)) for name, program in programs.items()}
        kl, gold = dpo(mine, others)
        values = {"dpo": {"kl": kl.tolist(), "gold": gold.tolist()}}
        for name, program in programs.items():
            values[name] = by_seed(curves(program, mine), kl, turns[name])
        found[str(size * PAIRS)] = {
            name: {measure: [round(x, 5) for x in one] for measure, one in measured.items()}
            for name, measured in values.items()
        }
        said = ", ".join(f"{name} {turn:.2f}" for name, turn in turns.items())
        told(f"{size * PAIRS} pairs: on tuning seeds the gold reward turns at {said} nats")
    return found


def first_rows(seeds: Seeds, size: int) -> Seeds:
    """The seeds with the first rows of their training sets alone."""
    return seeds._replace(train=jax.tree.map(lambda array: array[:, :size], seeds.train))


def dpo(seeds: Seeds, tuning: Seeds) -> tuple[np.ndarray, np.ndarray]:
    """KL and gold reward [S] of DPO, with the best rate on the tuning seeds."""
    few = jax.tree.map(lambda array: array[:TUNING_SEEDS], tuning)
    rate = best_rate("dpo", 0.0, few, UPDATES)
    logits = train("dpo", 0.0, seeds, np.full(len(seeds.keys), rate), UPDATES)
    gold, kl = jax.vmap(worth)(seeds.problems, logits)
    return np.asarray(kl, np.float64), np.asarray(gold, np.float64)


def curves(program: Callable, seeds: Seeds) -> list[Curve]:
    """The curve of each seed."""
    arrays = program(seeds.keys, seeds.problems, seeds.train)
    return [
        Curve(*(np.asarray(array[i], np.float64) for array in arrays))
        for i in range(len(seeds.keys))
    ]


def turning_kl(found: Sequence[Curve]) -> float:
    """The mean KL at the point where the mean gold reward is highest."""
    place = int(np.mean([curve.gold for curve in found], axis=0).argmax())
    return float(np.mean([curve.kl[place] for curve in found]))


def by_seed(found: Sequence[Curve], kl_of_dpo: np.ndarray, turn: float) -> dict[str, list[float]]:
    """What is said of the curves: their end, and the gold reward on the way.

    Args:
        found: [S].
        kl_of_dpo: [S], where `gold_at_dpo` is read, DPO's KL of that seed.
        turn: where `gold_at_turn` is read, in nats. Of a seed that never gets there: its end.
    """
    return {
        "kl": [float(curve.kl[-1]) for curve in found],
        "proxy": [float(curve.proxy[-1]) for curve in found],
        "gold": [float(curve.gold[-1]) for curve in found],
        "gold_at_turn": [gold_at(curve, turn) for curve in found],
        "gold_at_dpo": [gold_at(c, kl) for c, kl in zip(found, kl_of_dpo, strict=True)],
    }


def trained(
    against: Against,
) -> Callable[[Array, Problem, Rows], tuple[Array, Array, Array]]:
    """From the pairs of a seed to the curve of the policy that their proxy trains."""
    run = optimised(against.kl_weight)

    def one(key: Array, problem: Problem, rows: Rows) -> tuple[Array, Array, Array]:
        proxy = fit_proxy(rows, sees_order=against.sees_order)
        return curve_of(problem, proxy, run(key, problem, proxy))

    return one
