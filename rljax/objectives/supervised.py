"""Supervised objectives on demonstrations.

    loss[n, t] = -log policy(token t | prompt, tokens before t), on the tokens of the completion

The aggregation's weights make one number of it. A token's loss may have a constant factor, and an
anchor may keep the policy near what the stage starts from.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field

NOISE_WEIGHTS = ("single", "squared")


def nll(logprobs: Array, mask: Array) -> tuple[Array, dict[str, SumCount]]:
    """Negative log-likelihood of the demonstrated tokens.

    It is the policy-gradient loss with advantage 1 and the policy itself in the denominator.

    Args:
        logprobs: [N, T] f32, log-probability of the demonstrated token.
        mask: [N, T] bool, True on the tokens to learn (the completion, its end token included).

    Returns:
        [N, T] loss, zero outside the mask, and the metric `nll` (nats per token).
    """
    chex.assert_rank(logprobs, 2)
    chex.assert_equal_shape([logprobs, mask])
    loss = -jnp.where(mask, logprobs, 0.0)
    return loss, {"nll": masked(loss, mask)}


def probability_weighted(
    logprobs: Array, mask: Array, *, probability_power: float = 1.0
) -> tuple[Array, dict[str, SumCount]]:
    """Likelihood with each token weighted by a power of its own probability, a constant.

        loss = -sg(p^a) log p        gradient: -p^(a - 1) grad p

    a = 1 is DFT (arXiv:2508.05629): its gradient is that of the mean probability of the tokens, so
    tokens that the policy finds impossible teach it nothing. a = 0 is the likelihood, a = 1/2 twice
    a squared Hellinger distance, a = -1 a distance of the kind of chi^2.

    Args:
        logprobs: [N, T] f32, log-probability of the demonstrated token, differentiated.
        mask: [N, T] bool.
        probability_power: a, in [-1, 1].

    Returns:
        [N, T] loss, zero outside the mask, and the metrics `nll` and `token_weight`.

    Raises:
        ValueError: for a power outside of [-1, 1].
    """
    check_field("probability_power", probability_power, lambda x: -1 <= x <= 1, "in [-1, 1]")
    loss, metrics = nll(logprobs, mask)
    weight = jax.lax.stop_gradient(jnp.exp(probability_power * jnp.where(mask, logprobs, 0.0)))
    return weight * loss, metrics | {"token_weight": masked(weight, mask)}


TOKEN_LOSSES = {"nll": nll, "probability_weighted": probability_weighted}


def anchor_loss(
    ref_divergence: Array, mask: Array, *, anchor_weight: float = 0.05
) -> tuple[Array, dict[str, SumCount]]:
    """Keeps the policy near a frozen reference (ASFT, arXiv:2509.23753, with a forward KL).

    Args:
        ref_divergence: [N, T] f32, over the whole vocabulary (objectives/divergences.py).
        mask: [N, T] bool.
        anchor_weight: lambda, the factor of the divergence.

    Returns:
        [N, T] loss, zero outside the mask, and the metric `anchor_divergence`, nats per token.

    Raises:
        ValueError: for a negative weight.
    """
    check_field("anchor_weight", anchor_weight, lambda x: x >= 0, ">= 0")
    chex.assert_equal_shape([ref_divergence, mask])
    divergence = jnp.where(mask, ref_divergence, 0.0)
    return anchor_weight * divergence, {"anchor_divergence": masked(divergence, mask)}


def key_tokens(
    mask: Array,
    key_tokens: Array,
    value_tokens: Array,
    segment_ids: Array,
    *,
    key_weight_limit: float = 9.0,
) -> Array:
    """Weights of tokens that decide a tool call (TL-Training, arXiv:2412.15495).

        key tokens: min(others / keys, limit) where an example has fewer keys than others, else 1
        all others: 1

    Tokens of values count neither as keys nor as others. Examples without a key weigh 1.

    Args:
        mask: [N, T] bool, tokens that are learned.
        key_tokens: [N, T] bool, tokens in which the right tool differs.
        value_tokens: [N, T] bool, last tokens of arguments' values.
        segment_ids: [N, T] i32, the example of a token in its row, from 1; at most T.
        key_weight_limit: the largest weight.

    Returns:
        [N, T] f32, 0 outside the mask.

    Raises:
        ValueError: for a limit below 1.
    """
    check_field("key_weight_limit", key_weight_limit, lambda x: x >= 1, ">= 1")
    chex.assert_equal_shape([mask, key_tokens, value_tokens, segment_ids])
    keys, others = mask & key_tokens, mask & ~key_tokens & ~value_tokens

    def counted(flags: Array) -> Array:
        def of_row(flags: Array, ids: Array) -> Array:
            return jax.ops.segment_sum(flags.astype(float), ids, flags.shape[0] + 1)[ids]

        return jax.vmap(of_row)(flags, segment_ids)

    key_count, other_count = counted(keys), counted(others)
    ratio = jnp.minimum(other_count / jnp.maximum(key_count, 1.0), key_weight_limit)
    weight = jnp.where(keys & (key_count < other_count), ratio, 1.0)
    return jnp.where(mask, weight, 0.0)


TOKEN_WEIGHTS = {"none": None, "key_tokens": key_tokens}


def token_noiser(
    logits: Array,
    tokens: Array,
    mask: Array,
    noise: Array,
    *,
    noise_share: float = 0.1,
    noise_weight: str = "single",
) -> tuple[Array, dict[str, SumCount]]:
    """Likelihood of a token, with a share of random other tokens (TokenBuncher, arXiv:2508.20697).

        loss = -(1 - share) * log p(token) - share * sum_y z_y log p(y)
        z = noise, 0 at the token, divided by its sum

    The rest of the probability goes to random tokens: whoever raises the entropy later gets noise.

    Args:
        logits: [N, T, V] f32, differentiated; slot t predicts `tokens[:, t]`.
        tokens: [N, T] i32; outside the mask they may be anything.
        mask: [N, T] bool.
        noise: [N, T, V] f32, uniform in [0, 1), fresh for every token and step; constant.
        noise_share: lambda; 0 is the negative log-likelihood.
        noise_weight: single: the paper's weight; squared: share^2 for the second term, which is
            what the released code computes.

    Returns:
        [N, T] loss, zero outside the mask, and the metric `nll`.

    Raises:
        ValueError: for a share outside of [0, 1] or an unknown weight.
    """
    check_field("noise_share", noise_share, lambda x: 0 <= x <= 1, "in [0, 1]")
    known = f"one of {NOISE_WEIGHTS}"
    check_field("noise_weight", noise_weight, lambda x: x in NOISE_WEIGHTS, known)
    chex.assert_equal_shape([tokens, mask])
    chex.assert_equal_shape([logits, noise])
    logp, tokens = _log_softmax(logits, mask), jnp.where(mask, tokens, 0)
    others = ~jax.nn.one_hot(tokens, logits.shape[-1], dtype=bool)
    noise = jnp.where(others & mask[..., None], jax.lax.stop_gradient(noise), 0.0)
    total = noise.sum(axis=-1, keepdims=True)
    noise = noise / jnp.where(total > 0, total, 1.0)
    own = jnp.take_along_axis(logp, tokens[..., None], axis=-1)[..., 0]
    spread = jnp.sum(noise * jnp.where(others, logp, 0.0), axis=-1)
    weight = noise_share if noise_weight == "single" else noise_share**2
    loss = jnp.where(mask, -(1.0 - noise_share) * own - weight * spread, 0.0)
    return loss, {"nll": masked(-own, mask)}


def entropy_loss(logits: Array, mask: Array) -> tuple[Array, dict[str, SumCount]]:
    """Entropy of the next-token distribution, to be made small (TokenBuncher's code).

    This entropy is differentiated; one that is used as a reward is not.

    Args:
        logits: [N, T, V] f32, differentiated.
        mask: [N, T] bool.

    Returns:
        [N, T] loss in nats, zero outside the mask, and the metric `entropy`.
    """
    chex.assert_equal_shape_prefix([logits, mask], 2)
    logp = _log_softmax(logits, mask)
    # A token without probability has no part in the entropy: 0 * -inf would be NaN.
    possible = jnp.isfinite(logp)
    terms = jnp.where(possible, jnp.exp(logp) * jnp.where(possible, logp, 0.0), 0.0)
    loss = jnp.where(mask, -terms.sum(axis=-1), 0.0)
    return loss, {"entropy": masked(loss, mask)}


def _log_softmax(logits: Array, mask: Array) -> Array:
    """[N, T, V] log-probabilities; outside the mask those of equal logits."""
    return jax.nn.log_softmax(jnp.where(mask[..., None], logits, 0.0), axis=-1)
