"""What a curriculum is: three pure functions that decide which problems a step samples."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

State = dict[str, Any]  # arrays by name


class Problems(NamedTuple):
    """What is known of M problems before any of them is sampled.

    Attributes:
        count: M.
        difficulty: [M] f32 on the host, by a column of the data; None where nobody reads it.
        sources: [M] i32 on the host, number of the source of each problem; None likewise.
        source_names: S labels.
        angles: [M] f32 on the host, mean cosine of each problem's tokens; None likewise.
    """

    count: int
    difficulty: Any = None
    sources: Any = None
    source_names: tuple[str, ...] = ()
    angles: Any = None


class Turn(NamedTuple):
    """One call for problems.

    Attributes:
        key: fresh in every call.
        stream: the same key in every call of a run: of orders that last for an epoch.
        step: [] i32, of the stage, from 1; a step may call several times.
        count: B, problems that are asked for.
        predict: problems [K] i32 to what the policy's critic expects of each, [K] f32; None where
            there is no critic of prompts.
    """

    key: Array
    stream: Array
    step: Array
    count: int
    predict: Callable[[Array], Array] | None = None


class Outcomes(NamedTuple):
    """What became of B problems with G samples each.

    Attributes:
        index: [B] i32, the problems.
        scores: [B, G] f32.
        correct: [B, G] bool.
        present: [B, G] bool, False where a sample has no score.
        advantages: [B, G] f32, mean over the tokens of a sample; None where nobody reads them.
    """

    index: Array
    scores: Array
    correct: Array
    present: Array
    advantages: Array | None = None


class Curriculum(NamedTuple):
    """Which problems come next, and what is learned from their samples.

    All three work on arrays of fixed shapes, so that they run inside a compiled step too.

    Attributes:
        first: (problems, stream) -> the state before the first step.
        take: (state, problems, turn) -> [B] i32 problems, the state after.
        observe: (state, problems, outcomes) -> the state after.
        metrics: (state, problems) -> numbers by name.
        reads: of "difficulty", "angles", "sources", "prompt_values", "advantages": what has to be
            there.
        repeats: whether one call may hand out a problem twice; else it asks for B <= M.
    """

    first: Callable[[Problems, Array], State]
    take: Callable[[State, Problems, Turn], tuple[Array, State]]
    observe: Callable[[State, Problems, Outcomes], State]
    metrics: Callable[[State, Problems], dict[str, Array]] = lambda state, problems: {}
    reads: frozenset[str] = frozenset()
    repeats: bool = True


def next_turn(
    stream: Array, calls: Array, step: Array, count: int, predict: Callable | None = None
) -> Turn:
    """The turn after so many calls of a run, [] i32; other arguments as of `Turn`."""
    return Turn(jax.random.fold_in(stream, calls + 1), stream, step, count, predict)


def unchanged(state: State, problems: Problems, outcomes: Outcomes) -> State:
    """The state of a curriculum that learns nothing from samples."""
    return state


def epoch_places(stream: Array, start: Array, count: int, size: int) -> Array:
    """Places start .. start + count - 1 of endless epochs, each a random order of `size` problems.

    Args:
        stream: key of the orders; that of an epoch follows from its number.
        start: [] i32.
        count: of places.
        size: problems of an epoch.

    Returns:
        [count] i32, numbers below `size`.
    """
    places = start + jnp.arange(count)
    first = start // size
    epochs = first + jnp.arange((count - 1) // size + 2)
    orders = jax.vmap(lambda e: jax.random.permutation(jax.random.fold_in(stream, e), size))(epochs)
    return orders[places // size - first, places % size].astype(jnp.int32)


def repeated(index: Array, last: Array | None = None) -> Array:
    """Which places hold a problem that another place holds too, and comes first: [R] bool.

    Args:
        index: [R] i32, problems.
        last: [R] bool, places that count behind all others; by default the order is that of places.
    """
    places = jnp.arange(len(index))
    behind = jnp.zeros(len(index), bool) if last is None else last
    order = jnp.lexsort((places, behind, index))
    again = jnp.concatenate([jnp.zeros(1, bool), index[order][1:] == index[order][:-1]])
    return jnp.zeros(len(index), bool).at[order].set(again)


def draw_of_sources(key: Array, probabilities: Array, problems: Problems, count: int) -> Array:
    """Problems of random sources: a source by its probability, then any problem of it, evenly.

    Args:
        key: of the draws.
        probabilities: [S] f32.
        problems: with sources.
        count: of draws, with replacement.

    Returns:
        [count] i32.
    """
    by_source, starts, sizes = (jnp.asarray(each) for each in _members(problems))
    of_source, of_place = jax.random.split(key)
    chosen = jax.random.categorical(of_source, jnp.log(probabilities), shape=(count,))
    place = jax.random.randint(of_place, (count,), 0, sizes[chosen])
    return by_source[starts[chosen] + place].astype(jnp.int32)


def _members(problems: Problems) -> tuple[Any, list[int], list[int]]:
    """Problems by source [M]; where each source starts, and its size, [S]."""
    sizes = [int((problems.sources == s).sum()) for s in range(len(problems.source_names))]
    starts = [sum(sizes[:s]) for s in range(len(sizes))]
    return problems.sources.argsort(kind="stable"), starts, sizes
