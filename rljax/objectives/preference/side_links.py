"""Losses that look at each of two sides by itself, not only at their difference.

    r_w, r_l = scores of the chosen and of the rejected side

They say how likely a side should become, so a constant added to both scores changes them: they go
with the score `log_ratio`, or with log-probabilities. B pairs of two sides.
"""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.parts import check_field
from rljax.objectives.preference.links import scaled

# 1 - exp(mean log-probability) of a completion that the policy is sure of would be 0.
SUREST = -1e-6


def nca(side_scores: Array, *, beta: float = 0.1) -> Array:
    """Noise-contrastive alignment of a pair (NCA, arXiv:2402.05369).

        loss = -log sigmoid(beta r_w) - 0.5 log sigmoid(-beta r_w) - 0.5 log sigmoid(-beta r_l)

    The chosen side is kept from falling: its own optimum is finite.

    Args:
        side_scores: [B, 2] f32, the chosen side first.
        beta: strength of the implicit KL to the reference.

    Returns:
        [B] f32.

    Raises:
        ValueError: if `beta` is not positive.
    """
    chosen, rejected = _two(scaled(side_scores, beta))
    apart = jax.nn.log_sigmoid(-chosen) + jax.nn.log_sigmoid(-rejected)
    return -jax.nn.log_sigmoid(chosen) - 0.5 * apart


def binary(side_scores: Array, *, beta: float = 0.1) -> Array:
    """A classifier of good and bad completions (BCO on pairs, arXiv:2404.04656, TRL's bco_pair).

        loss = -log sigmoid(beta r_w) - log sigmoid(-beta r_l)

    It is the paper's loss with its shift of the rewards left at 0.

    Args:
        side_scores: [B, 2] f32, the chosen side first.
        beta: strength of the implicit KL to the reference.

    Returns:
        [B] f32.

    Raises:
        ValueError: if `beta` is not positive.
    """
    chosen, rejected = _two(scaled(side_scores, beta))
    return -jax.nn.log_sigmoid(chosen) - jax.nn.log_sigmoid(-rejected)


def squared_sides(side_scores: Array, *, beta: float = 0.001) -> Array:
    """Self-play of a constant-sum game, wins known for sure (SPPO, arXiv:2405.00675).

        loss = (r_w - 1 / (2 beta))^2 + (r_l + 1 / (2 beta))^2

    TRL's `sppo_hard`. The paper has a factor of 1/2, and win rates of a judge in place of 1 and 0.

    Args:
        side_scores: [B, 2] f32, the chosen side first.
        beta: 1 / eta; with the paper's 0.001 the targets are +-500 nats.

    Returns:
        [B] f32.

    Raises:
        ValueError: if `beta` is not positive.
    """
    check_field("beta", beta, lambda x: x > 0, "> 0")
    chosen, rejected = _two(side_scores)
    target = 0.5 / beta
    return jnp.square(chosen - target) + jnp.square(rejected + target)


def apo_zero(side_scores: Array, *, beta: float = 0.1) -> Array:
    """The chosen side up, the rejected down (APO-zero, arXiv:2408.06266).

        loss = 1 - sigmoid(beta r_w) + sigmoid(beta r_l)

    For chosen completions that are better than the policy's own.

    Args:
        side_scores: [B, 2] f32, the chosen side first.
        beta: strength of the implicit KL to the reference.

    Returns:
        [B] f32 in (0, 2).

    Raises:
        ValueError: if `beta` is not positive.
    """
    chosen, rejected = _two(scaled(side_scores, beta))
    return jax.nn.sigmoid(-chosen) + jax.nn.sigmoid(rejected)


def apo_down(side_scores: Array, *, beta: float = 0.1) -> Array:
    """Both sides down, the rejected further (APO-down, arXiv:2408.06266).

        loss = sigmoid(beta r_w) + 1 - sigmoid(beta (r_w - r_l))

    For a policy that is already better than the chosen completions.

    Args:
        side_scores: [B, 2] f32, the chosen side first.
        beta: strength of the implicit KL to the reference.

    Returns:
        [B] f32 in (0, 2).

    Raises:
        ValueError: if `beta` is not positive.
    """
    chosen, rejected = _two(scaled(side_scores, beta))
    return jax.nn.sigmoid(chosen) + jax.nn.sigmoid(rejected - chosen)


def odds_ratio(side_scores: Array) -> Array:
    """-log sigmoid of the log odds ratio of mean token probabilities (ORPO, arXiv:2403.07691).

        odds(y) = p / (1 - p),   p = exp(s),   loss = -log sigmoid(log odds(w) - log odds(l))

    Args:
        side_scores: [B, 2] f32, mean log-probabilities of a token, the chosen side first; cut at
            -1e-6, where a completion is certain.

    Returns:
        [B] f32, in float32 whatever the scores are.
    """
    logs = jnp.minimum(side_scores, SUREST)
    chosen, rejected = _two(logs - jnp.log(-jnp.expm1(logs)))
    return -jax.nn.log_sigmoid(chosen - rejected)


def _two(side_values: Array) -> tuple[Array, Array]:
    """Chosen and rejected, [B] each."""
    chex.assert_shape(side_values, (None, 2))
    return side_values[:, 0], side_values[:, 1]


SIDE_LINKS = {
    "nca": nca,
    "binary": binary,
    "squared_sides": squared_sides,
    "apo_zero": apo_zero,
    "apo_down": apo_down,
    "odds_ratio": odds_ratio,
}
