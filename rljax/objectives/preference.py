"""Losses on the completions of a prompt of which one is preferred: a score and a link.

    loss[b] = link(score of each side of pair b)

A *score* turns what is known of a completion into a number, a *link* turns the numbers of all
sides into a loss. Both read arrays by name (`PREFERENCE_ARRAYS` in arrays.py): sums and lengths of
each side, token arrays, the difference of two scores, the scores of any number of sides. A
reference policy is kept and scored only for parts that name its log-probabilities.

B pairs, K sides of each, T completion slots. Side 0 is the chosen one.
"""

from collections.abc import Callable, Mapping, Sequence

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import apply, check_field, inputs_of
from rljax.objectives.sequences import sequence_logprobs as summed


def log_ratio(sequence_logprobs: Array, ref_sequence_logprobs: Array) -> Array:
    """log policy(y) - log reference(y) of whole completions (DPO, arXiv:2305.18290, eq. 5).

    Args:
        sequence_logprobs: [B, K] f32, summed over the completion's tokens, differentiated.
        ref_sequence_logprobs: [B, K] f32, the same under the frozen reference; constant.

    Returns:
        [B, K] f32.
    """
    return sequence_logprobs - jax.lax.stop_gradient(ref_sequence_logprobs)


def log_likelihood(sequence_logprobs: Array) -> Array:
    """log policy(y): the policy's own log-probability is the reward (GenARM, arXiv:2410.08193).

    DPO without a reference, so that the reward of a text is a sum over its tokens. Longer
    completions therefore weigh more.

    Args:
        sequence_logprobs: [B, K] f32, summed over the completion's tokens, differentiated.

    Returns:
        [B, K] f32.
    """
    return sequence_logprobs


def mean_log_likelihood(sequence_logprobs: Array, lengths: Array) -> Array:
    """log policy(y) / |y|: the log-probability of a token, on average (SimPO, arXiv:2405.14734).

    It is what ranks completions where text is generated, and no length is favoured.

    Args:
        sequence_logprobs: [B, K] f32, summed over the completion's tokens, differentiated.
        lengths: [B, K] f32, tokens of the completion, at least 1.

    Returns:
        [B, K] f32.
    """
    return sequence_logprobs / lengths


SCORES = {
    "log_ratio": log_ratio,
    "log_likelihood": log_likelihood,
    "mean_log_likelihood": mean_log_likelihood,
}


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
    check_field("beta", beta, lambda x: x > 0, "> 0")
    return _smoothed(beta * margins, -beta * margins, label_smoothing)


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
    check_field("beta", beta, lambda x: x > 0, "> 0")
    return _smoothed(
        beta * margins - target_margin, target_margin - beta * margins, label_smoothing
    )


def _smoothed(logits: Array, opposite: Array, label_smoothing: float) -> Array:
    """Cross-entropy [B] of the preference with probability sigmoid(logits); `opposite` is minus."""
    check_field("label_smoothing", label_smoothing, lambda x: 0.0 <= x < 0.5, "in [0, 0.5)")
    loss = -(1.0 - label_smoothing) * jax.nn.log_sigmoid(logits)
    if not isinstance(label_smoothing, float | int) or label_smoothing:
        loss = loss - label_smoothing * jax.nn.log_sigmoid(opposite)
    return loss


LINKS = {"logistic": logistic, "logistic_with_margin": logistic_with_margin}


def score_rewards(side_scores: Array, *, beta: float = 1.0) -> dict[str, Array]:
    """Rewards that the policy assigns to the sides: beta times their scores.

    Args:
        side_scores: [B, K] f32.
        beta: scale of the reward; 1 where the link has no such field.

    Returns:
        [B] each: `reward_chosen`, `reward_rejected` (mean of the other sides), `reward_margin`
        (their difference) and `reward_accuracy` (chosen above all others, strictly).
    """
    return _compared(beta * side_scores)


def log_ratio_rewards(
    sequence_logprobs: Array, ref_sequence_logprobs: Array, *, beta: float = 1.0
) -> dict[str, Array]:
    """As `score_rewards`, where there is a reference: beta times the log-ratio, whatever the score.

    Args:
        sequence_logprobs: [B, K] f32.
        ref_sequence_logprobs: [B, K] f32, under the frozen reference.
        beta: scale of the reward; 1 where the link has no such field.
    """
    return _compared(beta * (sequence_logprobs - ref_sequence_logprobs))


def _compared(rewards: Array) -> dict[str, Array]:
    chosen, others = rewards[:, 0], rewards[:, 1:]
    rejected = others.mean(axis=1)
    return {
        "reward_chosen": chosen,
        "reward_rejected": rejected,
        "reward_margin": chosen - rejected,
        "reward_accuracy": chosen > others.max(axis=1),
    }


def ranking(sequence_logprobs: Array) -> dict[str, Array]:
    """How likely the sides are to the policy.

    Args:
        sequence_logprobs: [B, K] f32.

    Returns:
        [B] each: `logprob_chosen`, `logprob_rejected` (mean of the other sides) and
        `ranking_accuracy` (the chosen completion is more likely than all others, strictly).
    """
    chosen, others = sequence_logprobs[:, 0], sequence_logprobs[:, 1:]
    return {
        "logprob_chosen": chosen,
        "logprob_rejected": others.mean(axis=1),
        "ranking_accuracy": chosen > others.max(axis=1),
    }


def displacement(sequence_logprobs: Array, ref_sequence_logprobs: Array) -> dict[str, Array]:
    """`displaced_share`: the chosen completion became less likely than under the reference.

    Args:
        sequence_logprobs: [B, K] f32.
        ref_sequence_logprobs: [B, K] f32, under the frozen reference.
    """
    return {"displaced_share": sequence_logprobs[:, 0] < ref_sequence_logprobs[:, 0]}


# A metric is logged where the arrays that it names are there; a later one replaces an earlier one
# of the same name. Metrics never bring in an array: only scores and links do.
METRICS = (score_rewards, log_ratio_rewards, ranking, displacement)


def preference_loss(
    arrays: Mapping[str, Array],
    *,
    score: Callable,
    link: Callable,
    metrics: Sequence[Callable] = (),
) -> tuple[Array, dict[str, SumCount]]:
    """Loss of each pair; the step averages over the pairs of the global batch.

    A pair with an empty completion, whose log-probability is 0, gets a loss and is counted in the
    metrics here; training/families/preference.py gives it weight 0, so that it trains nothing.

    Args:
        arrays: by name (`PREFERENCE_ARRAYS`): `mask` [B, K, T] bool and `logprobs` [B, K, T] f32,
            which is differentiated; and what the parts name besides, `ref_sequence_logprobs` say.
            `sequence_logprobs`, `lengths`, `side_scores` and, of two sides, `margins` are made
            here.
        score: a value of `SCORES`, config fields bound with `functools.partial`.
        link: a value of `LINKS`, the same.
        metrics: values of `METRICS`, the same; of a single side nothing is logged.

    Returns:
        [B] loss and metrics over pairs.

    Raises:
        ValueError: for a part that names an array which is not there.
    """
    mask, logprobs = arrays["mask"], arrays["logprobs"]
    chex.assert_rank(mask, 3)
    known = {
        **arrays,
        "sequence_logprobs": summed(logprobs, mask),
        "lengths": jnp.maximum(mask.sum(axis=-1), 1).astype(logprobs.dtype),
    }
    side_scores = apply(score, known)
    chex.assert_shape(side_scores, mask.shape[:2])
    known["side_scores"] = side_scores
    if mask.shape[1] == 2:
        known["margins"] = side_scores[:, 0] - side_scores[:, 1]
    loss = apply(link, known)
    chex.assert_shape(loss, mask.shape[:1])
    logged: dict[str, Array] = {}
    if mask.shape[1] > 1:
        for metric in metrics:
            if known.keys() >= set(inputs_of(metric)):
                logged |= apply(metric, known)
    everything = jnp.ones(loss.shape, bool)
    return loss, {name: masked(values, everything) for name, values in logged.items()}
