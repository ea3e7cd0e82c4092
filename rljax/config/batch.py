"""Batch arithmetic: what the fields of a stage's `batch` multiply to, and which of them fit."""

from collections.abc import Mapping
from typing import Any

from rljax.config.fields import INT32
from rljax.config.stage import BatchSizes, Stage
from rljax.registry import Objective


def batch_sizes(values: Mapping[str, Any], objective: Objective, where: str) -> BatchSizes:
    """The sizes of a stage's batches.

    Args:
        values: what the stage reads of its section `batch`, with defaults; 0: all of the level
            above.
        objective: of the stage.
        where: path of the section in the config, for errors.

    Raises:
        ValueError: for sizes that do not divide, and for sequences that would be torn apart.
    """
    prompts = values.get("prompts_per_step", 0)
    samples = values.get("samples_per_prompt", 0)
    shown = samples if objective.guided else objective.rows_beside
    group = samples + shown
    per_step = prompts * group
    update = values.get("sequences_per_update", 0) or per_step
    micro = values.get("sequences_per_micro_batch", 0) or update
    if prompts and per_step % update:
        raise ValueError(
            f"sequences_per_update={update} does not divide the step's {prompts} prompts x "
            f"{samples} samples{f' and {shown} more' if shown else ''} = {per_step} sequences "
            f"({where}.sequences_per_update)."
        )
    if update % micro:
        raise ValueError(
            f"sequences_per_micro_batch={micro} does not divide sequences_per_update={update} "
            f"({where}.sequences_per_micro_batch)."
        )
    together = objective.together
    unit = together.size(group, shared=False)
    if micro % unit:
        raise ValueError(
            f"sequences_per_micro_batch={micro} must be a multiple of {unit}: {together.reason} "
            f"({where}.sequences_per_micro_batch)."
        )
    wanted = values.get("share_prompts", False)
    shared = _share_prompts(wanted, together.size(group, shared=True), update, micro, where)
    epochs = values.get("epochs_per_step", 1)
    return BatchSizes(prompts, samples, epochs, update, micro, shared, shown)


def check_counters(stage: Stage, where: str) -> None:
    """Raises ValueError for a stage with more updates, or a step with more tokens, than 32 bits.

    Args:
        stage: resolved.
        where: its path in the config.
    """
    updates = stage.steps * stage.batch.updates_per_step
    if updates > INT32:
        raise ValueError(
            f"{stage.steps} steps of {stage.batch.updates_per_step} updates are {updates} updates; "
            f"the optimizer counts to {INT32} ({where}.steps)."
        )
    tokens = stage.batch.sequences_per_step * max(stage.max_new_tokens, 1)
    if tokens > INT32:
        raise ValueError(
            f"{stage.batch.sequences_per_step} sequences of up to {stage.max_new_tokens} tokens "
            f"are {tokens} tokens in a step; it counts to {INT32} ({where}.batch.prompts_per_step, "
            f"{where}.sampling.max_new_tokens)."
        )


def _share_prompts(wanted: bool | None, group: int, update: int, micro: int, where: str) -> bool:
    """Whether rows are whole groups; if `wanted` is None, where the batch sizes allow it.

    What the mesh and the kernels allow is decided later (training/run/layout.py).
    """
    fits = update % group == 0 and micro % group == 0
    if wanted and not fits:
        raise ValueError(
            f"share_prompts=True needs whole groups of {group} sequences, but "
            f"sequences_per_update={update} and sequences_per_micro_batch={micro} are not both "
            f"multiples of {group} ({where}.share_prompts, {where}.sequences_per_update, "
            f"{where}.sequences_per_micro_batch)."
        )
    return fits and group > 1 if wanted is None else wanted
