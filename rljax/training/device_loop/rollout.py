"""Sampling and verifying on the device, as many rounds as a step takes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.network import Params
from rljax.objectives.parts import apply
from rljax.sampling.request import Requests
from rljax.training.device_loop.program import DeviceProgram


class Group(NamedTuple):
    """B prompts with their samples, by prompt."""

    index: Array  # [B] i32, in the training problems
    tokens: Array  # [B, G, T] i32
    mask: Array  # [B, G, T] bool
    logprobs: Array  # [B, G, T] f32, as sampled
    finished: Array  # [B, G] bool
    scores: Array  # [B, G] f32
    correct: Array  # [B, G] bool


class Rounds(NamedTuple):
    """What a step has sampled so far."""

    group: Group  # the first `count` prompts are taken
    count: Array  # [] i32
    number: Array  # [] i32, rounds
    latest: Group  # the last round's
    passes: Array  # [B] bool, its prompts that pass


def sample_step(
    program: DeviceProgram, params: Params, key: Array, order: Array, start: Array, step: Array
) -> tuple[Group, dict[str, Array]]:
    """Samples until B prompts pass the group filter, as `training/rounds.py` does on the host.

    Args:
        program: what is run.
        params: of the policy.
        key: of the rollouts.
        order: [K] i32, the run's stream of prompts.
        start: [] i32, place in it.
        step: [] i32, from 1.

    Returns:
        The step's samples; `sampling_rounds` and `filled_prompts`.
    """
    stage, problems = program.stage, len(program.train.prompts)
    prompts = stage.batch.prompts_per_step

    def sample(number: Array) -> Group:
        index = jax.lax.dynamic_slice_in_dim(order, start + number * prompts, prompts)
        data = program.train.take(index)
        noise_ids = distinct(index, problems) + number * problems * prompts
        requests = Requests(data.prompts, data.prompt_mask, noise_ids)
        rollouts = program.sample(params, requests, key, step)
        scores, correct = program.judge(data.facts, rollouts.tokens, rollouts.mask)
        return Group(
            index,
            rollouts.tokens,
            rollouts.mask,
            rollouts.logprobs,
            rollouts.finished,
            scores,
            correct,
        )

    if stage.objective.choices["group_filter"] == "none":
        return sample(jnp.int32(0)), {}
    keep = stage.objective.part("group_filter")
    rounds = stage.objective.values["filter_rounds"]

    def passing(group: Group) -> Array:
        kept = apply(keep, step_arrays(group))
        return kept.reshape(group.scores.shape).any(axis=1)

    def goes_on(carry: Rounds) -> Array:
        return (carry.count < prompts) & (carry.number < rounds)

    def again(carry: Rounds) -> Rounds:
        latest = sample(carry.number)
        passes = passing(latest)
        group = _append(carry.group, latest, passes, carry.count)
        count = jnp.minimum(carry.count + passes.sum(), prompts)
        return Rounds(group, count, carry.number + 1, latest, passes)

    empty = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(sample, jnp.int32(0))
    )
    zero = jnp.int32(0)
    carry = jax.lax.while_loop(
        goes_on, again, Rounds(empty, zero, zero, empty, jnp.zeros(prompts, bool))
    )
    group = _append(carry.group, carry.latest, ~carry.passes, carry.count)
    return group, {
        "sampling_rounds": carry.number,
        "filled_prompts": prompts - carry.count,
    }


def _append(group: Group, more: Group, chosen: Array, count: Array) -> Group:
    """Puts the chosen prompts of `more` behind the first `count`, as far as there is room."""
    size = len(chosen)
    place = jnp.where(chosen, count + jnp.cumsum(chosen) - 1, size)
    return jax.tree.map(lambda whole, new: whole.at[place].set(new, mode="drop"), group, more)


def step_arrays(group: Group) -> dict[str, Array]:
    """The arrays of a step by name (objectives/arrays.py), [N] and [N, T]."""
    prompts, samples, length = group.tokens.shape
    flat = lambda x: x.reshape(prompts * samples, *x.shape[2:])  # noqa: E731
    return {
        "mask": flat(group.mask),
        "behavior_logprobs": flat(group.logprobs),
        "tokens": flat(group.tokens),
        "finished": flat(group.finished),
        "scores": flat(group.scores),
        "correct": flat(group.correct),
        "group_ids": jnp.repeat(jnp.arange(prompts, dtype=jnp.int32), samples),
    }


def distinct(index: Array, count: int) -> Array:
    """Ids for the noise: the n-th repetition of an id counts as id + n * count.

    As `distinct_ids` (training/rollouts.py) on the host.
    """
    earlier = jnp.tril(index[:, None] == index, k=-1).sum(axis=1)
    return (index + earlier * count).astype(jnp.int32)
