"""The steps of one stage that are not done yet, and what follows each of them."""

import contextlib
import time
from typing import NamedTuple

import jax
from rich.console import Console

from rljax.reporting.progress import Progress, say
from rljax.reporting.summary import rollout_steps, write_rollout
from rljax.reporting.writers import MultiWriter
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.ahead.source import StageSource
from rljax.training.collect.prompts import State
from rljax.training.evaluation import Evaluator
from rljax.training.families import Family, StepBatches
from rljax.training.guard import make_guard
from rljax.training.run.lock import check_there
from rljax.training.run.phases import phase
from rljax.training.run.profile import Profiler
from rljax.training.run.stages import Opened
from rljax.training.saving import Saver
from rljax.training.self_check.first_step import FirstStep
from rljax.training.signals import StopSignal
from rljax.training.step import Before, Due, due_after, take_step
from rljax.training.step_log import Step, StepLog
from rljax.training.update.optimizers import Optimizer
from rljax.training.update.state import TrainState


class Ready(NamedTuple):
    """A stage with all that it goes on from."""

    stage: Opened
    family: Family
    source: StageSource  # of experience
    source_state: State


class StageRun:
    """Trains one stage to its end."""

    def __init__(
        self,
        ready: Ready,
        optimizer: Optimizer,
        evaluator: Evaluator | None,
        writer: MultiWriter,
        saver: Saver,
        stop: StopSignal,
        profiler: Profiler,
        console: Console,
    ) -> None:
        """Puts together what every step needs; nothing is compiled.

        Args:
            ready: the stage.
            optimizer: of the stage.
            evaluator: of its policies; None where they generate nothing.
            writer: of rows of metrics.
            saver: of checkpoints.
            stop: asked after every step.
            profiler: of the steps that were asked for.
            console: of progress.
        """
        self.ready, self.family, self.stage = ready, ready.family, ready.family.stage
        self.context, self.config = ready.stage.context, ready.stage.context.config
        self.workdir, self.processes = self.context.workdir, self.context.processes
        self.index, self.done = ready.stage.index, ready.stage.done
        self.optimizer, self.evaluator = optimizer, evaluator
        self.writer, self.saver, self.stop, self.console = writer, saver, stop, console
        self.profiler = profiler
        key = purpose_key(self.config.seed, Purpose.ROUNDING)
        self.update = self.family.make_update(optimizer, jax.random.fold_in(key, self.index))
        self.recorded = rollout_steps(self.stage.steps)
        self.check = make_guard(self.stage.name)
        self.first = FirstStep(
            self.family,
            begins=self.done == 0,
            at_start=self.done == 0 and "reference" not in self.stage.models,
            workdir=self.workdir,
            console=console,
        )

    def train(self) -> None:
        """Takes the steps that are not done yet.

        Raises:
            Stopped: a signal has asked for it; the step that was running is saved.
            NonFiniteError: training broke down.
        """
        state, steps, name = self.ready.stage.state, self.stage.steps, self.stage.name
        self.check(state, self.done)
        unchanged = f"{name} has done {self.done} steps, nothing is new"
        self.end_if_asked(unchanged)
        shown = Progress(steps, name, self.console, start_step=self.done)
        # A source that ends waits for its threads, and these for the other processes.
        told = self.processes.reporting()
        with contextlib.closing(self.ready.source) as source, shown as self.progress, told:
            self.log = StepLog(self.family, self.writer, self.progress, state)
            if self.done == 0:
                state = self.begin(state)
            self.end_if_asked(unchanged)
            source.start(self.ready.source_state, self.done)
            for step in self.profiler.steps(name, range(self.done + 1, steps + 1)):
                state = self.step(state, step)
            source.finish()
        self.saver.finish(self.index)

    def begin(self, state: TrainState) -> TrainState:
        """The state that the first step of the stage starts from."""
        if len(self.context.stages) == 1:  # of others the stage before has told it
            self.log_heldout(state, 0)
        return self.family.first_state(state, self.optimizer.schedule(0))

    def step(self, state: TrainState, step: int) -> TrainState:
        """Takes one step, and does what is due after it."""
        began, recorded = time.perf_counter(), step in self.recorded
        before = Before(state, step, recorded, self.first if step == self.done + 1 else None)
        state, batches, metrics = take_step(self.family, self.ready.source, self.update, before)
        check_there(self.workdir)
        due = due_after(step, self.stage.steps, self.config)
        if due.flush or self.profiler.on:  # the device works behind: its time is this step's
            with phase("update"):
                jax.block_until_ready(metrics)
        self.log.add(Step(step, batches, metrics, time.perf_counter() - began))
        if recorded:
            self.record(step, batches)
        if due.flush:
            self.log.flush()
            self.log_time(step)
        self.judge_and_save(state, step, due)
        return state

    def judge_and_save(self, state: TrainState, step: int, due: Due) -> None:
        """Evaluates and saves the state where that is due, or where the run ends here."""
        if due.evaluate or due.save:  # not in every step: it reads the whole state
            self.check(state, step)
        judged = self.log_heldout(state, step) if due.evaluate else None
        stopping = self.stop.asked()
        if stopping and not due.flush:
            self.log.flush()
        if stopping and not (due.evaluate or due.save):
            self.check(state, step)
        if due.save or stopping:
            # Only steps that every run saves can be the best one.
            best = judged if due.save else None
            note = self.saver.note(self.stage, step, state, self.writer)
            self.saver.save(self.index, step, state, note, best, self.ready.source.saved())
        if stopping:
            self.saver.finish(self.index)
            self.end_if_asked(f"{self.stage.name} step {step} is saved")

    def end_if_asked(self, done: str) -> None:
        """Raises Stopped if a signal has asked for it, and says what is done."""
        if self.stop.asked():
            say(self.console, f"{self.stop.name}: {done}; the same command continues the run")
            self.stop.check()

    @phase("log")
    def record(self, step: int, batches: StepBatches) -> None:
        """Writes the samples of a step; all processes compute them, one writes them."""
        record = self.family.record(step, batches)
        if record and self.processes.is_first:
            write_rollout(self.workdir, record)

    def log_time(self, step: int) -> None:
        """Writes where the time of the run has gone so far."""
        spent = self.saver.time
        seconds = {f"seconds/{name}": value for name, value in spent.seconds().items() if value}
        row = {"stage": self.stage.name, "step": step, "kind": "timing"}
        self.writer.write({**row, "goodput": spent.figures()["share"], **seconds})
        spent.write()

    @phase("evaluation")
    def log_heldout(self, state: TrainState, step: int) -> float:
        """Evaluates a state as its family does; returns the best metric."""
        began, name = time.perf_counter(), self.stage.name
        self.processes.beat(f"{name} step {step}: evaluation", compiles=True)
        metrics = self.family.evaluate(state, self.evaluator)
        row = {"stage": name, "step": step}
        self.writer.write({**row, "kind": "heldout", **metrics})
        self.writer.write({**row, "kind": "timing", "evaluation": time.perf_counter() - began})
        shown = ", ".join(f"{key} {value:.3f}" for key, value in metrics.items())
        self.progress.message(f"held-out after {name} step {step}: {shown}")
        return metrics[self.family.best_metric]
