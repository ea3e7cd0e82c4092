"""Slug ma-rlhf: macro actions, their advantages, and both losses."""

import jax
import jax.numpy as jnp
import numpy as np

from golden_adapters.common import NotBuilt, aggregation_weights, bools, floats, part
from golden_adapters.policy_gradient import advantage_part, surrogate_part
from rljax.objectives.credit.macro_gae import macro_actions, macro_returns, position_in_segment
from rljax.objectives.credit.outcomes import bounded_scores, place_outcomes
from rljax.objectives.kl import k1
from rljax.objectives.policy_gradient import kl_in_reward, policy_gradient_loss
from rljax.objectives.values import critic_loss


def _segment_ids(case: dict, mask, ref_logprobs):
    ngram = case["args"]["ngram"]
    if ngram is None:
        return part("grpo", "segmentation", "falling_perplexity")(mask, ref_logprobs)
    return part("grpo", "segmentation", "ngrams", ngram=ngram)(mask)


def _refuse_released_defects(case: dict, mask) -> None:
    """Cases in which the authors' code does what the method does not ask for."""
    ngram = case["args"]["ngram"]
    if not mask.all():
        raise NotBuilt("a score that is averaged over padding")
    repeated = ngram is not None and (mask.shape[1] - 1) % ngram == 0
    if repeated and "/dedup/" not in case["name"]:
        raise NotBuilt("an empty macro action")


def ma_rlhf(case: dict) -> dict:
    args = case["args"]

    def response(name):
        return floats(case, name)[:, args["start"] :]

    mask = bools(case, "action_mask")[:, args["start"] :]
    _refuse_released_defects(case, np.asarray(mask))
    old, ref, old_values = map(response, ("old_logprobs", "ref_logprobs", "old_values"))
    finished = jnp.ones(mask.shape[0], bool)
    clip = args["clip_reward_value"]
    scores = bounded_scores(floats(case, "reward_score"), finished, reward_clip=clip)
    rewards = kl_in_reward(
        place_outcomes(scores, mask), old, ref, mask, kl_weight=args["kl_ctl"], kl=k1
    )
    ids = _segment_ids(case, mask, ref)
    fields = dict(gamma=args["gamma"], macro_weights=args["value_function"])
    arrays = (rewards, old_values, mask, ids)
    advantages = advantage_part("macro_gae", gae_lambda=args["lam"], **fields)(*arrays)
    returns, _ = macro_returns(*arrays, value_lambda=args["lam"], **fields)
    steps = macro_actions(*arrays, macro_weights=args["value_function"])
    weights = aggregation_weights(mask, "token_mean")
    surrogate = surrogate_part("clipped", clip_low=args["cliprange"], clip_high=args["cliprange"])

    def actor(logprobs):
        given = dict(logprobs=logprobs, old_logprobs=old, advantages=advantages, mask=mask)
        ratio = part("grpo", "ratio", "token")
        return jnp.sum(weights * policy_gradient_loss(given, ratio=ratio, surrogate=surrogate)[0])

    def critic(values):
        width = args["cliprange_value"]
        loss, _ = critic_loss(values, old_values, returns, mask, value_clip=width)
        return jnp.sum(weights * loss)

    actor_loss, grad_logprobs = jax.value_and_grad(actor)(response("logprobs"))
    value_loss, grad_values = jax.value_and_grad(critic)(response("values"))
    # One number per macro action, where it begins.
    begins = np.flatnonzero(np.asarray(position_in_segment(mask, ids)[0])[0] == 0)
    count = len(begins)
    return {
        "boundaries": args["start"] + begins,
        "token_rewards": rewards,
        "macro_values": steps.values[:, :count],
        "macro_rewards": steps.rewards[:, :count],
        "advantages": advantages[:, begins],
        "returns": returns[:, begins],
        "actor_loss": actor_loss,
        "grad_logprobs": grad_logprobs,
        "critic_loss": value_loss,
        "grad_values": grad_values,
    }
