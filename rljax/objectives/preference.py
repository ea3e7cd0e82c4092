"""Losses on pairs of a chosen and a rejected completion: a score and a link.

    loss = link(score(chosen) - score(rejected))

A *score* turns the log-probabilities of a completion into a number, a *link* turns the margin
between two scores into a loss. Scores normalised by length, divergences other than the KL and
links such as hinge or squared are further entries of the two tables.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked


def log_ratio(logprobs: Array, ref_logprobs: Array) -> Array:
    """log policy(y) - log reference(y) of whole completions (DPO, arXiv:2305.18290, eq. 5).

    Args:
        logprobs: [B] f32, summed over the completion's tokens, differentiated.
        ref_logprobs: [B] f32, the same under the frozen reference; constant.

    Returns:
        [B] f32.
    """
    return logprobs - jax.lax.stop_gradient(ref_logprobs)


SCORES = {"log_ratio": log_ratio}


def logistic(margin: Array, *, beta: float = 0.1, label_smoothing: float = 0.0) -> Array:
    """-log sigmoid(beta * margin), with conservative label smoothing (DPO, eq. 7; cDPO).

        loss = -(1 - e) * log sigmoid(beta * d) - e * log sigmoid(-beta * d)

    With e = `label_smoothing` > 0 the optimum is the finite margin logit(1 - e) / beta. TRL 1.16
    ignores label smoothing for this loss; open-instruct and OpenRLHF apply it as here.

    Args:
        margin: [B] f32, score of the chosen minus score of the rejected completion.
        beta: strength of the implicit KL to the reference.
        label_smoothing: assumed share of swapped labels, in [0, 0.5).

    Returns:
        [B] f32, finite for every finite margin.

    Raises:
        ValueError: if `beta` is not positive or `label_smoothing` lies outside [0, 0.5).
    """
    if beta <= 0:
        raise ValueError(f"beta is {beta}; it must be > 0 (config.<stage>.objective.beta).")
    if not 0.0 <= label_smoothing < 0.5:
        raise ValueError(
            f"label_smoothing is {label_smoothing}; it must lie in [0, 0.5) "
            "(config.<stage>.objective.label_smoothing)."
        )
    loss = -(1.0 - label_smoothing) * jax.nn.log_sigmoid(beta * margin)
    if label_smoothing:
        loss = loss - label_smoothing * jax.nn.log_sigmoid(-beta * margin)
    return loss


LINKS = {"logistic": logistic}


def preference_loss(
    chosen_logprobs: Array,
    rejected_logprobs: Array,
    ref_chosen_logprobs: Array,
    ref_rejected_logprobs: Array,
    *,
    score: Callable,
    link: Callable,
    beta: float,
) -> tuple[Array, dict[str, SumCount]]:
    """Loss per pair; the step averages over the pairs of the global batch.

    A pair with an empty completion, whose log-probability is 0, gets a loss and is counted in the
    metrics here; training/families/preference.py gives it weight 0, so that it trains nothing.

    Args:
        chosen_logprobs: [B] f32, log-probability of the whole chosen completion, differentiated.
        rejected_logprobs: [B] f32, the same for the rejected one.
        ref_chosen_logprobs: [B] f32 under the frozen reference; constant.
        ref_rejected_logprobs: [B] f32 under the frozen reference; constant.
        score: a value of `SCORES`.
        link: a value of `LINKS`; config fields other than `beta` bound with `functools.partial`.
        beta: handed to the link; also the scale of the logged rewards.

    Returns:
        [B] loss and metrics over pairs: `reward_chosen`, `reward_rejected`, `reward_margin` (beta
        times the log-ratio to the reference, whatever the score), `reward_accuracy` (chosen above
        rejected, strictly), `logprob_chosen`, `logprob_rejected`, `ranking_accuracy` (the policy
        gives the chosen completion the higher log-probability, strictly) and `displaced_share`
        (the chosen completion became less likely than under the reference).
    """
    chex.assert_rank(chosen_logprobs, 1)
    chex.assert_equal_shape(
        [chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs]
    )
    margin = score(chosen_logprobs, ref_chosen_logprobs) - score(
        rejected_logprobs, ref_rejected_logprobs
    )
    loss = link(margin, beta=beta)
    reward_chosen = beta * (chosen_logprobs - ref_chosen_logprobs)
    reward_rejected = beta * (rejected_logprobs - ref_rejected_logprobs)
    everything = jnp.ones(loss.shape, bool)
    logged = {
        "reward_chosen": reward_chosen,
        "reward_rejected": reward_rejected,
        "reward_margin": reward_chosen - reward_rejected,
        "reward_accuracy": reward_chosen > reward_rejected,
        "logprob_chosen": chosen_logprobs,
        "logprob_rejected": rejected_logprobs,
        "ranking_accuracy": chosen_logprobs > rejected_logprobs,
        "displaced_share": chosen_logprobs < ref_chosen_logprobs,
    }
    return loss, {name: masked(values, everything) for name, values in logged.items()}


def autoregressive_reward_loss(
    chosen_logprobs: Array,
    rejected_logprobs: Array,
    *,
    beta: float = 0.05,
    margin: float | Array = 0.0,
    label_smoothing: float = 0.0,
) -> tuple[Array, dict[str, SumCount]]:
    """Loss per pair of a language model whose log-probability is the reward (arXiv:2410.08193).

        d    = beta * (log p(chosen) - log p(rejected)) - margin
        loss = -(1 - e) * log sigmoid(d) - e * log sigmoid(-d)

    It is DPO without a reference, so that the reward of a text is a sum over its tokens (GenARM).
    Longer completions therefore weigh more.

    Args:
        chosen_logprobs: [B] f32, log-probability of the whole chosen completion, differentiated.
        rejected_logprobs: [B] f32, the same for the rejected one.
        beta: scale of the reward, > 0.
        margin: [] or [B] f32, by how much the rewards should differ.
        label_smoothing: e, the assumed share of swapped labels, in [0, 0.5).

    Returns:
        [B] loss and the metrics of `preference_loss` that need no reference; rewards are beta
        times log-probabilities.

    Raises:
        ValueError: if `beta` is not positive or `label_smoothing` lies outside [0, 0.5).
    """

    def link(difference: Array, *, beta: float) -> Array:
        shifted = difference - jnp.divide(margin, beta)
        return logistic(shifted, beta=beta, label_smoothing=label_smoothing)

    none = jnp.zeros_like(chosen_logprobs)
    loss, metrics = preference_loss(
        chosen_logprobs, rejected_logprobs, none, none, score=log_ratio, link=link, beta=beta
    )
    del metrics["displaced_share"]  # it compares with a reference
    return loss, metrics
