"""The rows that the train loop writes of its steps, and when it stops for good."""

from collections.abc import Sequence
from typing import NamedTuple

from rljax.parallel.host import to_host
from rljax.reporting.progress import Progress
from rljax.reporting.writers import MultiWriter
from rljax.training.ahead.source import BESIDE
from rljax.training.families import Family, StepBatches
from rljax.training.guard import NonFiniteError
from rljax.training.run.phases import phase
from rljax.training.update.metrics import mean_metrics
from rljax.training.update.state import TrainState
from rljax.training.update.train_step import Metrics


class Step(NamedTuple):
    """A finished step whose metrics may still be on the device."""

    step: int
    batches: StepBatches
    metrics: Sequence[Metrics]  # one per update
    seconds: float


class StepLog:
    """Collects steps and writes them together, so that the device need not wait for each."""

    def __init__(
        self,
        family: Family,
        writer: MultiWriter,
        progress: Progress,
        state: TrainState,
    ) -> None:
        """Starts with no step.

        Args:
            family: of the stage.
            writer: of rows.
            progress: of the stage.
            state: that the next step starts from.
        """
        self.family, self.stage = family, family.stage.name
        self.writer, self.progress = writer, progress
        self.max_skipped = family.context.config.safety.max_skipped_in_a_row
        self.in_a_row = int(state.skipped_in_a_row)
        self.waiting: list[Step] = []

    def add(self, step: Step) -> None:
        """Keeps a step for the next flush."""
        self.waiting.append(step)

    @phase("log")
    def flush(self) -> None:
        """Writes the waiting steps and shows the last one.

        Steps that the device did together share the time that they took.

        Raises:
            NonFiniteError: if too many updates in a row were skipped.
        """
        steps, self.waiting = self.waiting, []
        seconds = sum(step.seconds for step in steps) / len(steps)
        names = self.family.skip_metrics
        fetched = to_host([step.metrics for step in steps])
        for step, updates in zip(steps, fetched, strict=True):
            shown = self._write(step, updates, seconds)
            for update in updates:
                self._count([bool(update[name].total) for name in names if name in update])
        self.progress.update(steps[-1].step, shown)

    def _count(self, skipped: Sequence[bool]) -> None:
        """Counts one update, given which of its parts were skipped."""
        self.in_a_row = self.in_a_row + 1 if any(skipped) else 0
        if self.in_a_row >= self.max_skipped:
            raise NonFiniteError(
                f"{self.in_a_row} updates in a row had a non-finite loss or gradient (stage "
                f"{self.stage!r}); {self.max_skipped} are allowed "
                "(config.safety.max_skipped_in_a_row). The last checkpoint is intact: lower the "
                "learning rate and continue in a new workdir, or look at the data."
            )

    def _write(self, step: Step, updates: Sequence[Metrics], seconds: float) -> dict[str, float]:
        """Writes one step that took `seconds`; returns what the progress shows of it."""
        batches = step.batches
        row = {"stage": self.stage, "step": step.step}
        metrics = {**batches.metrics, **mean_metrics(updates)}
        phases = dict(batches.seconds)
        own = (spent for name, spent in phases.items() if not name.startswith(BESIDE))
        phases["update"] = max(0.0, seconds - sum(own))
        speed = batches.tokens / seconds
        self.writer.write({**row, "kind": "train", **metrics})
        self.writer.write({**row, "kind": "timing", **phases, "tokens_per_second": speed})
        return {**metrics, "tokens_per_second": speed}
