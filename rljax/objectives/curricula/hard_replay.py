"""Problems that were not solved at their last visit come again, beside those of the epoch."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.curricula.curriculum import (
    Curriculum,
    Outcomes,
    Problems,
    State,
    Turn,
    epoch_places,
)
from rljax.objectives.curricula.ordered import nothing_taken
from rljax.objectives.parts import check_field


def hard_replay(*, replay_share: float = 0.25, replay_reward: float = 0.25) -> Curriculum:
    """Some of a step's problems are drawn evenly from those that were hard, each once.

    A problem is hard from a visit whose mean reward is at most `replay_reward` until one that is
    better. Where there are fewer hard ones than asked for, the epoch fills the step.

    Args:
        replay_share: of a step's problems that are hard ones, at most.
        replay_reward: mean reward of a group up to which its problem is hard.
    """
    check_field("replay_share", replay_share, lambda x: 0 < x <= 1, "in (0, 1]")

    def first(problems: Problems, stream: Array) -> State:
        return nothing_taken(problems, stream) | {"hard": jnp.zeros(problems.count, bool)}

    def take(state: State, problems: Problems, turn: Turn) -> tuple[Array, State]:
        most = min(max(1, round(replay_share * turn.count)), problems.count)
        lot = jax.random.uniform(turn.key, (problems.count,))
        again = jnp.lexsort((lot, ~state["hard"]))[:most].astype(jnp.int32)
        replayed = jnp.arange(turn.count) < jnp.minimum(state["hard"].sum(), most)
        fresh = epoch_places(turn.stream, state["taken"], turn.count, problems.count)
        place = jnp.cumsum(~replayed) - 1
        again = jnp.zeros(turn.count, jnp.int32).at[:most].set(again)
        index = jnp.where(replayed, again, fresh[place])
        taken = state["taken"] + (~replayed).sum().astype(jnp.int32)
        return index, {**state, "taken": taken}

    def observe(state: State, problems: Problems, outcomes: Outcomes) -> State:
        count = outcomes.present.sum(axis=1)
        mean = jnp.where(outcomes.present, outcomes.scores, 0.0).sum(axis=1) / jnp.maximum(count, 1)
        visited, better = (
            jnp.zeros(problems.count, bool).at[outcomes.index].max(where)
            for where in (count > 0, (count > 0) & (mean > replay_reward))
        )
        return {**state, "hard": jnp.where(visited, ~better, state["hard"])}

    def metrics(state: State, problems: Problems) -> dict[str, Array]:
        return {"hard_share": state["hard"].mean()}

    return Curriculum(first, take, observe, metrics)
