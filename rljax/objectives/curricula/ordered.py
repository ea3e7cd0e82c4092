"""Orders that are known before the first sample: easy to hard, a band, a mixture of sources."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from rljax.objectives.curricula.curriculum import (
    Curriculum,
    Problems,
    State,
    Turn,
    draw_of_sources,
    epoch_places,
    unchanged,
)
from rljax.objectives.parts import check_field


def nothing_taken(problems: Problems, stream: Array) -> State:
    """The state of an order: the number of problems taken."""
    return {"taken": jnp.int32(0)}


def easy_to_hard(*, hardest_first: bool = False) -> Curriculum:
    """Problems by their difficulty, again from the start behind the last.

    Problems of equal difficulty come in a random order of the run's, another one in each pass.

    Args:
        hardest_first: the other way round.
    """

    def take(state: State, problems: Problems, turn: Turn) -> tuple[Array, State]:
        """Places of a shuffled epoch, sorted: ties keep the order of the shuffle."""
        size = problems.count
        sign = -1.0 if hardest_first else 1.0
        first = state["taken"] // size
        passes = (turn.count - 1) // size + 2
        shuffled = epoch_places(turn.stream, first * size, passes * size, size)
        shuffled = shuffled.reshape(passes, size)
        difficulty = sign * jnp.asarray(problems.difficulty)[shuffled]
        sorted_passes = jnp.take_along_axis(
            shuffled, jnp.argsort(difficulty, axis=1, stable=True), axis=1
        )
        places = state["taken"] - first * size + jnp.arange(turn.count)
        index = sorted_passes.reshape(-1)[places]
        return index, {"taken": state["taken"] + turn.count}

    return Curriculum(nothing_taken, take, unchanged, reads=frozenset({"difficulty"}))


def band(*, difficulty_low: float = 0.0, difficulty_high: float = 1.0) -> Curriculum:
    """Problems whose difficulty lies within bounds, in random order: the others never come.

    With success rates of the first policy as the column it is the pre-filter that curricula are
    compared with (PCL, arXiv:2510.01135, section 4).

    Args:
        difficulty_low: smallest value that is kept.
        difficulty_high: largest value that is kept.
    """
    check_field(
        "difficulty_high", difficulty_high, lambda x: x >= difficulty_low, ">= difficulty_low"
    )

    def within(problems: Problems) -> Any:
        values = problems.difficulty
        return (values >= difficulty_low) & (values <= difficulty_high)

    def take(state: State, problems: Problems, turn: Turn) -> tuple[Array, State]:
        inside = within(problems).nonzero()[0]
        places = epoch_places(turn.stream, state["taken"], turn.count, len(inside))
        return jnp.asarray(inside, jnp.int32)[places], {"taken": state["taken"] + turn.count}

    def first(problems: Problems, stream: Array) -> State:
        if not within(problems).any():
            low, high = float(problems.difficulty.min()), float(problems.difficulty.max())
            raise ValueError(
                f"No problem has a difficulty from {difficulty_low} to {difficulty_high}: they go "
                f"from {low:g} to {high:g} (config.<stage>.objective.difficulty_low, "
                "difficulty_high)."
            )
        return nothing_taken(problems, stream)

    return Curriculum(first, take, unchanged, reads=frozenset({"difficulty"}))


def mixture(*, source_weights: tuple = (1.0,)) -> Curriculum:
    """A source by its weight, then any problem of it: with replacement, in every step anew.

    Args:
        source_weights: of each source, in the order of their names; one number: equal ones.
    """

    check_field("source_weights", source_weights, _are_weights, "numbers >= 0, not all of them 0")

    def first(problems: Problems, stream: Array) -> State:
        names = problems.source_names
        if len(source_weights) not in (1, len(names)):
            raise ValueError(
                f"source_weights has {len(source_weights)} numbers for {len(names)} sources: "
                f"{', '.join(names)} (config.<stage>.objective.source_weights)."
            )
        return {}

    def take(state: State, problems: Problems, turn: Turn) -> tuple[Array, State]:
        weights = jnp.asarray(source_weights, jnp.float32)
        weights = jnp.broadcast_to(weights, len(problems.source_names))
        return draw_of_sources(turn.key, weights / weights.sum(), problems, turn.count), state

    return Curriculum(first, take, unchanged, reads=frozenset({"sources"}))


def _are_weights(weights: tuple) -> bool:
    return len(weights) > 0 and all(weight >= 0 for weight in weights) and sum(weights) > 0
