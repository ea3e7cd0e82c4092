"""Slug gain-rl: the window over ranked problems, and the angle of a batch."""

import jax.numpy as jnp

from golden_adapters.common import floats
from rljax.objectives.angles import mean_angle
from rljax.objectives.curricula.gain import next_centre, window


def gain_rl(case: dict) -> dict:
    args = case["args"]
    if case["name"].startswith("gauss"):
        return {"prob": jnp.exp(window(args["n"], args["center"], args["std"]))}
    if case["name"].startswith("online"):
        states = floats(case, "hidden")
        return {"angle": mean_angle(states, jnp.ones(len(states), bool))}
    centre, centres = jnp.zeros(()), []
    for epoch in case["inputs"]["epochs"]:
        centre = next_centre(
            centre,
            epoch["acc_mean"] / 2,  # theirs are rewards of 0 to 2
            epoch["angle_mean"],
            centre_step=args["n"],
            largest_step=args["adj_max"],
            centre_slope=args["alpha"],
            target_accuracy=args["beta"],
        )
        centres.append(centre)
    return {"center": jnp.stack(centres)}
