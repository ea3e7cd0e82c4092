"""Orders that are known before the first sample: easy to hard, a band, mixtures of sources."""

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

    _check_weights(source_weights=source_weights)

    def first(problems: Problems, stream: Array) -> State:
        _check_sources(problems, source_weights=source_weights)
        return {}

    def take(state: State, problems: Problems, turn: Turn) -> tuple[Array, State]:
        probabilities = _probabilities(source_weights, problems)
        return draw_of_sources(turn.key, probabilities, problems, turn.count), state

    return Curriculum(first, take, unchanged, reads=frozenset({"sources"}))


def moved_share(step: Array, moves_from: int, moves_until: int) -> Array:
    """u of a moving mixture: 0 before `moves_from`, 1 from `moves_until` on, a line between.

    Args:
        step: [] i32.
        moves_from, moves_until: steps; the former is smaller.
    """
    return jnp.clip((step - moves_from) / (moves_until - moves_from), 0.0, 1.0)


def moving_mixture(
    *,
    source_weights: tuple = (1.0,),
    final_weights: tuple = (1.0,),
    moves_from: int = 30,
    moves_until: int = 70,
) -> Curriculum:
    """A mixture whose weights move from one to another, in RMT over tiers of difficulty.

        p = (1 - u) p_first + u p_final      u from 0 to 1 between two steps (arXiv:2509.24375)

    The weights of the paper were not seen; it moves between 30 % and 70 % of its steps.

    Args:
        source_weights: of each source before the move; one number: equal ones.
        final_weights: of each source behind it.
        moves_from: last step of the stage with the first weights.
        moves_until: first step with the final ones.
    """
    weights = {"source_weights": source_weights, "final_weights": final_weights}
    _check_weights(**weights)
    check_field("moves_from", moves_from, lambda x: x >= 0, ">= 0")
    check_field("moves_until", moves_until, lambda x: x > moves_from, "> moves_from")

    def first(problems: Problems, stream: Array) -> State:
        _check_sources(problems, **weights)
        return {}

    def take(state: State, problems: Problems, turn: Turn) -> tuple[Array, State]:
        before, behind = (_probabilities(x, problems) for x in (source_weights, final_weights))
        share = moved_share(turn.step, moves_from, moves_until)
        mixed = (1 - share) * before + share * behind
        return draw_of_sources(turn.key, mixed, problems, turn.count), state

    return Curriculum(first, take, unchanged, reads=frozenset({"sources"}))


def _probabilities(weights: tuple, problems: Problems) -> Array:
    given = jnp.broadcast_to(jnp.asarray(weights, jnp.float32), len(problems.source_names))
    return given / given.sum()


def _check_weights(**fields: tuple) -> None:
    for name, weights in fields.items():
        check_field(name, weights, _are_weights, "numbers >= 0, not all of them 0")


def _check_sources(problems: Problems, **fields: tuple) -> None:
    names = problems.source_names
    for name, weights in fields.items():
        if len(weights) not in (1, len(names)):
            raise ValueError(
                f"{name} has {len(weights)} numbers for {len(names)} sources: "
                f"{', '.join(names)} (config.<stage>.objective.{name})."
            )


def _are_weights(weights: tuple) -> bool:
    return len(weights) > 0 and all(weight >= 0 for weight in weights) and sum(weights) > 0
