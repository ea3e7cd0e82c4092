"""The train loop, for every method.

A run is a list of stages. A stage turns experience into batches and batches into better
parameters; whether experience is read from disk or sampled is its family's business
(training/families/). What a stage starts from, and the models that it reads, are looked up in
run/stages.py.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict
from rich.console import Console

from rljax.config.stage import Stage
from rljax.config.validate import validate
from rljax.parallel.rules import put_rows
from rljax.processes.processes import ONE, Processes
from rljax.reporting.files import METRICS_FILE, SUMMARY_FILE, read_json, write_json_atomic
from rljax.reporting.progress import Progress
from rljax.reporting.report import write_report
from rljax.reporting.summary import (
    print_summary,
    remove_rollouts,
    rollout_steps,
    write_rollout,
)
from rljax.reporting.writers import MultiWriter, NoFiles, check_names, open_writers
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.ahead.events import Replay
from rljax.training.ahead.offload import check_host_memory, to_device, to_host_memory
from rljax.training.ahead.source import StageSource, stage_source
from rljax.training.evaluation import Evaluator, make_evaluators
from rljax.training.families import Family, StepBatches
from rljax.training.families.table import family_class
from rljax.training.guard import make_guard
from rljax.training.notices import watched
from rljax.training.run.contents import Contents, read_contents
from rljax.training.run.context import Context, build_context
from rljax.training.run.digests import PARAMETERS, file_digest, parameters_digest
from rljax.training.run.goodput import WallTime
from rljax.training.run.lock import check_there
from rljax.training.run.phases import Ledger, booked, phase
from rljax.training.run.profile import Profiler, read_profile
from rljax.training.run.several import check_same_contents
from rljax.training.run.stages import Opened, Stages
from rljax.training.run.storage import check_folder
from rljax.training.run.store import Copy, held
from rljax.training.run.summary import summarise
from rljax.training.run.workdir import check_replay, claim_workdir, make_folder, run_identity
from rljax.training.self_check.first_step import FirstStep
from rljax.training.self_check.hosts import check_same_step
from rljax.training.signals import StopSignal
from rljax.training.step_log import Step, StepLog
from rljax.training.update.optimizers import Optimizer, build_optimizer
from rljax.training.update.state import TrainState
from rljax.training.update.train_step import Metrics


def run(
    config: ConfigDict,
    workdir: Path,
    console: Console | None = None,
    processes: Processes = ONE,
    began: float | None = None,
    replay: Path | None = None,
    profile: str = "",
) -> dict[str, Any]:
    """Trains, or continues, all stages of a config.

    Args:
        config: complete (config/load.py); validated here, before anything compiles.
        workdir: new, or that of an interrupted run of the same config, which then continues
            exactly: parameters and logged metrics are those of a run that was never interrupted.
        console: where progress goes; standard output by default. Process 0 alone uses it.
        processes: all that run this together; each of them calls it with the same config.
        began: when the time of the run starts, by `time.perf_counter`; now, by default.
        replay: workdir of a run of the same config, whose order of events is repeated.
        profile: steps that are recorded (run/profile.py); "" for none.

    Returns:
        The summary, as written to WORKDIR/summary.json.

    Raises:
        ValueError: bad config, or a workdir of another config.
        ScoringError: the verifier fails on too many samples.
        NonFiniteError: training broke down; the last good checkpoint is intact.
        Stopped: SIGTERM or Ctrl-C; the step that was running is saved.
    """
    ledger, console = Ledger(began=began), console or Console()
    if not processes.is_first:
        console = Console(quiet=True)
    with booked(ledger), StopSignal(processes).installed() as stop:
        stages = validate(config)
        profiler = Profiler(read_profile(profile, stages) if profile else None, workdir, processes)
        check_folder(config.checkpoint.folder)
        stop.grace_seconds = config.checkpoint.grace_seconds
        check_names(config.reporting.writers)
        optimizers = [build_optimizer(stage) for stage in stages]
        context = build_context(config, stages, workdir, processes)
        stages, resolved = context.stages, context.resolved()
        replayed = None if replay is None else Replay(replay)
        with context.scorer, watched(config.checkpoint.notice, stop), jax.set_mesh(context.mesh):
            stop.check()
            for stage in stages:
                family_class(stage).check(context.of(stage.name), stage)
            if config.asynchronous.offload_optimizer:
                check_host_memory(context.mesh)
            evaluators = make_evaluators(context)
            contents = read_contents(context)
            check_same_contents(processes, contents)
            if replayed is not None:
                check_replay(replayed.workdir, resolved, contents)
            with claimed(workdir, resolved, contents, processes) as lines:
                for line in lines:
                    say(console, line)
                runner = Runner(
                    context, optimizers, evaluators, console, ledger, stop, profiler, replayed
                )
                runner.train(resolved, run_identity(resolved, contents))
                return finish(runner, config.seed)


@contextlib.contextmanager
def claimed(
    workdir: Path, resolved: dict[str, Any], contents: Contents, processes: Processes
) -> Iterator[list[str]]:
    """Holds a workdir for this run: process 0 locks and marks it, the others wait for that.

    Yields:
        Lines to say.
    """
    with contextlib.ExitStack() as stack:
        lines: list[str] = []
        if processes.is_first:
            make_folder(workdir)
            lines += stack.enter_context(held(workdir, resolved["checkpoint"]["folder"]))
            lines += claim_workdir(workdir, resolved, contents)
        processes.barrier("workdir claimed")
        yield lines


@phase("log")
def finish(runner: "Runner", seed: int) -> dict[str, Any]:
    """Writes and prints the figures and the report of a run whose stages are complete."""
    workdir, console, processes = runner.workdir, runner.console, runner.processes
    path, value = runner.graph.best()
    if processes.is_first:
        runner.time.write(now=True)
        summary = summarise(workdir, runner.stages, seed, runner.time.figures())
        summary |= {"best_checkpoint": str(path), "best_checkpoint_value": value}
        summary["parameters_sha256"] = runner.graph.last_note().get(PARAMETERS)
        write_json_atomic(workdir / SUMMARY_FILE, summary)
        write_report([workdir], workdir / "report.html")
        runner.copy.renew()
    processes.barrier("summary written")
    summary = read_json(workdir / SUMMARY_FILE)
    print_summary(summary, console)
    say(console, f"report: {workdir / 'report.html'}")
    if runner.replay is not None:
        say(console, runner.replay.compared(summary["parameters_sha256"]))
    return summary


def say(console: Console, line: str) -> None:
    """Prints a line as it is: folders may have brackets in their names."""
    console.print(line, soft_wrap=True, markup=False, highlight=False)


class Ready(NamedTuple):
    """A stage with all that it goes on from."""

    stage: Opened
    family: Family
    source: StageSource  # of experience
    source_state: dict[str, Any]


class Runner:
    """Goes through the stages of one run."""

    def __init__(
        self,
        context: Context,
        optimizers: Sequence[Optimizer],
        evaluators: Mapping[str, Evaluator],
        console: Console,
        ledger: Ledger,
        stop: StopSignal,
        profiler: Profiler,
        replay: Replay | None = None,
    ) -> None:
        self.stop, self.profiler, self.replay = stop, profiler, replay
        self.config, self.workdir, self.stages = context.config, context.workdir, context.stages
        self.processes = context.processes
        self.optimizers, self.evaluators = optimizers, evaluators
        self.console, self.ledger = console, ledger
        self.time = WallTime(ledger, context.workdir, writes=self.processes.is_first)
        self.copy = Copy(context.workdir, context.config.checkpoint.folder)
        classes = [family_class(stage) for stage in self.stages]
        self.graph = Stages(
            context,
            optimizers,
            carried=[
                kind.carried(context.of(stage.name), stage)
                for kind, stage in zip(classes, self.stages, strict=True)
            ],
            best_metrics=[kind.best_metric for kind in classes],
        )

    def train(self, resolved: dict[str, Any], identity: str) -> None:
        """Runs every stage that is not complete yet.

        Args:
            resolved: the config.
            identity: of the run; part of the note of every checkpoint.
        """
        self.identity = identity
        try:
            for line in self.graph.damaged:
                say(self.console, line)
            self.graph.check(identity)
            current, keep_rows = self.graph.position()
            self.stop.last_saved = self.graph.last_saved
            # Read before anything is written: a damaged checkpoint leaves the workdir as it was.
            ready = self.ready(current)
            self.time.resume(self.graph.earlier_seconds)
            with self.processes.reporting(), self.writer(keep_rows, resolved) as writer:
                self.ledger.started()
                while ready is not None:
                    index = ready.stage.index + 1
                    self.train_stage(ready, writer)
                    ready = None  # what the stage read is freed before the next one reads
                    ready = self.ready(index)
        finally:  # also after an error: what is being saved becomes complete
            for line in self.profiler.close():
                say(self.console, line)
            with phase("checkpoint"), self.still_there():
                self.graph.close()
            self.time.close()

    def writer(self, keep_rows: dict[str, int], resolved: dict[str, Any]) -> MultiWriter:
        """Takes the rows of metrics; process 0 writes them, after what is done already."""
        if not self.processes.is_first:
            return MultiWriter(NoFiles())
        remove_rollouts(self.workdir, keep_rows)
        return open_writers(
            self.workdir,
            self.config.reporting.writers,
            resume_from=keep_rows,
            config=resolved,
            project=self.config.reporting.wandb_project,
        )

    @phase("restore")
    def ready(self, index: int) -> Ready | None:
        """Reads all that a stage goes on from; None after the last one."""
        if index == len(self.stages):
            return None
        opened, stage = self.graph.open(index), self.stages[index]
        first_step = self.graph.first_step(index)
        family = family_class(stage)(opened.context, stage, opened.reference, first_step)
        earlier = [stage.name for stage in self.stages[:index]]
        source = stage_source(family, self.workdir, earlier=earlier, replay=self.replay)
        source_state = source.first_state()
        if opened.done:
            source_state = self.graph.checkpoints[index].source_state(opened.done, source_state)
            say(self.console, f"continuing {stage.name} after step {opened.done}")
        return Ready(opened, family, source, source_state)

    def train_stage(self, ready: Ready, writer: MultiWriter) -> None:
        """Runs the steps of one stage that are not done yet."""
        (index, context, state, done), family, source, source_state = ready
        stage, optimizer, config = self.stages[index], self.optimizers[index], self.config
        rounding_key = jax.random.fold_in(purpose_key(config.seed, Purpose.ROUNDING), index)
        update = family.make_update(optimizer, rounding_key)
        recorded = rollout_steps(stage.steps)
        first = FirstStep(
            family,
            begins=done == 0,
            at_start=done == 0 and "reference" not in stage.models,
            workdir=self.workdir,
            console=self.console,
        )
        judged, check = None, make_guard(stage.name)
        check(state, done)
        unchanged = f"{stage.name} has done {done} steps, nothing is new"
        self.end_if_asked(unchanged)
        shown = Progress(stage.steps, stage.name, self.console, start_step=done)
        with contextlib.closing(source), shown as progress:
            log = StepLog(family, writer, progress, state)
            if done == 0 and len(self.stages) == 1:
                self.log_heldout(family, state, 0, writer, progress)
            if done == 0:
                state = family.first_state(state, optimizer.schedule(0))
            self.end_if_asked(unchanged)
            source.start(source_state, done)
            for step in self.profiler.steps(stage.name, range(done + 1, stage.steps + 1)):
                began = time.perf_counter()
                check_first = first if step == done + 1 else None
                before = Before(state, step, step in recorded, check_first)
                state, batches, metrics = take_step(family, source, update, before)
                check_there(self.workdir)
                due = due_after(step, stage.steps, config)
                if due.flush or self.profiler.on:  # the device's time belongs to this step
                    with phase("update"):
                        jax.block_until_ready(metrics)
                log.add(Step(step, batches, metrics, time.perf_counter() - began))
                if step in recorded:
                    self.record(family, step, batches)
                if due.flush:
                    log.flush()
                    self.log_time(stage.name, step, writer)
                if due.evaluate or due.save:  # not in every step: it reads the whole state
                    check(state, step)
                if due.evaluate:
                    judged = self.log_heldout(family, state, step, writer, progress)
                stopping = self.stop.asked()
                if stopping and not due.flush:
                    log.flush()
                if stopping and not (due.evaluate or due.save):
                    check(state, step)
                if due.save or stopping:
                    # Only steps that every run saves can be the best one.
                    best = judged if due.evaluate and due.save else None
                    note = self.note(stage, step, state, writer)
                    self.save(index, step, state, note, best, source.saved())
                if stopping:
                    self.finish_saving(index)
                    self.end_if_asked(f"{stage.name} step {step} is saved")
        self.finish_saving(index)

    @phase("log")
    def record(self, family: Family, step: int, batches: StepBatches) -> None:
        """Writes the samples of a step; all processes compute them, one writes them."""
        record = family.record(step, batches)
        if record and self.processes.is_first:
            write_rollout(self.workdir, record)

    def log_time(self, stage: str, step: int, writer: MultiWriter) -> None:
        """Writes where the time of the run has gone so far."""
        seconds = {f"seconds/{k}": v for k, v in self.time.seconds().items() if v}
        row = {"stage": stage, "step": step, "kind": "timing"}
        writer.write({**row, "goodput": self.time.figures()["share"], **seconds})
        self.time.write()

    def end_if_asked(self, done: str) -> None:
        """Raises Stopped if a signal has asked for it, and says what is done."""
        if self.stop.asked():
            say(self.console, f"{self.stop.name}: {done}; the same command continues the run")
            self.stop.check()

    @phase("checkpoint")
    def save(self, index: int, step: int, *what: Any) -> None:
        """Starts to save a step of a stage: see `Checkpoints.save`."""
        self.processes.beat(f"{self.stages[index].name} step {step}: save")
        with self.still_there():
            if self.processes.is_first:
                self.copy.renew()
            self.graph.checkpoints[index].save(step, *what)

    @phase("checkpoint")
    def finish_saving(self, index: int) -> None:
        """Waits until all checkpoints of a stage are whole."""
        with self.still_there():
            self.graph.checkpoints[index].wait()

    @contextlib.contextmanager
    def still_there(self) -> Iterator[None]:
        """Raises the error of a workdir that is gone before any other that follows from it."""
        try:
            yield
        finally:
            check_there(self.workdir)

    def note(
        self, stage: Stage, step: int, state: TrainState, writer: MultiWriter
    ) -> dict[str, Any]:
        """What a checkpoint says besides its arrays; the files of the workdir must go with it."""
        files = {METRICS_FILE: writer.digest()}
        pairs = f"pairs/{stage.name}.jsonl"
        if (self.workdir / pairs).exists():
            files[pairs] = file_digest(self.workdir / pairs)
        last = {PARAMETERS: parameters_digest(state.params)} if step == stage.steps else {}
        return {
            "stage": stage.name,
            "step": step,
            "seconds": self.time.seconds(),
            "identity": self.identity,
            "files": files,
            **self.graph.note,
            **last,
        }

    @phase("evaluation")
    def log_heldout(
        self,
        family: Family,
        state: TrainState,
        step: int,
        writer: MultiWriter,
        progress: Progress,
    ) -> float:
        """Evaluates a state as its family does; returns the best metric."""
        began, stage = time.perf_counter(), family.stage.name
        self.processes.beat(f"{stage} step {step}: evaluation", compiles=True)
        metrics = family.evaluate(state, self.evaluators.get(stage))
        row = {"stage": stage, "step": step}
        writer.write({**row, "kind": "heldout", **metrics})
        writer.write({**row, "kind": "timing", "evaluation": time.perf_counter() - began})
        shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        progress.message(f"held-out after {stage} step {step}: {shown}")
        return metrics[family.best_metric]


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
