"""Slugs vas, genarm, gedi and dynamic-logits-fusion: decoding with several models."""

import jax
import jax.numpy as jnp

from golden_adapters.common import NotBuilt, aggregation_weights, bools, floats
from golden_adapters.preference import autoregressive_reward
from rljax.objectives.values import td_lambda_returns, value_loss
from rljax.sampling.guide_rules import (
    ClassSums,
    desired_logprobs,
    discriminator_guided,
    fused_logits,
    reward_guided,
)
from rljax.sampling.guides import ValueAugmented


def vas(case: dict) -> dict:
    args = case["args"]
    if "base_logits" in case["inputs"]:
        table = floats(case, "value_of_appended_token")

        def peek(model, candidates):
            return jnp.take_along_axis(table, candidates, axis=-1)

        guide = ValueAugmented(beta=args["beta"], top_k=args["topk"])
        return {"augmented_logits": guide.combine([floats(case, "base_logits")], (), peek)}
    mask = bools(case, "mask")
    values, rewards = floats(case, "values"), floats(case, "rewards")
    returns = td_lambda_returns(values, rewards, mask, gamma=args["gamma"], lam=args["lam"])
    losses, _ = value_loss(floats(case, "value_pred_new"), returns, mask)
    return {"returns": returns, "loss": (aggregation_weights(mask, "token_mean") * losses).sum()}


def genarm(case: dict) -> dict:
    args = case["args"]
    if "base_logp" in case["inputs"]:
        alphas = args["alphas"]
        arms = [arm[None] for arm in floats(case, "arm_logp")]
        logits = reward_guided(floats(case, "base_logp")[None], arms, alphas)[0]
        temperature = args["user_temperature"]
        return {
            "prob": jax.nn.softmax(logits / temperature),
            # The reference averages the log-probabilities, which is a higher temperature.
            "prob_if_temperature_left_at_1": jax.nn.softmax(logits / (1 + sum(alphas))),
        }
    return autoregressive_reward(case)


def gedi(case: dict) -> dict:
    args = case["args"]
    if args["class_bias"]:
        raise NotBuilt("a class bias without the shift of target_p that belongs to it")
    desired, undesired = floats(case, "cum_logp_desired"), floats(case, "cum_logp_undesired")
    sums = ClassSums(desired, undesired, jnp.full(desired.shape, args["prev_len"]))
    logprobs = desired_logprobs(
        floats(case, "cc_logits_desired"),
        floats(case, "cc_logits_undesired"),
        sums,
        scale=args["logit_scale"],
        biases=tuple(args["bias"] or (0.0, 0.0)),
    )
    guided, removed = discriminator_guided(
        floats(case, "base_logits"),
        logprobs,
        strength=args["omega"],
        filter_p=args["filter_p"],
        target_p=args["target_p"],
    )
    return {"logp_desired_token": logprobs, "guided_logits": guided, "removed": removed}


def dynamic_logits_fusion(case: dict) -> dict:
    large, small, expert = (floats(case, name)[None] for name in ("large", "small", "expert"))
    fusion = fused_logits(large, small, [expert], alphas=case["args"]["alphas"])
    return {
        "objective": fusion.objective[:, 0, 0],
        "best_alpha": fusion.weights[0, 0],
        "fused_logprobs": jax.nn.log_softmax(fusion.logits[0]),
    }
