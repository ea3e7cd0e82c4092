"""Slug unpacking-dpo-ppo: one PPO update of EasyLM, policy and critic."""

import jax
import jax.numpy as jnp

from golden_adapters.common import NotBuilt, aggregation_weights, bools, floats, part
from golden_adapters.policy_gradient import advantage_part, surrogate_part
from golden_adapters.ppo import where_counted
from rljax.objectives.credit.outcomes import whiten_rewards
from rljax.objectives.policy_gradient import policy_gradient_loss
from rljax.objectives.values import critic_loss, lambda_returns

EPSILON = 1e-6  # of both whitenings


def unpacking(case: dict) -> dict:
    args, mask = case["args"], bools(case, "mask")
    rewards, values, old = (floats(case, name) for name in ("rewards", "values", "old_logps"))
    tokens, start = jnp.asarray(case["inputs"]["response_ids"]), case["inputs"]["prompt_len"] - 1
    finished = jnp.ones(mask.shape[0], bool)
    if args["whiten_rewards"] and not mask.all():
        raise NotBuilt("whitened rewards of padding that enter the advantages before it")
    if args["whiten_rewards"]:
        rewards = whiten_rewards(rewards, mask, reward_epsilon=EPSILON)
    gae = advantage_part("gae", gamma=args["gamma"], gae_lambda=args["lam"], whiten_epsilon=EPSILON)
    advantages = gae(rewards, values, mask, finished)
    returns, value_mask = lambda_returns(
        rewards, values, mask, finished, gamma=args["gamma"], value_lambda=args["lam"]
    )
    weights = aggregation_weights(mask, "token_mean")
    ratio = part("grpo", "ratio", "token")
    surrogate = surrogate_part("clipped", clip_low=args["cliprange"], clip_high=args["cliprange"])

    def total(logits, new_values):
        logprobs = jax.nn.log_softmax(logits[:, start:-1])
        logprobs = jnp.take_along_axis(logprobs, tokens[..., None], axis=-1)[..., 0]
        arrays = dict(logprobs=logprobs, old_logprobs=old, advantages=advantages, mask=mask)
        policy, _ = policy_gradient_loss(arrays, ratio=ratio, surrogate=surrogate)
        critic, _ = critic_loss(
            new_values[:, start:-1], values, returns, value_mask, value_clip=args["cliprange_value"]
        )
        policy, critic = jnp.sum(weights * policy), jnp.sum(weights * critic)
        return policy + args["vf_coef"] * critic, (policy, critic)

    (loss, (policy, critic)), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(
        floats(case, "logits_full"), floats(case, "new_values_full")
    )
    found = {"advantages_whitened_unmasked": advantages, "returns": returns}
    return {field: where_counted(value, mask, case, field) for field, value in found.items()} | {
        "ppo_total": loss,
        "ppo_policy": policy,
        "ppo_value": critic,
        "grad_logits_full": gradients[0],
        "grad_values_full": gradients[1],
    }
