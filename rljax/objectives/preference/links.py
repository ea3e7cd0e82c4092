"""Losses on the difference of two scores, the margin: how far the chosen side is ahead.

B pairs. x = beta * margin throughout, log sigmoid in its stable form.
"""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.parts import check_field


def logistic(margins: Array, *, beta: float = 0.1, label_smoothing: float = 0.0) -> Array:
    """-log sigmoid(beta * margin), with conservative label smoothing (DPO, eq. 7; cDPO).

        loss = -(1 - e) * log sigmoid(beta * d) - e * log sigmoid(-beta * d)

    With e = `label_smoothing` > 0 the optimum is the finite margin logit(1 - e) / beta. TRL 1.16
    ignores label smoothing for this loss; open-instruct and OpenRLHF apply it as here.

    Args:
        margins: [B] f32, score of the chosen minus score of the rejected completion.
        beta: strength of the implicit KL to the reference.
        label_smoothing: assumed share of swapped labels, in [0, 0.5).

    Returns:
        [B] f32, finite for every finite margin.

    Raises:
        ValueError: if `beta` is not positive or `label_smoothing` lies outside [0, 0.5).
    """
    return smoothed(scaled(margins, beta), label_smoothing)


def logistic_per_token(
    margins_per_token: Array, *, beta: float = 5.0, label_smoothing: float = 0.0
) -> Array:
    """`logistic` of scores per token: `dpo_norm` of Tulu 3 (arXiv:2411.15124).

        loss = -log sigmoid(beta * (s_chosen / |chosen| - s_rejected / |rejected|))

    A beta of 5 belongs to it; with sums of 50 tokens it is a beta of 0.1.

    Args:
        margins_per_token: [B] f32, difference of the scores, each divided by its length.
        beta: strength of the implicit KL to the reference, for a mean token.
        label_smoothing: assumed share of swapped labels, in [0, 0.5).

    Returns:
        [B] f32.

    Raises:
        ValueError: if `beta` is not positive or `label_smoothing` lies outside [0, 0.5).
    """
    return logistic(margins_per_token, beta=beta, label_smoothing=label_smoothing)


def logistic_with_margin(
    margins: Array,
    *,
    beta: float = 2.0,
    target_margin: float = 1.0,
    label_smoothing: float = 0.0,
) -> Array:
    """`logistic` of rewards that should differ by a target (SimPO, arXiv:2405.14734, eq. 6).

        d    = beta * (score(chosen) - score(rejected)) - target_margin
        loss = -(1 - e) * log sigmoid(d) - e * log sigmoid(-d)

    The paper tunes the ratio gamma / beta; `target_margin` is gamma itself, as TRL's `simpo_gamma`.

    Args:
        margins: [B] f32, score of the chosen minus score of the rejected completion.
        beta: scale of the reward, > 0.
        target_margin: gamma, by how much the two rewards should differ at least.
        label_smoothing: assumed share of swapped labels, in [0, 0.5).

    Returns:
        [B] f32, finite for every finite margin.

    Raises:
        ValueError: if `beta` is not positive or `label_smoothing` lies outside [0, 0.5).
    """
    return smoothed(scaled(margins, beta) - target_margin, label_smoothing)


def logistic_clipped(margins: Array, *, beta: float = 0.1, largest_reward: float = 1.0) -> Array:
    """`logistic` of a margin that two rewards in [-R, R] can have (chi-PO, arXiv:2407.13399).

        loss = -log sigmoid(clip(beta * d, -2 R, 2 R))

    Beyond the clip there is no gradient, as intended.

    Args:
        margins: [B] f32, score of the chosen minus score of the rejected completion.
        beta: strength of the divergence from the reference.
        largest_reward: R, the largest size of a reward, > 0.

    Returns:
        [B] f32.

    Raises:
        ValueError: if `beta` or `largest_reward` is not positive.
    """
    check_field("largest_reward", largest_reward, lambda x: x > 0, "> 0")
    bound = 2.0 * largest_reward
    return -jax.nn.log_sigmoid(jnp.clip(scaled(margins, beta), -bound, bound))


def robust(margins: Array, *, beta: float = 0.1, label_smoothing: float = 0.1) -> Array:
    """An unbiased estimate of DPO's loss on clean labels (robust DPO, arXiv:2403.00409, eq. 12).

        loss = (-(1 - e) * log sigmoid(x) + e * log sigmoid(-x)) / (1 - 2 e)

    In expectation over labels that are swapped with probability e it is DPO's. It falls without
    bound as the margin of a single pair grows, so it has no finite minimum on pairs that are seen
    in one order only. e = 0 is DPO.

    Args:
        margins: [B] f32, score of the chosen minus score of the rejected completion.
        beta: strength of the implicit KL to the reference.
        label_smoothing: e, the share of swapped labels, in [0, 0.5).

    Returns:
        [B] f32, negative for large margins.

    Raises:
        ValueError: if `beta` is not positive or `label_smoothing` lies outside [0, 0.5).
    """
    _check_smoothing(label_smoothing)
    x, e = scaled(margins, beta), label_smoothing
    return (e * jax.nn.log_sigmoid(-x) - (1.0 - e) * jax.nn.log_sigmoid(x)) / (1.0 - 2.0 * e)


def hinge(margins: Array, *, beta: float = 0.1) -> Array:
    """max(0, 1 - beta * margin) (SLiC-HF, arXiv:2305.10425; on log-ratios RSO, arXiv:2309.06657).

    RSO's "hinge-norm" with its gamma as beta. At the kink the gradient is 0.

    Args:
        margins: [B] f32, score of the chosen minus score of the rejected completion.
        beta: scale of the margin.

    Returns:
        [B] f32.

    Raises:
        ValueError: if `beta` is not positive.
    """
    return jax.nn.relu(1.0 - scaled(margins, beta))


def squared(margins: Array, *, beta: float = 0.1) -> Array:
    """(margin - 1 / (2 beta))^2 on sums of tokens (IPO, arXiv:2310.12036, eq. 17).

    As the paper prints it, and as OpenRLHF, EasyLM and the online DPO of TRL compute it; beta is
    the paper's tau.

    Args:
        margins: [B] f32, score of the chosen minus score of the rejected completion.
        beta: tau, strength of the KL to the reference.

    Returns:
        [B] f32.

    Raises:
        ValueError: if `beta` is not positive.
    """
    check_field("beta", beta, lambda x: x > 0, "> 0")
    return jnp.square(margins - 0.5 / beta)


def squared_per_token(margins_per_token: Array, *, beta: float = 0.1) -> Array:
    """`squared` of scores per token: IPO as TRL's DPOTrainer and HALOs compute it.

        loss = (s_chosen / |chosen| - s_rejected / |rejected| - 1 / (2 beta))^2

    TRL says that the authors of IPO confirmed the division. The two differ by a factor of the
    length in their target, so a beta of one means nothing for the other.

    Args:
        margins_per_token: [B] f32, difference of the scores, each divided by its length.
        beta: tau, for a mean token.

    Returns:
        [B] f32.

    Raises:
        ValueError: if `beta` is not positive.
    """
    return squared(margins_per_token, beta=beta)


def exo(margins: Array, *, beta: float = 0.1, label_smoothing: float = 1e-3) -> Array:
    """Reverse KL of the policy's preference to the smoothed label (EXO, arXiv:2402.00856).

        q = sigmoid(x),    loss = q log(q / (1 - e)) + (1 - q) log((1 - q) / e)

    It is 0 exactly where q = 1 - e.

    Args:
        margins: [B] f32, score of the chosen minus score of the rejected completion.
        beta: strength of the implicit KL to the reference.
        label_smoothing: e, in (0, 0.5); without any the loss is infinite.

    Returns:
        [B] f32, at least 0.

    Raises:
        ValueError: if `beta` is not positive or `label_smoothing` lies outside (0, 0.5).
    """
    check_field("label_smoothing", label_smoothing, lambda x: 0.0 < x < 0.5, "in (0, 0.5) for EXO")
    x, e = scaled(margins, beta), label_smoothing
    chosen = jax.nn.sigmoid(x) * (jax.nn.log_sigmoid(x) - jnp.log1p(-e))
    return chosen + jax.nn.sigmoid(-x) * (jax.nn.log_sigmoid(-x) - jnp.log(e))


def discovered(margins: Array, *, beta: float = 0.05, blend_temperature: float = 0.05) -> Array:
    """A blend of logistic and exponential loss that a search found (DiscoPOP, arXiv:2406.08414).

        m = sigmoid(x / tau),    loss = (1 - m) * -log sigmoid(x) + m * exp(-x)

    Args:
        margins: [B] f32, score of the chosen minus score of the rejected completion.
        beta: strength of the implicit KL to the reference.
        blend_temperature: tau, > 0.

    Returns:
        [B] f32; m * exp(-x) is one exponential, so that neither factor overflows by itself.

    Raises:
        ValueError: if `beta` or `blend_temperature` is not positive.
    """
    check_field("blend_temperature", blend_temperature, lambda x: x > 0, "> 0")
    x = scaled(margins, beta)
    share = x / blend_temperature
    log_loss = jax.nn.sigmoid(-share) * -jax.nn.log_sigmoid(x)
    return log_loss + jnp.exp(jax.nn.log_sigmoid(share) - x)


def scaled(margins: Array, beta: float) -> Array:
    """beta * margins.

    Raises:
        ValueError: if `beta` is not positive.
    """
    check_field("beta", beta, lambda x: x > 0, "> 0")
    return beta * margins


def smoothed(logits: Array, label_smoothing: float) -> Array:
    """Cross-entropy [B] of a preference of probability sigmoid(logits) with a smoothed label.

    Raises:
        ValueError: if `label_smoothing` lies outside [0, 0.5).
    """
    _check_smoothing(label_smoothing)
    loss = -(1.0 - label_smoothing) * jax.nn.log_sigmoid(logits)
    if not isinstance(label_smoothing, float | int) or label_smoothing:
        loss = loss - label_smoothing * jax.nn.log_sigmoid(-logits)
    return loss


def _check_smoothing(label_smoothing: float) -> None:
    check_field("label_smoothing", label_smoothing, lambda x: 0.0 <= x < 0.5, "in [0, 0.5)")


# They read the difference of the scores and nothing else of them.
MARGIN_LINKS = {
    "logistic": logistic,
    "logistic_per_token": logistic_per_token,
    "logistic_with_margin": logistic_with_margin,
    "logistic_clipped": logistic_clipped,
    "robust": robust,
    "hinge": hinge,
    "squared": squared,
    "squared_per_token": squared_per_token,
    "exo": exo,
    "discovered": discovered,
}
