"""Slug tl-training: the graded reward of a tool call; weights of decisive tokens."""

import jax
import jax.numpy as jnp

from golden_adapters.common import floats
from rljax.objectives.supervised import key_tokens, nll
from rljax.rewards.functions import find_reward


def tl_training(case: dict) -> dict:
    inputs = case["inputs"]
    if "prediction" not in inputs:
        return _loss(case)
    tools = {name: inputs["params"][name] for name in inputs["functions"]}
    reference = {"call": inputs["gold"], "tools": tools}
    return {"reward": find_reward("tool_call")("", inputs["prediction"], reference)}


def _loss(case: dict) -> dict:
    """Their positions are lists, ours flags; their loss divides by the sum of the weights."""
    inputs = case["inputs"]
    targets = jnp.asarray(inputs["targets"])
    mask, none = targets != -100, jnp.zeros(targets.shape, bool)
    key = none.at[0, jnp.asarray(inputs["key_positions"])].set(True)
    value = none.at[0, jnp.asarray(inputs["other_param_positions"])].set(True)
    limit = case["args"]["max_weight"]
    weights = key_tokens(mask, key, value, mask.astype(int), key_weight_limit=limit)

    def total(logits):
        logp = jax.nn.log_softmax(logits)
        taken = jnp.take_along_axis(logp, jnp.where(mask, targets, 0)[..., None], axis=-1)
        return jnp.sum(weights * nll(taken[..., 0], mask)[0]) / weights.sum()

    loss, gradient = jax.value_and_grad(total)(floats(case, "logits"))
    return {"loss": loss, "grad_logits": gradient}
