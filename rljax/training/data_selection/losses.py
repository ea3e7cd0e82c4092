"""Losses of examples under a checkpoint, and their weights (arXiv:2502.06733).

The paper weighs the examples of each batch anew, by the losses of that moment; here all examples of
a file are weighed once, under one model.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rljax.data.packing import Example
from rljax.objectives.data_selection import loss_weights
from rljax.training.data_selection.passes import in_batches, losses_of_rows
from rljax.training.data_selection.warmup import Checkpoint


def example_losses(
    checkpoint: Checkpoint, examples: Sequence[Example], *, mesh: Mesh, rows: int
) -> np.ndarray:
    """[N] f64, mean -log p over the learned tokens of each example.

    Args:
        checkpoint: whose model is asked.
        examples: N of them.
        mesh: of the parameters.
        rows: examples of a pass.
    """
    losses = jax.jit(losses_of_rows(checkpoint.network))
    program = functools.partial(losses, checkpoint.trained, checkpoint.frozen)
    pad_id = checkpoint.text_format.tokenizer.pad_id
    with jax.set_mesh(mesh):
        return in_batches(program, examples, rows, pad_id).astype(np.float64)


def weights_of(losses: np.ndarray, *, loss_map: str, loss_temperature: float) -> np.ndarray:
    """[N] f64 of mean 1; fields as of `loss_weights`."""
    found = loss_weights(
        jnp.asarray(losses), loss_map=loss_map, loss_temperature=loss_temperature
    ).weights
    return len(losses) * np.asarray(found, np.float64)
