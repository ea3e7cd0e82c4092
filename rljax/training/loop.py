"""The train loop, for every method.

A run is a list of stages. A stage turns experience into batches and batches into better
parameters; whether experience is read from disk or sampled is its family's business
(training/families/). What a stage starts from, and the models that it reads, are looked up in
run/stages.py.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict
from rich.console import Console

from rljax.config.validate import validate
from rljax.models.network import Network
from rljax.parallel.rules import put_rows
from rljax.reporting.files import write_json_atomic
from rljax.reporting.progress import Progress
from rljax.reporting.report import write_report
from rljax.reporting.summary import print_summary, rollout_steps, write_rollout
from rljax.reporting.writers import MultiWriter, check_names, open_writers
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.evaluation import Evaluator
from rljax.training.families import Family
from rljax.training.families.table import family_class
from rljax.training.run.context import Context, build_context
from rljax.training.run.stages import Opened, Stages
from rljax.training.run.summary import summarise
from rljax.training.run.workdir import claim_workdir
from rljax.training.self_check.first_step import FirstStep
from rljax.training.step_log import Step, StepLog
from rljax.training.update.optimizers import Optimizer, build_optimizer
from rljax.training.update.state import TrainState


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
            family_class(stage).check(context.of(stage.name), stage)
        evaluators = make_evaluators(context)
        claim_workdir(workdir, resolved)
        runner = Runner(context, optimizers, evaluators, console, started)
        runner.train(resolved)
    summary = summarise(workdir, stages, config.seed, runner.elapsed())
    summary["best_checkpoint"] = str(runner.best_checkpoint)
    write_json_atomic(workdir / "summary.json", summary)
    write_report([workdir], workdir / "report.html")
    print_summary(summary, console)
    console.print(f"report: {workdir / 'report.html'}", soft_wrap=True)
    return summary


class Ready(NamedTuple):
    """A stage with all that it goes on from."""

    stage: Opened
    family: Family
    source_state: dict[str, Any]  # of the source of experience


class Runner:
    """Goes through the stages of one run."""

    def __init__(
        self,
        context: Context,
        optimizers: Sequence[Optimizer],
        evaluators: Mapping[Network, Evaluator],
        console: Console,
        started: float,
    ) -> None:
        self.config, self.workdir, self.stages = context.config, context.workdir, context.stages
        self.optimizers, self.evaluators = optimizers, evaluators
        self.console, self.started = console, started
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
        self.best_checkpoint: Path | None = None  # of the last stage, once it is complete

    def elapsed(self) -> float:
        """Wall seconds of the run, over all its processes, up to the last checkpoint of each."""
        return self.graph.earlier_seconds + time.perf_counter() - self.started

    def train(self, resolved: dict[str, Any]) -> None:
        """Runs every stage that is not complete yet."""
        try:
            current, keep_rows = self.graph.position()
            # Read before anything is written: a damaged checkpoint leaves the workdir as it was.
            ready = self.ready(current)
            with open_writers(
                self.workdir,
                self.config.reporting.writers,
                resume_from=keep_rows,
                config=resolved,
                project=self.config.reporting.wandb_project,
            ) as writer:
                while ready is not None:
                    index = ready.stage.index + 1
                    self.train_stage(ready, writer)
                    ready = None  # what the stage read is freed before the next one reads
                    ready = self.ready(index)
            self.best_checkpoint = self.graph.best()
        finally:  # also after an error: what is being saved becomes complete
            self.graph.close()

    def ready(self, index: int) -> Ready | None:
        """Reads all that a stage goes on from; None after the last one."""
        if index == len(self.stages):
            return None
        opened, stage = self.graph.open(index), self.stages[index]
        first_step = self.graph.first_step(index)
        family = family_class(stage)(opened.context, stage, opened.reference, first_step)
        source_state = family.source.first_state()
        if opened.done:
            source_state = self.graph.checkpoints[index].source_state(opened.done, source_state)
            self.console.print(f"continuing {stage.name} after step {opened.done}", soft_wrap=True)
        return Ready(opened, family, source_state)

    def train_stage(self, ready: Ready, writer: MultiWriter) -> None:
        """Runs the steps of one stage that are not done yet."""
        (index, context, state, done), family, source_state = ready
        stage, optimizer, config = self.stages[index], self.optimizers[index], self.config
        checkpoints = self.graph.checkpoints[index]
        rounding_key = jax.random.fold_in(purpose_key(config.seed, Purpose.ROUNDING), index)
        update = family.make_update(optimizer, rounding_key)
        recorded = rollout_steps(stage.steps)
        first = FirstStep(
            family,
            at_start=done == 0 and "reference" not in stage.models,
            workdir=self.workdir,
            console=self.console,
        )
        judged = None
        with Progress(stage.steps, stage.name, self.console, start_step=done) as progress:
            log = StepLog(family, writer, progress, optimizer.schedule, state)
            if done == 0 and len(self.stages) == 1:
                self.log_heldout(family, state, 0, writer, progress)
            if done == 0:
                state = family.first_state(state, optimizer.schedule(0))
            for step in range(done + 1, stage.steps + 1):
                began = time.perf_counter()
                policy = family.policy(state, step)
                experience, source_state = family.source.collect(policy, source_state, step)
                state, batches = family.batches(state, experience, step)
                if step == done + 1:
                    first.before(state, experience.samples, batches)
                metrics = []
                for batch in batches.batches:
                    if step in recorded:
                        family.before_update(state, batch, batches)
                    placed = put_rows(batch, context.mesh)
                    state, update_metrics = update(state, context.frozen, placed)
                    metrics.append(update_metrics)
                    if step == done + 1 and len(metrics) == 1:
                        first.after(state, batches, update_metrics)
                last = step == stage.steps
                saving = last or step % config.checkpoint.every_steps == 0
                every = config.evaluation.every_steps
                evaluating = last or bool(every and step % every == 0)
                flushing = saving or evaluating or step % config.reporting.every_steps == 0
                if flushing:  # the device works behind: its time belongs to this step
                    jax.block_until_ready(metrics)
                log.add(Step(step, batches, metrics, time.perf_counter() - began))
                if step in recorded and (record := family.record(step, batches)):
                    write_rollout(self.workdir, record)
                if flushing:
                    log.flush()
                if evaluating:
                    judged = self.log_heldout(family, state, step, writer, progress)
                if saving:
                    note = {"stage": stage.name, "step": step, "elapsed_seconds": self.elapsed()}
                    note |= self.graph.note
                    best = judged if evaluating else None
                    checkpoints.save(step, state, note, best, source_state)
        checkpoints.wait()

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
        metrics = family.evaluate(state, self.evaluators.get(family.context.network))
        row = {"stage": stage, "step": step}
        writer.write({**row, "kind": "heldout", **metrics})
        writer.write({**row, "kind": "timing", "evaluation": time.perf_counter() - began})
        shown = ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())
        progress.message(f"held-out after {stage} step {step}: {shown}")
        return metrics[family.best_metric]


def make_evaluators(context: Context) -> dict[Network, Evaluator]:
    """What judges policies on the held-out problems, by their network; stages share the programs.

    Raises:
        ValueError: for settings that the sampler refuses.
    """
    policies = [n for n in context.networks.values() if n.config.head == "language_model"]
    return {network: Evaluator(context.with_network(network)) for network in policies}
