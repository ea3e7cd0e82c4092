"""Losses of reward models on pairs: a chosen and a rejected completion."""

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field


def bradley_terry(
    chosen_scores: Array,
    rejected_scores: Array,
    *,
    score_margin: float | Array = 0.0,
    center_weight: float = 0.0,
    label_smoothing: float = 0.0,
) -> tuple[Array, dict[str, SumCount]]:
    """Negative log-likelihood of the chosen side winning (InstructGPT, arXiv:2203.02155, eq. 1).

        d    = r_chosen - r_rejected - score_margin
        loss = -(1 - e) * log sigmoid(d) - e * log sigmoid(-d) + c * (r_chosen + r_rejected)^2

    A constant added to all scores changes only the last term, which pulls their mean to 0
    (arXiv:2312.09244); 0.01 is customary. The margin is that of Llama 2 (arXiv:2307.09288, eq. 2).

    Args:
        chosen_scores: [B] f32, r of the chosen completions, differentiated.
        rejected_scores: [B] f32, r of the rejected ones, differentiated.
        score_margin: [] or [B] f32, by how much the scores should differ.
        center_weight: c, factor of the square of a pair's summed scores.
        label_smoothing: e, assumed share of swapped labels, in [0, 0.5).

    Returns:
        [B] loss, and metrics over pairs: `reward_chosen`, `reward_rejected`, `reward_margin` and
        `reward_accuracy` (chosen above rejected, strictly).

    Raises:
        ValueError: for a field outside its range.
    """
    check_field("center_weight", center_weight, _not_negative, ">= 0")
    check_field("label_smoothing", label_smoothing, _is_smoothing, "in [0, 0.5)")
    chex.assert_rank(chosen_scores, 1)
    chex.assert_equal_shape([chosen_scores, rejected_scores])
    difference = chosen_scores - rejected_scores - score_margin
    loss = -(1.0 - label_smoothing) * jax.nn.log_sigmoid(difference)
    loss -= label_smoothing * jax.nn.log_sigmoid(-difference)
    loss += center_weight * (chosen_scores + rejected_scores) ** 2
    everything = jnp.ones(loss.shape, bool)
    logged = {
        "reward_chosen": chosen_scores,
        "reward_rejected": rejected_scores,
        "reward_margin": chosen_scores - rejected_scores,
        "reward_accuracy": chosen_scores > rejected_scores,
    }
    return loss, {name: masked(values, everything) for name, values in logged.items()}


def rated_margin(
    chosen_scores: Array,
    rejected_scores: Array,
    rated_margins: Array,
    *,
    margin_scale: float = 1.0,
    center_weight: float = 0.0,
    label_smoothing: float = 0.0,
) -> tuple[Array, dict[str, SumCount]]:
    """`bradley_terry` with a margin for each pair, of the data (Llama 2, arXiv:2307.09288, eq. 2).

        d = r_chosen - r_rejected - margin_scale * m

    The paper's margins grow with how much better the chosen side was rated: 1, 2/3, 1/3 and 0.

    Args:
        chosen_scores: [B] f32, r of the chosen completions, differentiated.
        rejected_scores: [B] f32, r of the rejected ones, differentiated.
        rated_margins: [B] f32, m, of the column margin, or of score_chosen and score_rejected.
        margin_scale: factor of the margins of the data.
        center_weight: factor of the square of a pair's summed scores.
        label_smoothing: assumed share of swapped labels, in [0, 0.5).

    Returns:
        As `bradley_terry`.

    Raises:
        ValueError: for a field outside its range.
    """
    chex.assert_equal_shape([chosen_scores, rated_margins])
    return bradley_terry(
        chosen_scores,
        rejected_scores,
        score_margin=margin_scale * rated_margins,
        center_weight=center_weight,
        label_smoothing=label_smoothing,
    )


def _not_negative(value: float) -> bool:
    return value >= 0


def _is_smoothing(value: float) -> bool:
    return 0 <= value < 0.5
