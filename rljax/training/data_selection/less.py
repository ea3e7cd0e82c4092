"""Examples whose updates go where a target's gradients point (LESS, arXiv:2402.04333).

Of each checkpoint of a warm-up on a part of the pool: the direction that Adam would take for one
example of the pool, and the gradient of one example of the target, both by random signs in d
numbers. What is compared are cosines, so that the length of an answer has no say.
"""

import functools
from collections.abc import Sequence

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh

from rljax.data.packing import Example
from rljax.models.network import Params
from rljax.objectives.data_selection import adam_direction, influence_scores
from rljax.training.data_selection.passes import gradients_of_rows, in_batches
from rljax.training.data_selection.projection import projected
from rljax.training.data_selection.warmup import Checkpoint
from rljax.training.update.rows import Rows


def less_scores(
    checkpoints: Sequence[Checkpoint],
    pool: Sequence[Example],
    target: Sequence[Example],
    tasks: np.ndarray,
    *,
    mesh: Mesh,
    projection: int,
    seed: int,
    rows: int,
) -> np.ndarray:
    """[N] f64, the influence of each example of the pool on the task that it helps most.

    Args:
        checkpoints: of the warm-up, with moments.
        pool: N examples.
        target: M examples.
        tasks: [M] i32, the task of each.
        mesh: of the parameters.
        projection: d.
        seed: of the signs, the same for all that is compared.
        rows: examples of a pass.
    """
    key, train, targets = jax.random.key(seed), [], []
    for checkpoint in checkpoints:
        train.append(_features(checkpoint, pool, True, key, mesh, projection, rows))
        targets.append(_features(checkpoint, target, False, key, mesh, projection, rows))
    rates = [checkpoint.rate for checkpoint in checkpoints]
    count = int(tasks.max()) + 1
    return np.asarray(influence_scores(train, targets, rates, tasks, count=count), np.float64)


def _features(
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    directions: bool,
    key: Array,
    mesh: Mesh,
    projection: int,
    rows: int,
) -> np.ndarray:
    gradients = gradients_of_rows(checkpoint.network)

    @jax.jit  # parameters are arguments: closed over they would be constants of the program
    def of_params(trained: Params, frozen: Params, moments: tuple, batch: Rows) -> Array:
        found = gradients(trained, frozen, batch)
        if directions:
            found = adam_direction(found, *moments)
        return projected(found, key, projection)

    program = functools.partial(
        of_params, checkpoint.trained, checkpoint.frozen, checkpoint.moments
    )

    pad_id = checkpoint.text_format.tokenizer.pad_id
    with jax.set_mesh(mesh):
        return in_batches(program, examples, rows, pad_id)
