"""What belongs to completions in a batch of either layout."""

from collections.abc import Mapping

from jax import Array

from rljax.objectives.arrays import ARRAYS
from rljax.training.update.rows import per_row, per_sample

# Arrays of a batch with several numbers for each token: of its draws, of rewards.
SEVERAL = frozenset(
    name for name, described in ARRAYS.items() if described.axes[:2] == "NT" != described.axes
)


def per_token(array: Array, shape: tuple[int, ...]) -> Array:
    """Numbers of tokens, perhaps several of each, as [N, T] or [N, T, M].

    Args:
        array: whose first axes are those of the mask.
        shape: of the mask, [N, T] or [B, G, T].
    """
    return array.reshape(-1, *array.shape[len(shape) - 1 :])


def flat(batch: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of a batch with one number for each token or completion, as [N, T] or [N].

    Where there are several for each token they are [N, T, M]. The rows that the model runs on are
    left out.
    """
    shape = batch["mask"].shape
    arrays = {}
    for name, array in batch.items():
        if array.shape == shape:
            arrays[name] = per_sample(array)
        elif name in SEVERAL:
            arrays[name] = per_token(array, shape)
        elif array.shape == shape[:-1]:
            arrays[name] = per_row(array)
    return arrays
