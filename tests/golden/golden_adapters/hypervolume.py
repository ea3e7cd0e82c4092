"""Slug dynamic-reward-weighting: how much a point enlarges the hypervolume of a front."""

import jax.numpy as jnp

from golden_adapters.common import floats
from rljax.objectives.hypervolume import contribution, update_front


def hypervolume(case: dict) -> dict:
    points, point = floats(case, "buffer"), floats(case, "current")
    weights = jnp.where(jnp.asarray(case["args"]["maximize"]), 1.0, -1.0)
    # In a run the points are kept as they are compared: minimised rewards with the other sign.
    front = weights * points
    mask = jnp.ones((1, 1), bool)
    _, meta = update_front(
        point[None], weights, mask, front, component_count=len(point), front_points=len(front)
    )
    grown = contribution(front[1:], weights * point, front[0])
    return {"meta_reward": meta, "hv_contribution": grown}
