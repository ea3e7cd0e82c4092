"""Supervised losses: slugs hpt and sft-variants."""

import jax
import jax.numpy as jnp

from golden_adapters.common import aggregation_weights, bools, floats, lookup, part
from golden_adapters.policy_gradient import function_of, surrogate_part
from golden_adapters.verl_advantages import advantage_split
from rljax.objectives.divergences import divergence, full
from rljax.objectives.policy_gradient import policy_gradient_loss
from rljax.objectives.supervised import anchor_loss, nll
from rljax.objectives.surrogates import shaped_likelihood
from rljax.registry import resolve_objective


def _token_mean(logprobs, mask):
    weigh = resolve_objective("sft", {}).part("aggregation")
    return jnp.sum(weigh(mask) * nll(logprobs, mask)[0])


def hpt(case: dict) -> dict:
    functions = {
        "compute_sft_pure_loss": _sft_loss,
        "compute_token_on_off_policy_loss": _on_off_policy_loss,
        "compute_grpo_outcome_advantage_split": advantage_split,
    }
    return lookup(functions, function_of(case), "function")(case)


def _sft_loss(case: dict) -> dict:
    mask = bools(case, "mask")
    loss, gradient = jax.value_and_grad(_token_mean)(floats(case, "log_prob"), mask)
    return {"loss": loss, "grad_log_prob": gradient}


def _on_off_policy_loss(case: dict) -> dict:
    """Sampled rows as usual, demonstrations by their likelihood, joined as in training."""
    args, mask = case["args"], bools(case, "mask")
    advantages, old = floats(case, "advantages"), floats(case, "old_log_prob")
    shown = bools(case, "off_policy_rows")[:, None]
    shaping = lookup({"no_reshape": None, "p_div_p_0.1": 0.1}, args["off_policy_reshape"], "shape")
    if args["loss_remove_clip"]:
        surrogate = surrogate_part("unclipped")
    else:
        surrogate = surrogate_part(
            "clipped", clip_low=args["cliprange"], clip_high=args["cliprange"]
        )
    if args["loss_remove_token_mean"]:  # theirs divides the sum over all rows by the padded length
        weights = aggregation_weights(mask, "token_sum") / mask.shape[1]
    else:
        weights = aggregation_weights(mask, "token_mean")

    def total(logprobs):
        arrays = dict(logprobs=logprobs, old_logprobs=old, advantages=advantages, mask=mask)
        sampled, _ = policy_gradient_loss(
            arrays, ratio=part("grpo", "ratio", "token"), surrogate=surrogate
        )
        demonstrated, _ = shaped_likelihood(logprobs, advantages, mask, shaping=shaping)
        return jnp.sum(weights * jnp.where(shown, demonstrated, sampled))

    loss, gradient = jax.value_and_grad(total)(floats(case, "log_prob"))
    return {"loss": loss, "grad_log_prob": gradient}


def sft_variants(case: dict) -> dict:
    """Their loss of a token is our token loss and anchor, their mean our aggregation's."""
    args = case["args"]
    methods = {"sft": "sft", "dft": "dft", "sft+kl": "sft_kl", "asft": "asft"}
    method = lookup(methods, args["mode"], "mode")
    weight = {"anchor_weight": args["kl_weight"]} if args["kl_weight"] else {}
    objective = resolve_objective(method, weight)
    labels = jnp.asarray(case["inputs"]["labels"])[:, 1:]
    mask = labels != args["ignore_index"]
    reference = jax.nn.log_softmax(floats(case, "ref_logits")[:, :-1])

    def total(logits):
        logprobs = jax.nn.log_softmax(logits[:, :-1])
        taken = jnp.take_along_axis(logprobs, jnp.where(mask, labels, 0)[..., None], axis=-1)
        loss, _ = objective.part("token_loss")(taken[..., 0], mask)
        if weight:
            compared = divergence(full(logprobs, reference, max), objective.part("anchor"))
            loss += objective.bind(anchor_loss)(compared, mask)[0]
        return jnp.sum(objective.part("aggregation")(mask) * loss)

    loss, gradient = jax.value_and_grad(total)(floats(case, "logits"))
    if case["outputs"]["grad_logits"] is None:  # theirs has no graph without a token: ours is 0
        gradient = None if not gradient.any() else gradient
    return {"loss": loss, "grad_logits": gradient}
