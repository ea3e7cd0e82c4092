"""All runs of the table: rates are chosen on seeds of their own, then every seed is trained."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.comparison.preferences.draws import PAIRS, ROWS, Rows, draw_rows
from rljax.comparison.preferences.fit import UPDATES, program
from rljax.comparison.preferences.measures import MEASURES, measured, of_the_data, worth
from rljax.comparison.preferences.methods import METHODS, NOISES, objective_of
from rljax.comparison.preferences.task import Problem, draw_problem
from rljax.errors import unknown_name

RATES = (0.03, 0.1, 0.3, 1.0)
TUNING_SEEDS = 4
FIRST_TUNING_SEED = 1_000_000
HELDOUT = 1024  # fresh pairs of a seed

# "data" -> noise -> measure -> seeds; method -> noise -> measure -> seeds, with the "rate".
Found = dict[str, dict[str, dict[str, Any]]]


class Asked(NamedTuple):
    """What the command was asked for; see `launch/preferences.py`."""

    methods: tuple[str, ...] = METHODS
    noises: tuple[float, ...] = NOISES
    seeds: int = 16
    updates: int = UPDATES


class Seeds(NamedTuple):
    """What is drawn of S seeds at a noise rate; leading axis S."""

    problems: Problem
    train: Rows
    heldout: Rows
    keys: Array


def run_table(asked: Asked, told: Callable[[str], None]) -> Found:
    """Trains and measures.

    Args:
        asked: of which every method's name is in `METHODS`.
        told: gets a line for each method and rate.

    Raises:
        ValueError: for an unknown method, or a noise outside [0, 0.5), before anything is trained.
    """
    for method in asked.methods:
        if method not in METHODS:
            raise unknown_name("method", method, METHODS, "--methods")
    for noise in asked.noises:
        if not 0 <= noise < 0.5:
            raise ValueError(f"A share of swapped labels is in [0, 0.5), got {noise} (--noises).")
    found: Found = {name: {} for name in ("data", *asked.methods)}
    for noise in asked.noises:
        seeds = draw_seeds(range(asked.seeds), noise)
        tuning = draw_seeds(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + TUNING_SEEDS), noise)
        beta = objective_of("dpo", noise).values["beta"]
        found["data"][f"{noise:g}"] = by_measure(
            [of_the_data(p, rows, noise, beta) for p, rows in each(seeds)]
        )
        for method in asked.methods:
            rate = best_rate(method, noise, tuning, asked.updates)
            logits = train(method, noise, seeds, np.full(asked.seeds, rate), asked.updates)
            values = by_measure(
                [measured(p, one, rows) for one, (p, rows) in zip(logits, each(seeds), strict=True)]
            )
            found[method][f"{noise:g}"] = {"rate": rate, **values}
            said = ", ".join(f"{name} {np.median(values[name]):.3f}" for name in MEASURES[:4])
            told(f"{method}, {noise:g} swapped, rate {rate:g}: {said}")
    return found


def draw_seeds(seeds: Sequence[int], noise: float, repeat: float = 0.0) -> Seeds:
    """Problems, training rows and fresh pairs; problems and completions are those of any noise.

    Args:
        seeds: [S].
        noise: the rate at which labels are swapped.
        repeat: see `draw_problem`.
    """
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    split = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
    problems, train, heldout, fits = split.T
    drawn = jax.vmap(lambda key: draw_problem(key, repeat))(problems)

    def rows(keys: Array, rows: int, pairs: int) -> Rows:
        return jax.vmap(lambda key, problem: draw_rows(key, problem, noise, rows, pairs))(
            keys, drawn
        )

    return Seeds(drawn, rows(train, ROWS, PAIRS), rows(heldout, HELDOUT, 1), fits)


def train(method: str, noise: float, seeds: Seeds, rates: np.ndarray, updates: int) -> Array:
    """Trains a method from the starts of all seeds: logits [S, X, V + 1, V + 1].

    Args:
        method: of `METHODS`.
        noise: the rate at which the labels of `seeds` are swapped.
        seeds: of `draw_seeds`.
        rates: [S], learning rates.
        updates: of each policy.
    """
    fit = program(method, noise, updates)
    return fit(seeds.keys, seeds.problems.start, seeds.train, jnp.asarray(rates, jnp.float32))


def best_rate(method: str, noise: float, tuning: Seeds, updates: int) -> float:
    """The rate of `RATES` with the highest mean gold reward; the lower one of two that are equal.

    Args:
        method: of `METHODS`.
        noise: of `tuning`.
        tuning: seeds that are not reported.
        updates: of each policy.
    """
    count = len(tuning.keys)
    repeated = jax.tree.map(lambda array: jnp.concatenate([array] * len(RATES)), tuning)
    logits = train(method, noise, repeated, np.repeat(RATES, count), updates)
    gold, _ = jax.vmap(worth)(repeated.problems, logits)
    return RATES[int(np.asarray(gold).reshape(len(RATES), count).mean(axis=1).argmax())]


def each(seeds: Seeds) -> list[tuple[Problem, Rows]]:
    """Problem and fresh pairs of each seed."""
    return [
        jax.tree.map(lambda array, i=i: array[i], (seeds.problems, seeds.heldout))
        for i in range(len(seeds.keys))
    ]


def by_measure(values: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """Measure -> its value in each seed, with the digits that a table could need."""
    return {name: [round(one[name], 5) for one in values] for name in values[0]}
