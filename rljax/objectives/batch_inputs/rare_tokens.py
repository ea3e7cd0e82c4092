"""Lp-Reg (arXiv:2510.03222): which tokens are rare, and the old policy without its noise."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.batch_inputs.ranking import lowest, share_of
from rljax.objectives.parts import check_field

RARE_AMONG = ("negatives", "all")
PROXY_RULES = ("min_p", "fixed")
# Logit of a filtered token, as in the authors' code: its probability is 0 in any float type.
FILTERED = -1e4


def rare_negatives(
    current_logprobs: Array,
    advantages: Array,
    mask: Array,
    *,
    rare_share: float = 0.01,
    rare_among: str = "negatives",
) -> Array:
    """The least likely tokens with a negative advantage.

    The authors' code counts them in each micro-batch, this function in the whole batch.

    Args:
        current_logprobs: [N, T] f32, before the update.
        advantages: [N, T] f32.
        mask: [N, T] bool.
        rare_share: share of tokens that count as rare (0.01 for 14B, 0.005 for 32B).
        rare_among: negatives: the share is taken of the tokens with A < 0 (the authors' code); all:
            it is taken of all tokens, and then those with A < 0 are kept (the paper's quantile).

    Returns:
        [N, T] bool: int(tokens * share) of them; none if that is less than two.

    Raises:
        ValueError: for a share outside of [0, 1] or another word for `rare_among`.
    """
    check_field("rare_share", rare_share, lambda x: 0 <= x <= 1, "in [0, 1]")
    check_field("rare_among", rare_among, lambda x: x in RARE_AMONG, f"one of {RARE_AMONG}")
    chex.assert_equal_shape([current_logprobs, advantages, mask])
    negative = mask & (advantages < 0)
    among = negative if rare_among == "negatives" else mask
    count = share_of(among, rare_share)
    return lowest(current_logprobs, among, jnp.where(count > 1, count, 0)) & negative


def not_noise(logits: Array, *, proxy_threshold: float = 0.02, proxy_rule: str = "min_p") -> Array:
    """Tokens at or above the threshold: p >= threshold * max p (min_p), p >= threshold (fixed).

    Args:
        logits: [..., V] f32 of the policy that generated the data, at its temperature.
        proxy_threshold: in [0, 1]; with min_p 0 keeps all tokens and 1 the likeliest alone.
        proxy_rule: min_p or fixed.

    Returns:
        [..., V] bool; with the fixed rule there may be none.

    Raises:
        ValueError: for a threshold outside of [0, 1] or an unknown rule.
    """
    check_field("proxy_threshold", proxy_threshold, lambda x: 0 <= x <= 1, "in [0, 1]")
    known = f"one of {PROXY_RULES}"
    check_field("proxy_rule", proxy_rule, lambda x: x in PROXY_RULES, known)
    probabilities = jax.nn.softmax(logits, axis=-1)
    if proxy_rule == "fixed":
        return probabilities >= proxy_threshold
    return probabilities >= proxy_threshold * probabilities.max(axis=-1, keepdims=True)


def proxy_log_distribution(
    logits: Array, *, proxy_threshold: float = 0.02, proxy_rule: str = "min_p"
) -> Array:
    """The policy with its tail cut off as noise and the rest renormalised.

        proxy = p / sum of p over the tokens that are not noise, and 0 for noise

    Where everything is noise the likeliest token is kept.

    Args:
        logits: [..., V] f32.
        proxy_threshold: as in `not_noise`.
        proxy_rule: as in `not_noise`.

    Returns:
        [..., V] f32 log-probabilities, constant; about -1e4 for noise.
    """
    logits = jax.lax.stop_gradient(logits)
    kept = not_noise(logits, proxy_threshold=proxy_threshold, proxy_rule=proxy_rule)
    likeliest = logits == logits.max(axis=-1, keepdims=True)
    return jax.nn.log_softmax(jnp.where(kept | likeliest, logits, FILTERED), axis=-1)


def proxy_logprobs(
    logits: Array, tokens: Array, *, proxy_threshold: float = 0.02, proxy_rule: str = "min_p"
) -> Array:
    """Log-probability of chosen tokens under the proxy.

    Args:
        logits: [N, T, V] f32.
        tokens: [N, T] i32.
        proxy_threshold: as in `not_noise`.
        proxy_rule: as in `not_noise`.

    Returns:
        [N, T] f32, constant; about -1e4 for a token of the tail.
    """
    chex.assert_equal_shape_prefix([logits, tokens], tokens.ndim)
    proxy = proxy_log_distribution(logits, proxy_threshold=proxy_threshold, proxy_rule=proxy_rule)
    return jnp.take_along_axis(proxy, tokens[..., None], axis=-1)[..., 0]


def without_noise(
    logprobs: Array, largest_logprobs: Array, *, proxy_threshold: float = 0.02
) -> Array:
    """The min_p proxy of chosen tokens from a scoring pass with the token filter min_p.

    Such a pass is made for tokens that were sampled: it keeps every chosen token, whatever its
    probability. A token of the tail would look likelier than it was, and be pulled up. Here it gets
    its -1e4. Both inputs have the same normaliser, so their difference decides which token belongs
    to the tail.

    Args:
        logprobs: [...] f32, of the chosen tokens, scored with min_p = `proxy_threshold`.
        largest_logprobs: [...] f32, of the likeliest token in the same pass.
        proxy_threshold: in (0, 1), the filter's min_p.

    Returns:
        [...] f32, constant; as `proxy_logprobs` with the rule min_p.

    Raises:
        ValueError: for a threshold outside of (0, 1).
    """
    check_field("proxy_threshold", proxy_threshold, lambda x: 0 < x < 1, "in (0, 1)")
    chex.assert_equal_shape([logprobs, largest_logprobs])
    noise = logprobs < largest_logprobs + jnp.log(proxy_threshold)
    return jax.lax.stop_gradient(jnp.where(noise, FILTERED, logprobs))
