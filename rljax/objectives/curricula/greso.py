"""GRESO (arXiv:2506.02177): problems without signal in their last epochs are skipped at random."""

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
    repeated,
)
from rljax.objectives.parts import check_field

KINDS = ("easy", "hard")
# Bounds of the probability to sample a problem again after one epoch without signal.
LEAST, MOST = 0.05, 0.95


def greso(
    *,
    easy_reward: float = 0.98,
    hard_reward: float = 0.11,
    retry_probability: float = 0.01,
    easy_target: float = 0.25 / 3,
    hard_target: float = 0.5 / 3,
    retry_step: float = 0.01,
    retry_start: float = 0.5,
) -> Curriculum:
    """Problems in the order of an epoch, but for those that are skipped.

        P(skip) = 1 - max(p_kind^z, retry_probability)

    z counts the latest visits of a problem in a row that were all easy (mean reward of at least
    `easy_reward`), or all hard. p_easy and p_hard move by `retry_step` in each step of the second
    epoch and later: down where more of the sampled groups than the target are of their kind.

    Args:
        easy_reward: mean reward of a group from which on it is easy.
        hard_reward: mean reward of a group up to which it is hard.
        retry_probability: smallest probability that a problem is sampled.
        easy_target: share of easy groups among all that are sampled.
        hard_target: share of hard groups.
        retry_step: by which p_easy and p_hard move.
        retry_start: where they start.
    """
    check_field("hard_reward", hard_reward, lambda x: x < easy_reward, "< easy_reward")
    check_field("retry_step", retry_step, lambda x: x >= 0, ">= 0")
    _check_shares(retry_start=retry_start, retry_probability=retry_probability)
    targets = {"easy": easy_target, "hard": hard_target}
    _check_shares(**{f"{kind}_target": target for kind, target in targets.items()})

    def first(problems: Problems, stream: Array) -> State:
        zeros = {f"{kind}_streak": jnp.zeros(problems.count, jnp.int32) for kind in KINDS}
        counts = {f"{kind}_groups": jnp.int32(0) for kind in KINDS}
        retries = {f"{kind}_retry": jnp.float32(retry_start) for kind in KINDS}
        own = {"taken": jnp.int32(0), "groups": jnp.int32(0), "skipped": jnp.int32(0)}
        return {**zeros, **counts, **retries, **own, "counted_step": jnp.int32(1)}

    def take(state: State, problems: Problems, turn: Turn) -> tuple[Array, State]:
        state = _adapted(state, turn.step, problems.count, targets, retry_step)
        skip = skip_probability(state, retry_probability=retry_probability)
        # All of this epoch and the next one, from where the last call stopped.
        reach = problems.count + turn.count
        index = epoch_places(turn.stream, state["taken"], reach, problems.count)
        kept = jax.random.uniform(turn.key, (reach,)) >= skip[index]
        # Where not enough are left, the first ones of those that were skipped come after all.
        again = repeated(index, last=~kept)
        order = jnp.lexsort((jnp.arange(reach), ~kept, again))[: turn.count]
        last = jnp.max(order) + 1
        state = state | {
            "taken": state["taken"] + last.astype(jnp.int32),
            "skipped": (last - turn.count).astype(jnp.int32),
        }
        return index[order], state

    def observe(state: State, problems: Problems, outcomes: Outcomes) -> State:
        count = jnp.maximum(outcomes.present.sum(axis=1), 1)
        mean = jnp.where(outcomes.present, outcomes.scores, 0.0).sum(axis=1) / count
        seen = outcomes.present.any(axis=1)
        easy = mean >= easy_reward
        found = {"easy": easy & seen, "hard": ~easy & (mean <= hard_reward) & seen}
        after = dict(state, groups=state["groups"] + seen.sum().astype(jnp.int32))
        for kind, here in found.items():
            streak = state[f"{kind}_streak"]
            earlier = streak[outcomes.index]
            longer = jnp.where(here, earlier + 1, jnp.where(seen, 0, earlier))
            after[f"{kind}_streak"] = streak.at[outcomes.index].set(longer)
            after[f"{kind}_groups"] = state[f"{kind}_groups"] + here.sum().astype(jnp.int32)
        return after

    def metrics(state: State, problems: Problems) -> dict[str, Array]:
        return {name: state[name] for name in ("skipped", "easy_retry", "hard_retry")}

    return Curriculum(first, take, observe, metrics, repeats=False)


def _check_shares(**fields: float) -> None:
    for name, value in fields.items():
        check_field(name, value, lambda x: 0 < x <= 1, "in (0, 1]")


def skip_probability(state: State, *, retry_probability: float) -> Array:
    """P(skip) of every problem, [M] f32; a problem is easy, or hard, or neither."""
    kept = jnp.float32(1)
    for kind in KINDS:
        again = state[f"{kind}_retry"] ** state[f"{kind}_streak"]
        kept = kept * jnp.maximum(again, retry_probability)
    return 1.0 - kept


def _adapted(
    state: State, step: Array, problems: int, targets: dict[str, float], retry_step: float
) -> State:
    """p_easy and p_hard after the groups of the step before, once a first epoch is through."""
    new = step > state["counted_step"]
    moves = new & (state["groups"] > 0) & (state["taken"] >= problems)
    after = dict(state, counted_step=jnp.where(new, step, state["counted_step"]).astype(jnp.int32))
    for kind in KINDS:
        share = state[f"{kind}_groups"] / jnp.maximum(state["groups"], 1)
        moved = state[f"{kind}_retry"] + jnp.where(share > targets[kind], -retry_step, retry_step)
        bounded = jnp.clip(moved, LEAST, MOST)
        after[f"{kind}_retry"] = jnp.where(moves, bounded, state[f"{kind}_retry"])
        after[f"{kind}_groups"] = jnp.where(new, 0, state[f"{kind}_groups"])
    after["groups"] = jnp.where(new, 0, state["groups"])
    return after
