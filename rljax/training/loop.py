"""The train loop, for every method.

A run is a list of stages. A stage turns experience into batches and batches into better
parameters; whether experience is read from disk or sampled is its family's business
(training/families/). What a stage starts from, and the models that it reads, are looked up in
run/stages.py. The steps of one stage are in stage_run.py, a single step in step.py.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console

from rljax.config.validate import validate
from rljax.processes.processes import ONE, Processes
from rljax.reporting.files import SUMMARY_FILE, read_json, write_json_atomic
from rljax.reporting.progress import say
from rljax.reporting.report import write_report
from rljax.reporting.summary import print_summary, remove_rollouts
from rljax.reporting.writers import MultiWriter, NoFiles, check_names, open_writers
from rljax.training.ahead.events import Replay
from rljax.training.ahead.offload import check_host_memory
from rljax.training.ahead.source import stage_source
from rljax.training.evaluation import Evaluator, make_evaluators
from rljax.training.families.table import family_class
from rljax.training.notices import watched
from rljax.training.run.contents import Contents, read_contents
from rljax.training.run.context import Context, build_context
from rljax.training.run.digests import PARAMETERS
from rljax.training.run.goodput import WallTime
from rljax.training.run.phases import Ledger, booked, phase
from rljax.training.run.profile import Profiler, read_profile
from rljax.training.run.several import check_same_contents
from rljax.training.run.stages import Stages
from rljax.training.run.start import export_note
from rljax.training.run.storage import check_folder
from rljax.training.run.store import held
from rljax.training.run.summary import summarise
from rljax.training.run.workdir import check_replay, claim_workdir, make_folder, run_identity
from rljax.training.saving import Saver
from rljax.training.signals import StopSignal
from rljax.training.stage_run import Ready, StageRun
from rljax.training.update.optimizers import Optimizer, build_optimizer


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
        with context.workers(), watched(config.checkpoint.notice, stop), jax.set_mesh(context.mesh):
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
                for line in [*export_note(config.model, context.network.config), *lines]:
                    say(console, line)
                identity = run_identity(resolved, contents)
                runner = Runner(
                    *(context, optimizers, evaluators, console, ledger, stop),
                    *(profiler, identity, replayed),
                )
                runner.train()
                return finish(runner)


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
def finish(runner: "Runner") -> dict[str, Any]:
    """Writes and prints the figures and the report of a run whose stages are complete."""
    workdir, console, processes = runner.workdir, runner.console, runner.context.processes
    path, value = runner.graph.best()
    if processes.is_first:
        runner.time.write(now=True)
        summary = summarise(
            workdir, runner.stages, runner.context.config.seed, runner.time.figures()
        )
        summary |= {"best_checkpoint": str(path), "best_checkpoint_value": value}
        summary["parameters_sha256"] = runner.graph.last_note().get(PARAMETERS)
        write_json_atomic(workdir / SUMMARY_FILE, summary)
        write_report([workdir], workdir / "report.html")
        runner.saver.renew_copy()
    processes.barrier("summary written")
    summary = read_json(workdir / SUMMARY_FILE)
    print_summary(summary, console)
    say(console, f"report: {workdir / 'report.html'}")
    if runner.replay is not None:
        say(console, runner.replay.compared(summary["parameters_sha256"]))
    return summary


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
        identity: str,
        replay: Replay | None = None,
    ) -> None:
        """Opens the checkpoints of all stages.

        Args:
            context: of the run.
            optimizers: of each stage.
            evaluators: by the name of the stage.
            console: of progress.
            ledger: of the run's time.
            stop: whether the run was asked to stop.
            profiler: of the steps that were asked for.
            identity: of the run.
            replay: a run whose order of events is repeated.
        """
        self.context, self.stages, self.workdir = context, context.stages, context.workdir
        self.optimizers, self.evaluators = optimizers, evaluators
        self.console, self.ledger, self.stop, self.replay = console, ledger, stop, replay
        self.profiler = profiler
        self.time = WallTime(ledger, context.workdir, writes=context.processes.is_first)
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
        self.saver = Saver(context, self.graph, self.time, identity)

    def train(self) -> None:
        """Runs every stage that is not complete yet."""
        try:
            for line in self.graph.damaged:
                say(self.console, line)
            self.graph.check(self.saver.identity)
            current, keep_rows = self.graph.position()
            self.stop.last_saved = self.graph.last_saved
            # Read before anything is written: a damaged checkpoint leaves the workdir as it was.
            ready = self.ready(current)
            self.time.resume(self.graph.earlier_seconds)
            with self.context.processes.reporting(), self.writer(keep_rows) as writer:
                self.ledger.started()
                while ready is not None:
                    index = ready.stage.index + 1
                    self.train_stage(ready, writer)
                    ready = None  # what the stage read is freed before the next one reads
                    ready = self.ready(index)
        finally:  # also after an error: what is being saved becomes complete
            for line in self.profiler.close():
                say(self.console, line)
            self.saver.close()
            self.time.close()

    def writer(self, keep_rows: dict[str, int]) -> MultiWriter:
        """Takes the rows of metrics; process 0 writes them, after what is done already."""
        if not self.context.processes.is_first:
            return MultiWriter(NoFiles())
        remove_rollouts(self.workdir, keep_rows)
        reporting = self.context.config.reporting
        return open_writers(
            self.workdir,
            reporting.writers,
            resume_from=keep_rows,
            config=self.context.resolved(),
            project=reporting.wandb_project,
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
        StageRun(
            ready,
            self.optimizers[ready.stage.index],
            self.evaluators.get(ready.family.stage.name),
            writer,
            self.saver,
            self.stop,
            self.profiler,
            self.console,
        ).train()
