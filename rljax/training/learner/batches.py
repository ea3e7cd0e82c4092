"""Which rows and which arrays of a step its updates get."""

from collections.abc import Mapping, Sequence

import numpy as np
from jax import Array

from rljax.config.stage import BatchSizes
from rljax.training.learner.loss import PolicyLoss
from rljax.training.update.rows import update_order

# What a critic learns from, where there is one.
OF_CRITIC = ("values", "returns", "value_mask", "component_values", "component_returns")
# What multipliers of rewards learn from, and mix.
OF_MULTIPLIERS = ("component_advantages", "rewards_to_go")


def trained_arrays(loss: PolicyLoss, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays of a step that its updates read, [N, T] or [N]."""
    wanted = {*loss.reads, *OF_CRITIC, *OF_MULTIPLIERS} - {"mask"}
    return {name: array for name, array in arrays.items() if name in wanted}


def step_order(batch: BatchSizes, *, seed: Sequence[int]) -> np.ndarray:
    """Which rows of a step are in which of its updates.

    All samples of a prompt are in the same update where its size is a multiple of theirs, in
    either layout of the rows.

    Args:
        batch: sizes of the stage.
        seed: of the order, that of the run and the step.

    Returns:
        [updates, rows of an update] i32; a row is a completion, or a prompt with all of them.
    """
    group = batch.rows_per_prompt
    per_row = group if batch.share_prompts else 1
    together = batch.sequences_per_update % group == 0 and not batch.share_prompts
    return update_order(
        batch.sequences_per_step // per_row,
        rows_per_update=batch.sequences_per_update // per_row,
        epochs=batch.epochs_per_step,
        seed=seed,
        unit=group if together else 1,
    )
