"""Slugs less and loss-reweight: which examples are learned, and how much they weigh."""

import jax.numpy as jnp

from golden_adapters.common import floats
from rljax.objectives.data_selection import adam_direction, influence_scores, loss_weights

LOSS_MAPS = {"mid": "quadratic"}


def less(case: dict) -> dict:
    checkpoints = [
        {name: jnp.asarray(values, float) for name, values in one.items()}
        for one in case["inputs"]["checkpoints"]
    ]
    train = [
        adam_direction(one["train_grad"], one["exp_avg"], one["exp_avg_sq"]) for one in checkpoints
    ]
    targets = [one["val_grad"] for one in checkpoints]
    tasks = case["args"]["n_subtasks"]
    of_each = len(targets[0]) // tasks
    scores = influence_scores(
        train,
        targets,
        case["inputs"]["avg_lr"],
        jnp.repeat(jnp.arange(tasks), of_each),
        count=tasks,
    )
    return {"adam_features": train, "score": scores, "ranking": jnp.argsort(-scores)}


def loss_reweight(case: dict) -> dict:
    losses, shares, args = floats(case, "per_sample_loss"), floats(case, "len_norm"), case["args"]
    found = loss_weights(
        losses,
        loss_map=LOSS_MAPS.get(args["strategy"], args["strategy"]),
        loss_temperature=args["r"],
        loss_delta=args["delta"],
    )
    # As a stage learns them: weights of mean 1 times the share of the tokens.
    factors = len(losses) * found.weights
    return {
        "h": found.scaled,
        "f": found.worth,
        "weights": found.weights,
        "loss": (factors * shares * losses).sum(),
    }
