"""Slug disco: scores of right samples above those of wrong ones."""

from functools import partial

import jax.numpy as jnp

from golden_adapters.common import aggregation_weights, bools, floats, lookup
from golden_adapters.policy_gradient import function_of, loss_and_gradients, surrogate_part
from golden_adapters.verl_losses import batch_arrays
from rljax.objectives.batch_inputs import BATCH_INPUTS
from rljax.objectives.parts import apply

DISCO_SCORES = {"Lratio": "ratio", "logL": "log_likelihood"}
HINGE_ESTIMATORS = {"kl": "k1", "low_var_kl": "k3"}


def disco(case: dict) -> dict:
    args, mask = case["args"], bools(case, "response_mask")
    rewards = floats(case, "rewards")
    score = lookup(DISCO_SCORES, function_of(case).rsplit("_", 1)[-1], "score")
    estimator = lookup(HINGE_ESTIMATORS, args["kl_type"], "estimator")
    arrays = batch_arrays(case, mask, jnp.where(mask, rewards[:, None], 0.0))
    arrays["correct"] = rewards == 1
    arrays["group_ids"] = jnp.unique(jnp.asarray(case["inputs"]["uid"]), return_inverse=True)[1]
    weigh = partial(
        BATCH_INPUTS["score_weights"], disco_score=score, disco_temperature=args.get("tau")
    )
    press = partial(
        BATCH_INPUTS["kl_pressure"],
        hinge_estimator=estimator,
        hinge_weight=args["beta"],
        hinge_margin=args["delta"],
    )
    made = {"score_weights": apply(weigh, arrays), "kl_pressure": apply(press, arrays)}

    def minimised(weights, made):
        loss, (gradient, _), metrics = loss_and_gradients(
            case,
            arrays["advantages"],
            mask,
            weights,
            ratio="token",
            surrogate=surrogate_part("disco", disco_score=score, hinge_estimator=estimator),
            arrays=made,
        )
        return loss, gradient, metrics

    weights = aggregation_weights(mask, "token_sum")
    loss, gradient, metrics = minimised(weights, made)
    if args.get("tau") is not None:
        # The value that their code reports has tau in place of the wrong samples' term of each
        # valid prompt; only its gradient means something.
        wrong = jnp.minimum(made["score_weights"], 0.0)
        theirs = made | {"score_weights": made["score_weights"] - wrong}
        loss = minimised(weights, theirs)[0] - args["tau"] * wrong.sum()
    return {
        "grad_log_prob": gradient,
        "kl": metrics["hinge_kl"].mean(),
        "loss_value_in_code": loss,
    }
