"""One step of a stage, from experience to updates; and what is due after it."""

from collections.abc import Callable
from typing import NamedTuple

from ml_collections import ConfigDict

from rljax.parallel.rules import put_rows
from rljax.training.ahead.offload import to_device, to_host_memory
from rljax.training.ahead.source import StageSource
from rljax.training.families import Family, StepBatches
from rljax.training.run.phases import phase
from rljax.training.self_check.first_step import FirstStep
from rljax.training.self_check.hosts import check_same_step
from rljax.training.update.state import TrainState
from rljax.training.update.train_step import Metrics


class Before(NamedTuple):
    """Where a step starts."""

    state: TrainState
    step: int
    recorded: bool  # its samples are kept for the report
    first: FirstStep | None  # what is checked in it


class After(NamedTuple):
    """Where a step ends; its metrics may still be on the device."""

    state: TrainState
    batches: StepBatches
    metrics: list[Metrics]  # one per update


def take_step(family: Family, source: StageSource, update: Callable, before: Before) -> After:
    """Collects experience, makes batches of it, and updates with each of them."""
    state, step, recorded, first = before
    context, metrics = family.context, []
    where, compiles = f"{family.stage.name} step {step}", first is not None
    context.processes.beat(f"{where}: experience", compiles=compiles)
    offload = context.config.asynchronous.offload_optimizer
    state = to_host_memory(state) if offload else state
    with phase("experience"):
        experience = source.collect(family.policy(state, step), step)
    state = to_device(state) if offload else state
    with phase("update"):
        state, batches = family.batches(state, experience, step)
    context.processes.beat(f"{where}: update", compiles=compiles)
    if first is not None:
        with phase("self_check"):
            first.before(state, experience.samples, batches)
    for batch in batches.batches:
        if recorded:
            family.before_update(state, batch, batches)
        with phase("update"):
            placed = put_rows(batch, context.mesh)
            if first is not None and not metrics:
                arguments = (state, context.frozen, placed)
                check_same_step(context.processes, update, arguments, batch)
            state, updated = update(state, context.frozen, placed)
        if first is not None and not metrics:
            with phase("self_check"):
                first.after(state, batches, updated)
        metrics.append(updated)
    return After(state, batches, metrics)


class Due(NamedTuple):
    """What is done after a step."""

    save: bool
    evaluate: bool
    flush: bool  # metrics are read from the device


def due_after(step: int, steps: int, config: ConfigDict) -> Due:
    """What is due after a step; the last one of a stage is evaluated and saved."""
    last, every = step == steps, config.evaluation.every_steps
    save = last or step % config.checkpoint.every_steps == 0
    evaluate = last or bool(every and step % every == 0)
    flush = save or evaluate or step % config.reporting.every_steps == 0
    return Due(save, evaluate, flush)
