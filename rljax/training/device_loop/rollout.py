"""Sampling and verifying on the device, as many rounds as a step takes."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.network import Params
from rljax.sampling.keys import call_offsets
from rljax.sampling.request import Requests
from rljax.training.collect.rounds import most_rounds
from rljax.training.device_loop.program import DeviceProgram
from rljax.training.device_loop.prompts import Following, Prompts
from rljax.training.device_loop.successive import sample_pools
from rljax.training.learner.compare import kept_groups
from rljax.training.learner.group import Group, step_arrays


class Sampled(NamedTuple):
    """B prompts and their samples."""

    index: Array  # [B] i32, in the training problems
    group: Group


class Rounds(NamedTuple):
    """What a step has sampled so far."""

    taken: Sampled  # the first `count` prompts count
    count: Array  # [] i32
    number: Array  # [] i32, rounds
    tokens: Array  # [] i32, sampled in all rounds
    rewards: Array  # [] f32, sum of the mean rewards of the rounds
    rights: Array  # [] f32, sum of their accuracies
    latest: Sampled  # the last round's
    passes: Array  # [B] bool, its prompts that pass
    following: Following  # what chooses the next prompts


def sample_step(
    program: DeviceProgram,
    params: Params,
    key: Array,
    prompts: Prompts,
    following: Following,
    step: Array,
    slopes: Array | None = None,
) -> tuple[Sampled, dict[str, Array], dict[str, Array], Following]:
    """Samples until B prompts pass the group filter, as the host does (collect/rounds.py).

    Args:
        program: what is run.
        params: of the policy.
        key: of the rollouts.
        prompts: which problems come next.
        following: its state.
        step: [] i32, from 1.
        slopes: [B, 4] f32, of the temperature (`sloped_temperature`); None: it is constant.

    Returns:
        The step's samples; arrays of them by name, where pools say more than they do; with a filter
        `sampling_rounds`, `filled_prompts` and `sampled_tokens`, and the reward and accuracy of all
        that was sampled; the state of `prompts` after it.
    """
    stage, problems = program.stage, len(program.train.prompts)
    count, rounds = stage.batch.prompts_per_step, most_rounds(stage)
    successive = stage.objective.choices["allocation"] == "successive"
    calls = stage.objective.values["allocation_rounds"] if successive else rounds
    offsets = jnp.asarray(call_offsets(problems, count, calls))

    def draw(index: Array, number: Array) -> Group:
        data = program.train.take(index)
        noise_ids = distinct(index, problems) + offsets[number]
        requests = Requests(data.prompts, data.prompt_mask, noise_ids, temperature_slopes=slopes)
        rollouts = program.sample(params, requests, key, step)
        scores, correct = program.judge(data.facts, rollouts.tokens, rollouts.mask)
        return Group(
            tokens=rollouts.tokens,
            mask=rollouts.mask,
            logprobs=rollouts.logprobs,
            finished=rollouts.finished,
            scores=scores,
            correct=correct,
        )

    def sample(number: Array, following: Following) -> tuple[Sampled, Following]:
        index, following = prompts.take(following, step)
        group = draw(index, number)
        return Sampled(index, group), prompts.observe(following, index, group)

    if successive:
        index, following = prompts.take(following, step)
        group, arrays, counts = sample_pools(
            functools.partial(draw, index), stage.objective.part("allocation")(), stage.batch
        )
        return Sampled(index, group), arrays, counts, following
    if stage.objective.choices["group_filter"] == "none":
        sampled, following = sample(jnp.int32(0), following)
        return sampled, {}, {}, following

    def passing(sampled: Sampled) -> Array:
        kept = kept_groups(stage.objective, step_arrays(sampled.group))
        return kept.reshape(sampled.group.scores.shape).any(axis=1)

    sampled, counts, following = _sample_rounds(sample, passing, following, count, rounds)
    return sampled, {}, counts, following


def _sample_rounds(
    sample: Callable[[Array, Following], tuple[Sampled, Following]],
    passing: Callable[[Sampled], Array],
    following: Following,
    prompts: int,
    rounds: int,
) -> tuple[Sampled, dict[str, Array], Following]:
    """Rounds until so many prompts pass, or there are no more; see `sample_step`."""

    def goes_on(carry: Rounds) -> Array:
        return (carry.count < prompts) & (carry.number < rounds)

    def again(carry: Rounds) -> Rounds:
        latest, following = sample(carry.number, carry.following)
        passes = passing(latest)
        taken = _append(carry.taken, latest, passes, carry.count)
        return Rounds(
            taken,
            jnp.minimum(carry.count + passes.sum(), prompts),
            carry.number + 1,
            carry.tokens + latest.group.mask.sum(),
            carry.rewards + latest.group.scores.mean(),
            carry.rights + latest.group.correct.mean(),
            latest,
            passes,
            following,
        )

    zero, none = jnp.int32(0), jnp.float32(0)
    shapes, _ = jax.eval_shape(sample, zero, following)
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    passes = jnp.zeros(prompts, bool)
    first = Rounds(empty, zero, zero, zero, none, none, empty, passes, following)
    carry = jax.lax.while_loop(goes_on, again, first)
    counts = {
        "sampling_rounds": carry.number,
        "filled_prompts": prompts - carry.count,
        "sampled_tokens": carry.tokens,
        "sampled_reward": carry.rewards / carry.number,
        "sampled_accuracy": carry.rights / carry.number,
    }
    taken = _append(carry.taken, carry.latest, ~carry.passes, carry.count)
    return taken, counts, carry.following


def _append(taken: Sampled, more: Sampled, chosen: Array, count: Array) -> Sampled:
    """Puts the chosen prompts of `more` behind the first `count`, as far as there is room."""
    size = len(chosen)
    place = jnp.where(chosen, count + jnp.cumsum(chosen) - 1, size)
    return jax.tree.map(lambda whole, new: whole.at[place].set(new, mode="drop"), taken, more)


def distinct(index: Array, count: int) -> Array:
    """Ids for the noise: the n-th repetition of an id counts as id + n * count.

    As `distinct_ids` (training/collect/rollouts.py) on the host.
    """
    earlier = jnp.tril(index[:, None] == index, k=-1).sum(axis=1)
    return (index + earlier * count).astype(jnp.int32)
