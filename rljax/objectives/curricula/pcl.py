"""PCL (arXiv:2510.01135): candidates that a value model expects to be solved half the time."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.curricula.curriculum import (
    Curriculum,
    Problems,
    State,
    Turn,
    epoch_places,
    repeated,
    unchanged,
)
from rljax.objectives.curricula.ordered import nothing_taken
from rljax.objectives.parts import check_field


def pcl(
    *, pool_factor: int = 4, target_value: float = 0.5, random_share: float = 0.0
) -> Curriculum:
    """The B of `pool_factor` B candidates whose predicted value is closest to the target.

        D = argmin over S, |S| = B, of the sum over x in S of |V(x) - target_value|

    Candidates come in the order of shuffled epochs. Ties keep that order. The value model learns
    from the samples of what was chosen (value_target="prompt_mean").

    Args:
        pool_factor: candidates for each problem that is taken; 1 takes every one.
        target_value: mean reward that is aimed at: the middle of the rewards' range.
        random_share: of the B, that are any other candidates: values of what is never sampled are
            never corrected.
    """
    check_field("pool_factor", pool_factor, lambda x: x >= 1, ">= 1")
    check_field("random_share", random_share, lambda x: 0 <= x < 1, "in [0, 1)")

    def first(problems: Problems, stream: Array) -> State:
        return nothing_taken(problems, stream) | {
            name: jnp.float32(0) for name in ("pool_value", "chosen_value")
        }

    def take(state: State, problems: Problems, turn: Turn) -> tuple[Array, State]:
        size = pool_factor * turn.count
        pool = epoch_places(turn.stream, state["taken"], size, problems.count)
        values = turn.predict(pool)
        # At the end of an epoch a candidate may come from the next one as well.
        others, again = round(random_share * turn.count), repeated(pool)
        apart = jnp.where(again, jnp.inf, values)
        chosen = closest(apart, turn.count - others, target_value=target_value)
        if others:
            lot = jax.random.uniform(turn.key, (size,)).at[chosen].set(1.0) + again
            chosen = jnp.concatenate([chosen, jnp.argsort(lot)[:others]])
        return pool[chosen], {
            "taken": state["taken"] + size,
            "pool_value": values.mean(),
            "chosen_value": values[chosen].mean(),
        }

    def metrics(state: State, problems: Problems) -> dict[str, Array]:
        return {name: state[name] for name in ("pool_value", "chosen_value")}

    reads = frozenset({"prompt_values"})
    return Curriculum(first, take, unchanged, metrics, reads=reads, repeats=False)


def expected_effective_ratio(success_rates: Array, samples: int) -> Array:
    """Share of groups of so many samples that are neither all right nor all wrong, expected: [].

    Args:
        success_rates: [M] f32, of the problems.
        samples: n of a group.
    """
    return (1 - success_rates**samples - (1 - success_rates) ** samples).mean()


def explained_variance(success_rates: Array, values: Array) -> Array:
    """1 - E[(V - p)^2] / Var(p), over problems [M]: what values know of success rates."""
    return 1 - ((values - success_rates) ** 2).mean() / success_rates.var()


def rollout_explained_variance(success_rates: Array, samples: int) -> Array:
    """The same of the mean of so many samples: 1 - E[p (1 - p)] / (n Var(p))."""
    return 1 - (success_rates * (1 - success_rates)).mean() / (samples * success_rates.var())


def equivalent_samples(success_rates: Array, values: Array) -> Array:
    """Samples whose mean is as far from the success rate as a value: E[p(1-p)] / E[(V - p)^2]."""
    noise = (success_rates * (1 - success_rates)).mean()
    return noise / ((values - success_rates) ** 2).mean()


def closest(values: Array, count: int, *, target_value: float) -> Array:
    """The places of the `count` values that are closest to a target, closest first, [count] i32."""
    order = jnp.argsort(jnp.abs(values - target_value), stable=True)
    return order[:count].astype(jnp.int32)
