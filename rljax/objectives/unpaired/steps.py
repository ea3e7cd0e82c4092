"""A loss on completions and on the steps that they are made of.

N completions, T slots of each. Steps have numbers from 0: `step_ids` [N, T] says of each token
which step it belongs to, -1 for a token of none: the end, what a template writes behind an answer.
What is known of step h of a completion stands at slot h of an array [N, T], as no completion has
more steps than tokens.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import check_field
from rljax.objectives.unpaired.links import prospect_loss

STEP_LOSS_REDUCTIONS = ("mean", "sum")


def step_sums(values: Array, step_ids: Array) -> Array:
    """Sums over the tokens of each step: [N, T] f32, that of step h at slot h.

    Args:
        values: [N, T] f32.
        step_ids: [N, T] i32, -1 for tokens of no step.
    """
    slots = values.shape[-1]

    def of_row(row: Array, ids: Array) -> Array:
        # One sum more takes the tokens of no step.
        return jax.ops.segment_sum(row, jnp.where(ids < 0, slots, ids), slots + 1)[:slots]

    return jax.vmap(of_row)(values, step_ids)


def step_kto(
    mask: Array,
    logprobs: Array,
    ref_logprobs: Array,
    labels: Array,
    labelled: Array,
    step_ids: Array,
    step_labels: Array,
    step_counted: Array,
    kl_baseline: Array,
    step_baseline: Array,
    *,
    beta: float = 0.1,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
    outcome_weight: float = 1.0,
    step_weight: float = 1.0,
    step_reduction: str = "mean",
) -> Array:
    """KTO's value of the whole completion, and of each of its steps (Step-KTO, arXiv:2501.10799).

        u_t  = log policy(y_t) - log reference(y_t),   r = sum_t u_t,   r_h = sum_{t in step h} u_t
        loss = outcome_weight * v(r, z, label) + step_weight * mean_h v(r_h, z_steps, label_h)
        v(r, z, label) = desirable_weight * (1 - sigmoid(beta (r - z)))     where it is right
        v(r, z, label) = undesirable_weight * (1 - sigmoid(beta (z - r)))   where it is wrong

    A step's log-ratio is that of its tokens after everything before them, from one pass over the
    whole completion. z and z_steps are estimates without gradient (`kl_estimate`). The paper says
    that both levels enter one loss with KTO's value; its equation was not seen, and weights, the
    mean over steps and the reference point of steps are those fixed here.

    Args:
        mask: [N, T] bool.
        logprobs: [N, T] f32, differentiated.
        ref_logprobs: [N, T] f32, under the frozen reference; constant.
        labels: [N] bool, the whole answer is right.
        labelled: [N] bool, it is known; others have the steps' term only.
        step_ids: [N, T] i32, the step of each token, -1 for none.
        step_labels: [N, T] bool, step h is right, at slot h.
        step_counted: [N, T] bool, there is a step h, and it has a say; without any the completion
            has the outcome's term only.
        kl_baseline: [N] f32, z, the same for all.
        step_baseline: [N] f32, z of a step, the same for all.
        beta: strength of the implicit KL to the reference.
        desirable_weight: lambda_D, factor of what is right.
        undesirable_weight: lambda_U, of what is wrong.
        outcome_weight: factor of the whole completion's term.
        step_weight: factor of the steps' term.
        step_reduction: mean over a completion's steps, or their sum, in which long solutions
            weigh more.

    Returns:
        [N] f32.

    Raises:
        ValueError: if `beta` is not positive, or for another `step_reduction`.
    """
    allowed = " or ".join(map(repr, STEP_LOSS_REDUCTIONS))
    check_field("step_reduction", step_reduction, STEP_LOSS_REDUCTIONS.__contains__, allowed)
    weights = {"desirable_weight": desirable_weight, "undesirable_weight": undesirable_weight}
    ratios = jnp.where(mask, logprobs - jax.lax.stop_gradient(ref_logprobs), 0.0)
    whole = prospect_loss(ratios.sum(axis=-1), kl_baseline, labels, beta=beta, **weights)
    each = prospect_loss(
        step_sums(ratios, step_ids), step_baseline[:, None], step_labels, beta=beta, **weights
    )
    steps = jnp.where(step_counted, each, 0.0).sum(axis=-1)
    if step_reduction == "mean":
        steps = steps / jnp.maximum(step_counted.sum(axis=-1), 1)
    return outcome_weight * jnp.where(labelled, whole, 0.0) + step_weight * steps


def step_metrics(arrays: Mapping[str, Array], beta: float) -> dict[str, SumCount]:
    """Rewards of right and of wrong steps, means over all steps of the batch.

    Args:
        arrays: by name, those that `step_kto` reads.
        beta: scale of the rewards.
    """
    ratios = jnp.where(arrays["mask"], arrays["logprobs"] - arrays["ref_logprobs"], 0.0)
    rewards, labels = beta * step_sums(ratios, arrays["step_ids"]), arrays["step_labels"]
    counted = arrays["step_counted"]
    return {
        "reward_right_steps": masked(rewards, counted & labels),
        "reward_wrong_steps": masked(rewards, counted & ~labels),
    }
