"""Evolution strategies with low-rank noise (EGGROLL, arXiv:2511.16652): a step without a gradient.

    member i of N   W + sigma E_i,   E_i = s_i A_i B_i^T / sqrt(r),   s_i = +1, -1, +1, -1, ...
    update          g = -(1 / sqrt(N)) sum_i f_i (s_i sigma / sqrt(r)) A_i B_i^T

for a matrix with n inputs and m outputs, A [m, r] and B [n, r] of standard normal numbers. The
members 2k and 2k + 1 are a pair: they share A and B and differ in sign. g goes to an optimizer as
if it were the gradient of a loss, so that the step of plain SGD is lr sigma sqrt(N) times the mean
of f_i E_i: sigma is not divided out, and its norm does not depend on N. The noise of a member is
a function of (key, update, number of the member) alone: wherever it is needed, it is drawn again.

Our matrices are [inputs, outputs], the paper's W transposed. What is drawn, in which order and
from which key is as in the reference implementation (HyperscaleES, b77f7d6).
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.advantages.groups import group_statistics
from rljax.objectives.parts import check_field


class LowRank(NamedTuple):
    """Noise of one matrix: its perturbation is `inputs @ outputs`; leading axes may be members."""

    inputs: Array  # [..., n, r] f32, B
    outputs: Array  # [..., r, m] f32, s sigma / sqrt(r) A^T


def leaf_keys(key: Array, count: int) -> Array:
    """[count] keys, one for each leaf of a parameter tree, or for each layer of a stacked leaf."""
    return jax.random.split(key, count)


def direction_keys(key: Array, update: Array | int, members: Array, *, noise_reuse: int) -> Array:
    """The keys of the members' noise in one leaf: fold_in(fold_in(key, w), i // 2).

    Args:
        key: key of the leaf, or of one layer of it.
        update: [] i32, updates before this one.
        members: [N] i32, their numbers in the whole population, never in a part of it.
        noise_reuse: k >= 1 keeps the directions for k updates (w = update // k), 0 keeps them for
            ever (w = 0).

    Returns:
        [N] keys; the two members of a pair have the same one.

    Raises:
        ValueError: if `noise_reuse` is negative.
    """
    check_field("noise_reuse", noise_reuse, lambda x: x >= 0, "a whole number >= 0")
    window = jnp.asarray(update) // noise_reuse if noise_reuse else 0
    of_window = jax.random.fold_in(key, window)
    return jax.vmap(lambda pair: jax.random.fold_in(of_window, pair))(members // 2)


def member_signs(members: Array, unperturbed: Array | None = None) -> Array:
    """[N] f32: +1 for even members, -1 for odd ones, 0 where `unperturbed` [N] bool is True."""
    signs = 1.0 - 2.0 * (members % 2).astype(jnp.float32)
    return signs if unperturbed is None else jnp.where(unperturbed, 0.0, signs)


def low_rank_noise(
    keys: Array,
    signs: Array,
    inputs: int,
    outputs: int,
    *,
    sigma: float = 1e-3,
    rank: int = 1,
    dtype: jnp.dtype = jnp.float32,
) -> LowRank:
    """The noise of a matrix for each of N members.

    One draw of m + n rows of r numbers: the first n are B, the others A.

    Args:
        keys: [N], from `direction_keys`.
        signs: [N] f32, from `member_signs`.
        inputs: n.
        outputs: m.
        sigma: standard deviation of an entry of the perturbation.
        rank: r.
        dtype: in which the numbers are drawn: the parameter's; they are scaled in float32.

    Returns:
        inputs [N, n, r] and outputs [N, r, m], f32.

    Raises:
        ValueError: if `rank` is less than 1 or `sigma` is negative.
    """
    check_field("rank", rank, lambda x: x >= 1, "a whole number >= 1")
    check_field("sigma", sigma, lambda x: x >= 0, ">= 0")

    def draw(key: Array) -> Array:
        return jax.random.normal(key, (outputs + inputs, rank), dtype)

    numbers = jax.vmap(draw)(keys).astype(jnp.float32)
    scale = (signs * (sigma / rank**0.5)).astype(jnp.float32)
    a = numbers[:, inputs:] * scale[:, None, None]
    return LowRank(numbers[:, :inputs], a.swapaxes(1, 2))


def full_noise(
    keys: Array,
    signs: Array,
    shape: tuple[int, ...],
    *,
    sigma: float = 1e-3,
    dtype: jnp.dtype = jnp.float32,
) -> Array:
    """[N, *shape] f32: s_i sigma times standard normal numbers, for a vector of each member.

    Arguments as in `low_rank_noise`.
    """
    check_field("sigma", sigma, lambda x: x >= 0, ">= 0")
    numbers = jax.vmap(lambda key: jax.random.normal(key, shape, dtype))(keys)
    scale = (signs * sigma).astype(jnp.float32)
    return numbers.astype(jnp.float32) * scale.reshape(-1, *[1] * len(shape))


def low_rank_gradient(noise: LowRank, fitness: Array, population: int) -> Array:
    """What some members add to g of a matrix: -(1 / sqrt(N)) sum_i f_i inputs_i outputs_i.

    One product of [n, M r] and [M r, m], accumulated in float32: in bfloat16 the sum over a large
    population loses what the members differ in.

    Args:
        noise: noise of M members, inputs [M, n, r] and outputs [M, r, m].
        fitness: [M] f32; 0 leaves a member out.
        population: N, all members together.

    Returns:
        [n, m] f32. The parts of a population add up to g.
    """
    chex.assert_rank([noise.inputs, noise.outputs, fitness], [3, 3, 1])
    weighed = noise.outputs * _weights(fitness, population)[:, None, None]
    return _exact_einsum("inr,irm->nm", noise.inputs, weighed)


def full_gradient(noise: Array, fitness: Array, population: int) -> Array:
    """As `low_rank_gradient` for the noise [M, *shape] of a vector: [*shape] f32."""
    return _exact_einsum("i...,i->...", noise, _weights(fitness, population))


def _weights(fitness: Array, population: int) -> Array:
    # sqrt(N) / N: the mean over the members, whose norm falls with sqrt(N) where they are noise.
    return -fitness.astype(jnp.float32) / population**0.5


def _exact_einsum(subscripts: str, *arrays: Array) -> Array:
    return jnp.einsum(subscripts, *arrays, precision="highest", preferred_element_type=jnp.float32)


def population_zscore(
    member_scores: Array, group_ids: Array, *, fitness_epsilon: float = 1e-5
) -> Array:
    """f = (R - mean R) / sqrt(var R + epsilon), over the whole population.

    Args:
        member_scores: [N, Q] f32, of the Q prompts that each member answered; R is their mean.
        group_ids: [N] i32; not read.
        fitness_epsilon: added to the variance (divisor N).

    Returns:
        [N] f32, constant; exactly 0 where all members have the same score.
    """
    check_field("fitness_epsilon", fitness_epsilon, lambda x: x > 0, "> 0")
    return _shaped(member_scores, jnp.zeros_like(group_ids), fitness_epsilon)


def group_mean(member_scores: Array, group_ids: Array, *, fitness_epsilon: float = 1e-5) -> Array:
    """f = (R - mean of the group) / sqrt(var R + epsilon), the variance that of all members.

    Divided by the population's deviation, a group whose members hardly differ counts little;
    divided by its own, it would be blown up.

    Args:
        member_scores: [N, Q] f32, of the Q prompts that each member answered; R is their mean.
        group_ids: [N] i32, equal for the members that answered the same prompts.
        fitness_epsilon: added to the variance (divisor N).

    Returns:
        [N] f32, constant; exactly 0 in groups whose members have the same score.
    """
    check_field("fitness_epsilon", fitness_epsilon, lambda x: x > 0, "> 0")
    return _shaped(member_scores, group_ids, fitness_epsilon)


def _shaped(member_scores: Array, group_ids: Array, epsilon: float) -> Array:
    chex.assert_rank([member_scores, group_ids], [2, 1])
    scores = jax.lax.stop_gradient(member_scores).mean(axis=1)
    group = group_statistics(scores, jnp.ones(scores.shape, bool), group_ids)
    centred = scores - group.mean
    return centred / jnp.sqrt(scores.var() + epsilon)


def baseline_member(
    member_scores: Array,
    group_ids: Array,
    unperturbed: Array,
    *,
    fitness_epsilon: float = 1e-8,
) -> Array:
    """f = mean over prompts of (R - R_0) / (deviation + epsilon), R_0 from unperturbed members.

    The paper's variant with members that run without noise. R_0 and the deviation (its divisor is
    the number of members of the group) belong to a prompt; the paper does not say over what the
    deviation is taken.

    Args:
        member_scores: [N, Q] f32, of the Q prompts that each member answered.
        group_ids: [N] i32, equal for the members that answered the same prompts.
        unperturbed: [N] bool, members without noise; at least one in each group.
        fitness_epsilon: added to the deviation.

    Returns:
        [N] f32, constant; 0 for unperturbed members.
    """
    check_field("fitness_epsilon", fitness_epsilon, lambda x: x > 0, "> 0")
    scores, everyone = jax.lax.stop_gradient(member_scores), jnp.ones(group_ids.shape, bool)

    def of_prompt(scores: Array) -> Array:
        group = group_statistics(scores, everyone, group_ids)
        start = group_statistics(scores, unperturbed, group_ids).mean
        squares = jnp.where(group.homogeneous, 0.0, scores - group.mean) ** 2
        deviation = jnp.sqrt(group_statistics(squares, everyone, group_ids).mean)
        gain = jnp.where(group.homogeneous, 0.0, scores - start)
        return gain / (deviation + fitness_epsilon)

    fitness = jax.vmap(of_prompt, in_axes=1, out_axes=1)(scores).mean(axis=1)
    return jnp.where(unperturbed, 0.0, fitness)


FITNESS = {
    "group_mean": group_mean,
    "population_zscore": population_zscore,
    "baseline_member": baseline_member,
}

# The option whose groups begin with two members without noise.
UNPERTURBED = {"baseline_member": 2}
