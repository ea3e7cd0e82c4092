"""Slugs ppo and vapo, and the GAE cases of verl and tunix: a critic's targets and losses."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from golden_adapters.common import NotBuilt, aggregation_weights, bools, floats, lookup
from golden_adapters.policy_gradient import advantage_part
from golden_adapters.verl_losses import VERL_AGGREGATIONS
from rljax.objectives.credit.gae import length_adaptive_lambda
from rljax.objectives.credit.outcomes import bounded_scores, place_outcomes, whiten_rewards
from rljax.objectives.kl import k1
from rljax.objectives.kl_controllers import adaptive
from rljax.objectives.policy_gradient import kl_in_reward
from rljax.objectives.supervised import nll
from rljax.objectives.values import critic_loss, lambda_returns
from rljax.objectives.whitening import whiten


def where_counted(ours: Array, mask: Array, case: dict, field: str):
    """Ours on True slots. Others are not compared, as the files' notes ask: the functions leave
    what happens to be there."""
    theirs = np.asarray(case["outputs"][field], float) if field in case.get("outputs", {}) else 0.0
    return jnp.where(mask, ours, theirs)


def _gae(case: dict, rewards: str, mask: str, **fields) -> tuple[Array, Array, Array, Array]:
    """Mask, whitened advantages, raw advantages and the critic's targets; all rows are terminal."""
    r, v, m = floats(case, rewards), floats(case, "values"), bools(case, mask)
    finished = jnp.ones(m.shape[0], bool)
    whitened, raw = (
        advantage_part("gae", whiten_advantages=flag, **fields)(r, v, m, finished)
        for flag in (True, False)
    )
    targets, _ = lambda_returns(
        r, v, m, finished, gamma=fields["gamma"], value_lambda=fields["gae_lambda"]
    )
    return m, whitened, raw, targets


def verl_gae(case: dict) -> dict:
    args = case["args"]
    fields = dict(gamma=args["gamma"], gae_lambda=args["lam"])
    m, whitened, raw, targets = _gae(case, "token_level_rewards", "response_mask", **fields)
    found = {
        "advantages": whitened,
        "advantages_whitened": whitened,
        "advantages_raw": raw,
        "returns": targets,
    }
    return {field: where_counted(value, m, case, field) for field, value in found.items()}


def tunix_gae(case: dict) -> dict:
    args = case["args"]
    fields = dict(gamma=args["gamma"], gae_lambda=args["gae_lambda"])
    m, whitened, _, targets = _gae(case, "rewards", "mask", **fields)
    found = {"advantages": whitened, "returns": targets}
    return {field: where_counted(value, m, case, field) for field, value in found.items()}


def _openrlhf_gae(case: dict) -> dict:
    args, mask = case["args"], np.asarray(case["inputs"]["action_mask"]) != 0
    if (np.diff(mask.astype(int), axis=-1) > 0).any():
        raise NotBuilt("a hole in the mask as a state of value 0")
    fields = dict(gamma=args["gamma"], gae_lambda=args["lambd"])
    m, _, raw, targets = _gae(case, "rewards", "action_mask", **fields)
    found = {"advantages": raw, "returns": targets}
    return {field: where_counted(value, m, case, field) for field, value in found.items()}


def _value_loss(case: dict) -> dict:
    args, mask = case["args"], bools(case, "response_mask")
    aggregation = lookup(VERL_AGGREGATIONS, args["loss_agg_mode"], "aggregation")
    weights = aggregation_weights(mask, aggregation)
    old, returns = floats(case, "values"), floats(case, "returns")

    def total(new):
        loss, metrics = critic_loss(new, old, returns, mask, value_clip=args["cliprange_value"])
        return jnp.sum(weights * loss), metrics

    (loss, metrics), gradient = jax.value_and_grad(total, has_aux=True)(floats(case, "vpreds"))
    share = metrics["value_clip_share"].mean()
    return {"vf_loss": loss, "vf_clipfrac": share, "grad_vpreds": gradient}


def _whiten(case: dict) -> dict:
    # Reward whitening is the one use without a shift of the mean.
    shift = case["args"]["shift_mean"]
    mask = bools(case, "mask")
    whitened = (whiten if shift else whiten_rewards)(floats(case, "values"), mask)
    return {"whitened": where_counted(whitened, mask, case, "whitened")}


def _openrlhf_reward(case: dict) -> dict:
    args, mask, kl = case["args"], bools(case, "action_mask"), floats(case, "kl")
    low, high = args["reward_clip_range"]
    if low != -high:
        raise NotBuilt("a range of rewards that is not symmetric")
    finished = jnp.ones(mask.shape[0], bool)
    scores = bounded_scores(floats(case, "r"), finished, reward_clip=high)
    outcomes = place_outcomes(scores, mask)
    rewards = kl_in_reward(outcomes, kl, jnp.zeros_like(kl), mask, kl_weight=args["kl_coef"], kl=k1)
    return {"reward": where_counted(rewards, mask, case, "reward")}


def _adaptive_kl(case: dict) -> dict:
    args, weight, weights = case["args"], case["args"]["init_kl_coef"], []
    for measured in case["inputs"]["current_kl"]:
        weight = adaptive(
            weight,
            measured,
            args["n_steps"],
            kl_target=args["target_kl"],
            kl_horizon=args["horizon"],
        )
        weights.append(weight)
    return {"coef_after_each_update": jnp.stack(weights)}


PPO = {
    "verl.compute_gae_advantage_return": verl_gae,
    "openrlhf.get_advantages_and_returns": _openrlhf_gae,
    "verl.compute_value_loss": _value_loss,
    "verl.masked_whiten": _whiten,
    "openrlhf.compute_reward": _openrlhf_reward,
    "verl.AdaptiveKLController": _adaptive_kl,
}


def ppo(case: dict) -> dict:
    return lookup(PPO, case["name"].split("/")[0], "function")(case)


def _length_adaptive_lambda(case: dict) -> dict:
    lengths, alpha = jnp.asarray(case["inputs"]["length"]), case["args"]["alpha"]
    return {
        "lambda_unclipped": length_adaptive_lambda(lengths, length_alpha=alpha, clip=False),
        "lambda_clipped_to_0_1": length_adaptive_lambda(lengths, length_alpha=alpha),
    }


def _decoupled(case: dict) -> dict:
    args, mask = case["args"], bools(case, "mask")
    rewards, values = floats(case, "rewards"), floats(case, "values")
    finished = jnp.ones(mask.shape[0], bool)
    alpha = float(args["lambda_policy"].removeprefix("1-1/(").removesuffix("*l)"))
    policy = advantage_part(
        "gae_length_adaptive", length_alpha=alpha, gamma=args["gamma"], whiten_advantages=False
    )
    targets, _ = lambda_returns(
        rewards, values, mask, finished, gamma=args["gamma"], value_lambda=args["lambda_critic"]
    )
    return {
        "advantages_raw": policy(rewards, values, mask, finished),
        "value_targets": targets,
    }


def _positive_nll(case: dict) -> dict:
    mask = bools(case, "mask") & bools(case, "correct")[:, None]
    loss, _ = nll(floats(case, "log_prob"), mask)
    return {"nll": jnp.sum(aggregation_weights(mask, "token_mean") * loss)}


VAPO = {
    "length_adaptive_lambda": _length_adaptive_lambda,
    "decoupled": _decoupled,
    "positive_nll": _positive_nll,
}


def vapo(case: dict) -> dict:
    return lookup(VAPO, case["name"].split("/")[0], "equation")(case)
