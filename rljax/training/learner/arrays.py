"""What belongs to completions in a batch of either layout."""

from collections.abc import Mapping

from jax import Array

from rljax.training.update.rows import per_row, per_sample


def flat(batch: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of a batch with one number for each token or completion, as [N, T] or [N].

    The rows that the model runs on are left out.
    """
    shape = batch["mask"].shape
    arrays = {}
    for name, array in batch.items():
        if array.shape == shape:
            arrays[name] = per_sample(array)
        elif array.shape == shape[:-1]:
            arrays[name] = per_row(array)
    return arrays
