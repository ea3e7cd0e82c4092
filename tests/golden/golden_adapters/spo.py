"""Slug spo: segments, steps and trees with Monte-Carlo values."""

import jax.numpy as jnp
import numpy as np

from golden_adapters.common import bools, floats, lookup, part
from golden_adapters.policy_gradient import advantage_part
from rljax.objectives.credit.outcomes import place_outcomes
from rljax.objectives.credit.segment_values import probability_mask, segment_values
from rljax.objectives.credit.slots import segments_from_starts
from rljax.objectives.credit.tree import edge_advantages, node_values
from rljax.objectives.metrics import masked
from rljax.objectives.whitening import whiten


def _chain(case: dict) -> dict:
    inputs, args = case["inputs"], case["args"]
    old = jnp.log(floats(case, "response_prob"))[None]
    mask = jnp.ones(old.shape, bool)
    threshold, interval = args["prob_threshold"], args["cutpoint_interval"]
    ids = part("grpo", "segmentation", "uncertain", cut_threshold=threshold, cut_interval=interval)(
        mask, old
    )
    # A state is numbered by the token before it there, by the token after it here.
    states = jnp.full(old.shape, jnp.nan)
    slots = np.asarray(inputs["cutpoints"], int) + 1
    states = states.at[0, slots].set(np.asarray(inputs["cutpoint_mc_values"], float))
    rewards = place_outcomes(jnp.asarray([inputs["score"]]), mask)
    start, end = segment_values(states, rewards, mask, ids)
    advantage = advantage_part(
        "segment_difference", probability_threshold=threshold, whiten_advantages=False
    )
    return {"token_advantages": advantage(start, end, mask, old)[0]}


def _vineppo(case: dict) -> dict:
    """Steps of one token each."""
    rewards = floats(case, "step_rewards")[None]
    values = [jnp.nan if value is None else value for value in case["inputs"]["values"]]
    states = jnp.asarray(values[:-1], float)[None]
    mask = jnp.ones(rewards.shape, bool)
    ids = segments_from_starts(mask, mask)
    start, end = segment_values(states, rewards, mask, ids, fill_values=True)
    # probability_threshold None cannot be set as an override: it counts as not set.
    advantage = advantage_part(
        "segment_difference", probability_threshold=1.0, whiten_advantages=False
    )
    return {"step_advantages": advantage(start, end, mask, jnp.zeros_like(rewards))[0]}


def _flat(node: dict, parent: int, nodes: list) -> list:
    """Nodes with the index of their parent, parents first."""
    index = len(nodes)
    nodes.append((node, parent))
    for child in node["children"]:
        _flat(child, index, nodes)
    return nodes


def _tree(case: dict) -> dict:
    nodes = _flat(case["inputs"]["tree"], -1, [])
    parents = jnp.array([parent for _, parent in nodes])
    present = jnp.ones(len(nodes), bool)
    rewards = jnp.array([node["reward"] if node["leaf"] else jnp.nan for node, _ in nodes], float)
    found = node_values(rewards, parents, present)
    style = case["args"]["adv_method"]
    advantages, kept = edge_advantages(found, parents, present, edge_style=style)
    edges = [
        {
            "child": node["id"],
            "parent": nodes[parent][0]["id"],
            "advantage": float(advantages[index]),
            "value": float(found.values[index]),
            "leaf": bool(found.leaves[index]),
        }
        for index, (node, parent) in enumerate(nodes)
        if kept[index]
    ]
    return {"edges": edges}


def _whiten(case: dict) -> dict:
    values = floats(case, "values")
    threshold = case["args"]["prob_threshold"]
    logprobs, mask = floats(case, "logprobs"), bools(case, "mask")
    kept = probability_mask(mask, logprobs, probability_threshold=threshold)
    mean = masked(values, kept).mean()
    squares = masked((values - mean) ** 2, kept)
    return {
        "mean": mean,
        "var": squares._replace(count=squares.count - 1).mean(),
        "whitened_times_mask": whiten(values, kept),
    }


KINDS = {
    "tree": _tree,
    "chain": _chain,
    "vineppo": _vineppo,
    "masked_whiten_probmask": _whiten,
}


def spo(case: dict) -> dict:
    return lookup(KINDS, case["name"].split("/")[0], "kind")(case)
