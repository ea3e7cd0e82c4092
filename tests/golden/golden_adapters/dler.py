"""Slug dler: truncation reward, whitened group advantages and the boost of right rows."""

import jax.numpy as jnp

from golden_adapters.common import bools, floats, part
from golden_adapters.policy_gradient import advantage_part
from rljax.objectives.advantages.whitened import boost_correct
from rljax.objectives.parts import apply


def dler(case: dict) -> dict:
    args, mask = case["args"], bools(case, "response_mask")
    given = {"scores": floats(case, "correct"), "finished": ~bools(case, "truncated"), "mask": mask}
    rewards = apply(part("grpo", "reward_shaping", "truncation"), given)
    last = jnp.arange(mask.shape[1]) == mask.sum(axis=-1, keepdims=True) - 1
    given |= {
        "scores": rewards,
        "token_rewards": jnp.where(last, rewards[:, None], 0.0),
        "group_ids": jnp.asarray(case["inputs"]["index"]),
    }
    epsilon = args["whiten_eps"]
    whitened = advantage_part("reinforce_plus_plus_baseline", whiten_epsilon=epsilon)
    boost = dict(correct_boost=args["boost_value"], boost_threshold=args["boost_threshold"])
    boosted = advantage_part("reinforce_plus_plus_baseline", whiten_epsilon=epsilon, **boost)
    # Their code boosts the padding of right rows as well.
    everywhere = boost_correct(apply(boosted, given), ~mask, rewards, **boost)
    return {
        "rewards": rewards,
        "advantages": apply(whitened, given),
        "advantages_after_boost": everywhere,
    }
