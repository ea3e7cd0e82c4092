"""The published rules of guided decoding, as functions of arrays. `guides.py` holds their fields.

Logits are raw, finite, [N, V] f32; rows are independent of each other.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.sampling.distribution import take

# --- Values of the policy (VAS) ------------------------------------------------------------------


def value_augmented(
    logits: Array, values: Array, candidates: Array, beta: float | Array = 1.0
) -> Array:
    """Adds the centred values of some tokens to their logits (VAS, arXiv:2405.06639).

        l'[a] = l[a] + beta * (q[a] - mean of q over the candidates)      for candidates a
        l'[a] = l[a]                                                      for all other tokens

    With all V tokens as candidates and q the action values of the policy, l' are the logits of the
    maximiser of E[q] - KL(. || policy) / beta. With fewer, other tokens keep their logits, and
    their weight against the candidates depends on the centring.

    Args:
        logits: [N, V] f32.
        values: [N, k] f32, value of the row with the candidate appended.
        candidates: [N, k] i32, distinct within a row.
        beta: strength in nats per unit of value; 0 gives back `logits`.

    Returns:
        [N, V] f32.
    """
    rows = jnp.arange(logits.shape[0])[:, None]
    centred = values - values.mean(axis=-1, keepdims=True)
    return logits.at[rows, candidates].add((beta * centred).astype(logits.dtype))


# --- Autoregressive reward models (GenARM) -------------------------------------------------------


def reward_guided(
    logits: Array, arm_logits: Sequence[Array], weights: Sequence[float], beta: float = 1.0
) -> Array:
    """Adds log-probabilities of autoregressive reward models (GenARM, arXiv:2410.08193).

        l'[a] = l[a] + sum over i of (weight_i / beta) * log p_i(a)

    This is the sum itself. The released decoder computes a weighted average, divided by one plus
    the weights, and needs its temperature divided by as much.

    Args:
        logits: [N, V] f32.
        arm_logits: one [N, V] f32 per reward model, raw.
        weights: one per reward model; 0 leaves a model out.
        beta: strength of the KL to the policy, > 0.

    Returns:
        [N, V] f32; `logits` if all weights are 0.

    Raises:
        ValueError: if there are not as many weights as models.
    """
    if len(arm_logits) != len(weights):
        raise ValueError(f"{len(weights)} weights for {len(arm_logits)} reward models.")
    for weight, arm in zip(weights, arm_logits, strict=True):
        logits = logits + (weight / beta) * jax.nn.log_softmax(arm, axis=-1)
    return logits


# --- Generative discriminators (GeDi) ------------------------------------------------------------

# Taken off the logits of removed tokens, as in the release: they keep their order, without mass.
REMOVAL = 10_000.0


class ClassSums(NamedTuple):
    """Log-likelihood of the text so far under both classes; all zero for an empty text."""

    desired: Array  # [N] f32, sum of log p(token | before, desired class)
    undesired: Array  # [N] f32
    tokens: Array  # [N] i32, tokens in the sums

    def add(self, desired_logits: Array, undesired_logits: Array, tokens: Array) -> "ClassSums":
        """The sums after tokens [N] i32, given the [N, V] f32 logits that they came from."""

        def taken(logits: Array) -> Array:
            return take(jax.nn.log_softmax(logits, axis=-1), tokens)

        return ClassSums(
            desired=self.desired + taken(desired_logits).astype(self.desired.dtype),
            undesired=self.undesired + taken(undesired_logits).astype(self.undesired.dtype),
            tokens=self.tokens + 1,
        )


def desired_logprobs(
    desired_logits: Array,
    undesired_logits: Array,
    sums: ClassSums,
    *,
    scale: float = 1.0,
    biases: tuple[float, float] = (0.0, 0.0),
) -> Array:
    """log P(desired class | text + v) for every next token v (GeDi, arXiv:2009.06367).

        S_c(v) = (sum_c + log p(v | text, c)) / (tokens + 1)
        P(desired | v) = softmax over both classes of (scale * S_c(v) + bias_c)

    Args:
        desired_logits: [N, V] f32, of the class-conditional model with the desired code.
        undesired_logits: [N, V] f32, of the same model with the opposite code.
        sums: of the text before v.
        scale: the learned factor of the class logits; 0 knows no class.
        biases: of the desired and of the undesired class.

    Returns:
        [N, V] f32, < 0.
    """
    tokens = (sums.tokens + 1)[:, None]

    def mean(logits: Array, total: Array) -> Array:
        return (total[:, None] + jax.nn.log_softmax(logits, axis=-1)) / tokens

    desired = scale * mean(desired_logits, sums.desired) + biases[0]
    undesired = scale * mean(undesired_logits, sums.undesired) + biases[1]
    return jax.nn.log_sigmoid(desired - undesired)


def discriminator_guided(
    logits: Array,
    logprobs_desired: Array,
    *,
    strength: float = 30.0,
    filter_p: float = 0.8,
    target_p: float = 0.8,
) -> tuple[Array, Array]:
    """Weighs tokens by the class that they lead to, and removes the worst (GeDi, arXiv:2009.06367).

        g[v] = log softmax(logits)[v] + strength * log P(desired | v)

    Tokens are ordered by P(desired | v). From the worst on, those are removed whose mass under
    softmax(g), added up to and including their own, stays below `filter_p`, unless their own
    P(desired | v) reaches `target_p`. The best token is never removed.

    Args:
        logits: [N, V] f32.
        logprobs_desired: [N, V] f32, see `desired_logprobs`.
        strength: omega of the paper.
        filter_p: in [0, 1]; 0 removes nothing.
        target_p: in [0, 1].

    Returns:
        [N, V] f32, g minus `REMOVAL` where removed; and [N, V] bool, which are. With strength 0
        and filter_p 0 the first is the log-softmax of `logits`.
    """
    guided = jax.nn.log_softmax(logits, axis=-1) + strength * logprobs_desired
    order = jnp.argsort(logprobs_desired, axis=-1)
    mass = jnp.cumsum(jnp.take_along_axis(jax.nn.softmax(guided, axis=-1), order, axis=-1), axis=-1)
    # All of the mass may round to less than filter_p = 1.
    light = (mass < filter_p).at[:, -1].set(False)
    rows = jnp.arange(logits.shape[0])[:, None]
    light = jnp.zeros_like(light).at[rows, order].set(light)
    removed = light & (logprobs_desired < jnp.log(target_p))
    return jnp.where(removed, guided - REMOVAL, guided), removed


def shifted_to_peak(logits: Array, peak: float = 10.0) -> Array:
    """[N, V] f32 -> the same distribution with `peak` as the largest logit of each row.

    A penalty that multiplies logits depends on where they lie; GeDi puts the largest at 10.
    """
    return logits - logits.max(axis=-1, keepdims=True) + peak


def penalised_repetitions(logits: Array, seen: Array, penalty: float = 1.2) -> Array:
    """Makes tokens that were chosen before less likely (CTRL, arXiv:1909.05858, section 4.1).

    A positive logit is divided by the penalty, a negative one multiplied, once per token. GeDi's
    release divides by it for each earlier occurrence, whatever the sign.

    Args:
        logits: [N, V] f32; see `shifted_to_peak`.
        seen: [N, V] bool, tokens of the completion so far.
        penalty: > 0; 1 gives back `logits`.

    Returns:
        [N, V] f32.
    """
    return jnp.where(seen, jnp.where(logits < 0, logits * penalty, logits / penalty), logits)


# --- Changes of small models (dynamic logits fusion) ---------------------------------------------


class Fusion(NamedTuple):
    """What `fused_logits` decided."""

    logits: Array  # [N, V] f32
    weights: Array  # [N, E] f32, the alpha of the chosen expert, 0 for the others
    objective: Array  # [A, E, N] f32, of alpha number a for expert e alone


def _kl(logprobs: Array, other: Array) -> Array:
    """KL(p || q) over the last axis, in nats, of normalised log-probabilities."""
    return jnp.sum(jnp.exp(logprobs) * (logprobs - other), axis=-1)


def fused_logits(
    large: Array, small: Array, experts: Sequence[Array], *, alphas: Sequence[float] | Array
) -> Fusion:
    """Moves a large model as far as training moved a small one (arXiv:2406.15480).

        P~(alpha, e) = softmax(large + alpha * (expert_e - small))
        minimise over the grid, for each row alone, with P, Q, Q_i of large, small, expert_i:
            sum over i of (KL(P~ || P) - KL(Q_i || Q))^2 + (KL(P || P~) - KL(Q || Q_i))^2

    One expert acts at a time: the weights of the others are 0. One alpha of 1 is proxy tuning.

    Args:
        large: [N, V] f32.
        small: [N, V] f32, the model that the experts were trained from.
        experts: E arrays [N, V] f32.
        alphas: [A] f32, the grid, ascending. Ties go to the smallest alpha, then to the first
            expert. Only one [N, V] of the grid is in memory at a time.

    Returns:
        `Fusion`.

    Raises:
        ValueError: if there is no expert.
    """
    if not experts:
        raise ValueError("Logit fusion needs at least one expert; none was given.")
    alphas = jnp.asarray(alphas, large.dtype)
    change = jnp.stack([expert - small for expert in experts])  # [E, N, V]
    log_p, log_q = jax.nn.log_softmax(large, axis=-1), jax.nn.log_softmax(small, axis=-1)
    log_experts = jax.nn.log_softmax(jnp.stack(experts), axis=-1)
    forward, backward = _kl(log_experts, log_q), _kl(log_q, log_experts)  # [E, N]

    def objective(point: tuple[Array, Array]) -> Array:
        alpha, expert = point
        fused = jax.nn.log_softmax(large + alpha * change[expert], axis=-1)
        errors = (_kl(fused, log_p) - forward) ** 2 + (_kl(log_p, fused) - backward) ** 2
        return errors.sum(axis=0)

    count = len(experts)
    grid = (jnp.repeat(alphas, count), jnp.tile(jnp.arange(count), len(alphas)))
    values = jax.lax.map(objective, grid)  # [A * E, N], experts within alphas
    best = jnp.argmin(values, axis=0)
    weights = jax.nn.one_hot(best % count, count, dtype=large.dtype) * alphas[best // count, None]
    fused = large + (weights.T[:, :, None] * change).sum(axis=0)
    return Fusion(fused, weights, values.reshape(len(alphas), count, -1))
