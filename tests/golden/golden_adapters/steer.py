"""Slug steer: weights of tokens by the change of entropy that they cause."""

from functools import partial

from golden_adapters.common import aggregation_weights, bools, floats
from golden_adapters.policy_gradient import loss_and_gradients, surrogate_part
from golden_adapters.verl_losses import VERL_AGGREGATIONS, batch_arrays
from rljax.objectives.batch_inputs import TOKEN_WEIGHTS
from rljax.objectives.parts import apply


def steer(case: dict) -> dict:
    args, mask = case["args"], bools(case, "response_mask")
    low, high = args["token_weight_min"], args["token_weight_max"]
    weigh = (
        partial(TOKEN_WEIGHTS["steer_linear"], steer_low=low, steer_high=high)
        if args["linear"]
        else partial(TOKEN_WEIGHTS["steer_exponential"], steer_low=low)
    )
    arrays = batch_arrays(case, mask) | {"old_entropy": floats(case, "entropys")}
    token_weights = apply(weigh, arrays)
    loss, (gradient, _), metrics = loss_and_gradients(
        case,
        floats(case, "advantages"),
        mask,
        aggregation_weights(mask, VERL_AGGREGATIONS[args["loss_agg_mode"]]),
        ratio="token",
        surrogate=surrogate_part(
            "clipped",
            clip_low=args["cliprange_low"],
            clip_high=args["cliprange_high"],
            dual_clip=args["clip_ratio_c"],
        ),
        arrays={"correction": token_weights},
    )
    low_share = metrics["clip_share_low"].mean()
    high_share = metrics["clip_share_high"].mean()
    return {
        "token_weights": token_weights,
        "pg_loss": loss,
        "grad_log_prob": gradient,
        "pg_clipfrac": low_share + high_share,
        "clipfrac_high": high_share,
        "clipfrac_low": low_share,
    }
