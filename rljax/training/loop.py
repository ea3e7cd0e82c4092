"""The train loop, for every method.

A run is a list of stages. A stage turns experience into batches and batches into better
parameters; whether experience is read from disk or sampled is its family's business
(training/families/). Each stage starts from the parameters that the one before it ended with.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from rljax.config.stage import Stage
from rljax.config.validate import validate
from rljax.models.lora import adapters_are_zero, drop_adapters
from rljax.models.network import Params
from rljax.parallel.rules import put_rows
from rljax.reporting.files import write_json_atomic
from rljax.reporting.progress import Progress
from rljax.reporting.report import write_report
from rljax.reporting.summary import print_summary, rollout_steps, write_rollout
from rljax.reporting.writers import MultiWriter, check_names, open_writers
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.evaluation import Evaluator
from rljax.training.families import StepBatches
from rljax.training.families.first_step import take_first_step
from rljax.training.families.table import family_class
from rljax.training.run.checkpoints import Checkpoints, restore_params
from rljax.training.run.context import Context, build_context
from rljax.training.run.start import Source, base_note, load_start
from rljax.training.run.summary import summarise
from rljax.training.run.workdir import claim_workdir
from rljax.training.update.metrics import finished
from rljax.training.update.optimizers import build_optimizer
from rljax.training.update.state import (
    Extra,
    TrainState,
    abstract_state,
    create_state,
    state_shardings,
)
from rljax.training.update.train_step import Metrics


class NonFiniteError(RuntimeError):
    """Too many updates in a row had a non-finite loss or gradient."""


def run(config: ConfigDict, workdir: Path, console: Console | None = None) -> dict[str, Any]:
    """Trains, or continues, all stages of a config.

    Args:
        config: complete (config/load.py); validated here, before anything compiles.
        workdir: new, or that of an interrupted run of the same config, which then continues
            exactly: parameters and logged metrics are those of a run that was never interrupted.
        console: where progress goes; standard output by default.

    Returns:
        The summary, as written to WORKDIR/summary.json.

    Raises:
        ValueError: bad config, or a workdir of another config.
        ScoringError: the verifier fails on too many samples.
        NonFiniteError: training broke down; the last good checkpoint is intact.
    """
    started = time.perf_counter()
    stages = validate(config)
    check_names(config.reporting.writers)
    optimizers = [build_optimizer(stage) for stage in stages]
    context = build_context(config, stages, workdir)
    stages, resolved = context.stages, context.resolved()
    console = console or Console()
    with context.scorer, jax.set_mesh(context.mesh):
        for stage in stages:
            family_class(stage).check(context, stage)
        claim_workdir(workdir, resolved)
        runner = Runner(context, stages, optimizers, console, started)
        runner.train(resolved)
    summary = summarise(workdir, stages, config.seed, runner.elapsed())
    summary["best_checkpoint"] = str(runner.best_checkpoint)
    write_json_atomic(workdir / "summary.json", summary)
    write_report([workdir], workdir / "report.html")
    print_summary(summary, console)
    console.print(f"report: {workdir / 'report.html'}", soft_wrap=True)
    return summary


class Step(NamedTuple):
    """A finished step whose metrics may still be on the device."""

    step: int
    batches: StepBatches
    metrics: Sequence[Metrics]  # one per update
    seconds: float


class Runner:
    """Goes through the stages of one run."""

    def __init__(
        self,
        context: Context,
        stages: Sequence[Stage],
        optimizers: Sequence,
        console: Console,
        started: float,
    ) -> None:
        self.context, self.stages, self.optimizers = context, stages, optimizers
        self.console, self.started = console, started
        self.earlier_seconds = 0.0  # of the processes before this one, from the checkpoint
        self.best_checkpoint: Path | None = None  # of the last stage, once it is complete
        self.source = Source.of(context.config)
        self.first: Params | None = None  # with adapters: what the first stage starts from
        self.note: dict[str, Any] = {}  # of every checkpoint
        self.evaluate = Evaluator(context)
        self.checkpoints = [
            Checkpoints(
                context.workdir / "checkpoints" / stage.name, keep=context.config.checkpoint.keep
            )
            for stage in stages
        ]

    def elapsed(self) -> float:
        """Wall seconds of the run, over all its processes, up to the last checkpoint of each."""
        return self.earlier_seconds + time.perf_counter() - self.started

    def train(self, resolved: dict[str, Any]) -> None:
        """Runs every stage that is not complete yet."""
        config = self.context.config
        try:
            current, keep_rows = self.position()
            # Read before anything is written: a damaged checkpoint leaves the workdir as it was.
            first = None
            if current < len(self.stages):
                self.make_base()
                first = self.first_state(current)
            with open_writers(
                self.context.workdir,
                config.reporting.writers,
                resume_from=keep_rows,
                config=resolved,
                project=config.reporting.wandb_project,
            ) as writer:
                for index in range(current, len(self.stages)):
                    state, done = first or self.first_state(index)
                    first = None
                    self.train_stage(index, state, done, writer)
            self.best_checkpoint = self.checkpoints[-1].folder / str(self.checkpoints[-1].best())
        finally:  # also after an error: what is being saved becomes complete
            for folder in self.checkpoints:
                folder.close()

    def position(self) -> tuple[int, dict[str, int]]:
        """Where to continue, from the checkpoints alone.

        Returns:
            The first incomplete stage (the number of stages if there is none), and for each stage
            with a checkpoint its last step: later rows of metrics.jsonl will be written again.

        Raises:
            ValueError: if a stage is incomplete and a later one has begun.
        """
        done = [folder.latest() or 0 for folder in self.checkpoints]
        complete = [steps == stage.steps for steps, stage in zip(done, self.stages, strict=True)]
        current = complete.index(False) if False in complete else len(self.stages)
        begun = [stage.name for stage, steps in zip(self.stages, done, strict=True) if steps]
        later = [stage.name for stage in self.stages[current + 1 :] if stage.name in begun]
        if later:
            stage = self.stages[current]
            raise ValueError(
                f"Stage {later[0]!r} has checkpoints, but stage {stage.name!r} before it has done "
                f"only {done[current]} of {stage.steps} steps: put its last checkpoint back, or "
                f"delete {self.checkpoints[self.stages.index(stage) + 1].folder} and those of the "
                "stages after it to train them again (--workdir)."
            )
        if begun:
            last = [stage.name for stage in self.stages].index(begun[-1])
            self.earlier_seconds = self.checkpoints[last].note(done[last])["elapsed_seconds"]
        return current, {
            stage.name: steps for stage, steps in zip(self.stages, done, strict=True) if steps
        }

    def train_stage(self, index: int, state: TrainState, done: int, writer: MultiWriter) -> None:
        """Runs the steps of one stage that come after step `done`."""
        stage, optimizer, config = self.stages[index], self.optimizers[index], self.context.config
        checkpoints = self.checkpoints[index]
        reference = self.reference(index) if stage.needs_reference else None
        first_step = sum(earlier.steps for earlier in self.stages[:index])
        family = family_class(stage)(self.context, stage, reference, first_step)
        rounding_key = jax.random.fold_in(purpose_key(config.seed, Purpose.ROUNDING), index)
        update = family.make_update(optimizer, rounding_key)
        source_state = family.source.first_state()
        if done:
            source_state = checkpoints.source_state(done, source_state)
        recorded = rollout_steps(stage.steps)
        accuracy = None
        with Progress(stage.steps, stage.name, self.console, start_step=done) as progress:
            log = StepLog(stage, writer, progress, optimizer.schedule, config, state)
            if done == 0 and len(self.stages) == 1:
                self.log_heldout(state.params, stage, 0, writer, progress)
            if done == 0 and self.needs_first_step(state):
                state = take_first_step(self.context, stage, family, state, optimizer.schedule(0))
            for step in range(done + 1, stage.steps + 1):
                began = time.perf_counter()
                policy = family.policy(state, step)
                experience, source_state = family.source.collect(policy, source_state, step)
                state, batches = family.batches(state, experience, step)
                metrics = []
                for batch in batches.batches:
                    if step in recorded:
                        family.before_update(state, batch, batches)
                    placed = put_rows(batch, self.context.mesh)
                    state, update_metrics = update(state, self.context.frozen, placed)
                    metrics.append(update_metrics)
                last = step == stage.steps
                saving = last or step % config.checkpoint.every_steps == 0
                every = config.evaluation.every_steps
                evaluating = last or bool(every and step % every == 0)
                flushing = saving or evaluating or step % config.reporting.every_steps == 0
                if flushing:  # the device works behind: its time belongs to this step
                    jax.block_until_ready(metrics)
                log.add(Step(step, batches, metrics, time.perf_counter() - began))
                if step in recorded and (record := family.record(step, batches)):
                    write_rollout(self.context.workdir, record)
                if flushing:
                    log.flush()
                if evaluating:
                    accuracy = self.log_heldout(state.params, stage, step, writer, progress)
                if saving:
                    note = {"stage": stage.name, "step": step, "elapsed_seconds": self.elapsed()}
                    note |= self.note
                    accuracy = accuracy if evaluating else None
                    checkpoints.save(step, state, note, accuracy, source_state)
        checkpoints.wait()

    def make_base(self) -> None:
        """With adapters: makes what is frozen, once in a process, and where they start."""
        network = self.context.network
        if network.config.lora is None:
            return
        self.first, frozen = load_start(self.source, network, self.context.mesh)
        self.context = dataclasses.replace(self.context, frozen=frozen)
        self.note = base_note(self.source, network)

    def needs_first_step(self, state: TrainState) -> bool:
        """Whether the adapters are those of LoRA-SB and have not been made yet."""
        lora = self.context.network.config.lora
        return lora is not None and lora.kind == "lora_sb" and adapters_are_zero(state.params)

    def reference(self, index: int) -> Params:
        """All parameters that a stage starts from.

        With adapters only theirs are a copy. Where they are zero they are left out: the reference
        then is the frozen model itself, for LoRA-SB before its first step.
        """
        params = self.starting_params(index)
        if self.first is not None and adapters_are_zero(params):
            params = drop_adapters(params)
        return self.context.full(params)

    def shardings(self, index: int) -> TrainState:
        """The sharding of each leaf of a stage's state."""
        return state_shardings(
            self.context.network, self.optimizers[index], self.context.mesh, self.extra(index)
        )

    def extra(self, index: int) -> Extra:
        """What the family of a stage keeps in its state besides the policy."""
        stage = self.stages[index]
        return family_class(stage).extra(self.context, stage)

    def restore(self, index: int, step: int) -> TrainState:
        """A stage's state after a step, from its checkpoint."""
        abstract = abstract_state(
            self.context.network,
            self.optimizers[index],
            self.shardings(index),
            self.extra(index),
        )
        return self.checkpoints[index].restore(step, abstract)[0]

    def first_state(self, index: int) -> tuple[TrainState, int]:
        """The state to continue from, and the steps already done in this stage.

        That is the stage's last checkpoint, or else fresh from the end of the stage before.
        """
        done = self.checkpoints[index].latest()
        if done is None:
            params = self.starting_params(index)
            shardings, extra = self.shardings(index), self.extra(index)
            return create_state(params, self.optimizers[index], shardings, extra), 0
        state = self.restore(index, done)
        self.console.print(
            f"continuing {self.stages[index].name} after step {done}", soft_wrap=True
        )
        return state, done

    def starting_params(self, index: int) -> Params:
        """A fresh copy of the parameters, of those in a state, that a stage starts from."""
        network, mesh = self.context.network, self.context.mesh
        if index > 0:
            step = self.checkpoints[index - 1].folder / str(self.stages[index - 1].steps)
            return restore_params(step, network, mesh)
        if self.first is not None:
            return jax.tree.map(jnp.copy, self.first)
        return load_start(self.source, network, mesh)[0]

    def log_heldout(
        self, params: Params, stage: Stage, step: int, writer: MultiWriter, progress: Progress
    ) -> float:
        """Evaluates the parameters of a state on the held-out problems; returns greedy accuracy."""
        began = time.perf_counter()
        metrics = self.evaluate(self.context.full(params))
        row = {"stage": stage.name, "step": step}
        writer.write({**row, "kind": "heldout", **metrics})
        writer.write({**row, "kind": "timing", "evaluation": time.perf_counter() - began})
        shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        progress.message(f"held-out after {stage.name} step {step}: {shown}")
        return metrics["accuracy_greedy"]


# Metrics that count updates which were not made, the policy's first.
SKIPPED = ("updates_skipped", "critic/updates_skipped")


class StepLog:
    """Collects steps and writes them together, so that the device need not wait for each."""

    def __init__(
        self,
        stage: Stage,
        writer: MultiWriter,
        progress: Progress,
        schedule: Any,
        config: ConfigDict,
        state: TrainState,
    ) -> None:
        self.stage, self.writer, self.progress, self.schedule = stage, writer, progress, schedule
        self.max_skipped = config.safety.max_skipped_in_a_row
        self.applied = int(state.updates - state.skipped)
        self.in_a_row = int(state.skipped_in_a_row)
        self.waits = stage.critic.get("warmup_updates", 0)  # updates of the critic alone
        self.waiting: list[Step] = []

    def add(self, step: Step) -> None:
        """Keeps a step for the next flush."""
        self.waiting.append(step)

    def flush(self) -> None:
        """Writes the waiting steps and shows the last one.

        Steps that the device did together share the time that they took.

        Raises:
            NonFiniteError: if too many updates in a row were skipped.
        """
        steps, self.waiting = self.waiting, []
        seconds = sum(step.seconds for step in steps) / len(steps)
        fetched = jax.device_get([step.metrics for step in steps])
        for step, updates in zip(steps, fetched, strict=True):
            shown = self._write(step, updates, seconds)
            for update in updates:
                self._count([bool(update[name].total) for name in SKIPPED if name in update])
        self.progress.update(steps[-1].step, shown)

    def _count(self, skipped: Sequence[bool]) -> None:
        """Of one update: whether the policy's was skipped, and its critic's."""
        self.applied += not skipped[0]
        self.in_a_row = self.in_a_row + 1 if any(skipped) else 0
        if self.in_a_row >= self.max_skipped:
            raise NonFiniteError(
                f"{self.in_a_row} updates in a row had a non-finite loss or gradient (stage "
                f"{self.stage.name!r}); {self.max_skipped} are allowed "
                "(config.safety.max_skipped_in_a_row). The last checkpoint is intact: lower the "
                "learning rate and continue in a new workdir, or look at the data."
            )

    def _write(self, step: Step, updates: Sequence[Metrics], seconds: float) -> dict[str, float]:
        """Writes one step that took `seconds`; returns what the progress shows of it."""
        batches = step.batches
        row = {"stage": self.stage.name, "step": step.step}
        metrics = {
            **batches.metrics,
            **mean_metrics(updates),
            "learning_rate": float(self.schedule(max(0, self.applied - self.waits))),
        }
        phases = dict(batches.seconds)
        phases["update"] = max(0.0, seconds - sum(phases.values()))
        speed = batches.tokens / seconds
        self.writer.write({**row, "kind": "train", **metrics})
        self.writer.write({**row, "kind": "timing", **phases, "tokens_per_second": speed})
        return {**metrics, "tokens_per_second": speed}


def mean_metrics(updates: Sequence[Metrics]) -> dict[str, float]:
    """Adds sums over the updates of a step, in float64, and makes numbers of them once."""
    add = lambda *parts: np.sum(parts, axis=0, dtype=np.float64)  # noqa: E731
    total = jax.tree.map(add, *updates)
    return {name: float(number) for name, number in finished(total).items()}
