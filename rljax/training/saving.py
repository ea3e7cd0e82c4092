"""What a run saves on its way: checkpoints, what each says of itself, a copy of small files."""

import contextlib
from collections.abc import Iterator
from typing import Any

from rljax.config.stage import Stage
from rljax.reporting.files import METRICS_FILE
from rljax.reporting.writers import MultiWriter
from rljax.training.run.context import Context
from rljax.training.run.digests import PARAMETERS, file_digest, parameters_digest
from rljax.training.run.goodput import WallTime
from rljax.training.run.lock import check_there
from rljax.training.run.phases import phase
from rljax.training.run.stages import Stages
from rljax.training.run.store import Copy
from rljax.training.update.state import TrainState


class Saver:
    """Saves the states of a run's stages. All processes call it; process 0 writes what is small."""

    def __init__(self, context: Context, graph: Stages, time: WallTime, identity: str) -> None:
        """Nothing is saved yet.

        Args:
            context: of the run.
            graph: whose checkpoints are written.
            time: of the run so far.
            identity: of the run; part of the note of every checkpoint.
        """
        self.workdir, self.processes = context.workdir, context.processes
        self.graph, self.time, self.identity = graph, time, identity
        self.copy = Copy(context.workdir, context.config.checkpoint.folder)

    @phase("checkpoint")
    def save(self, index: int, step: int, *what: Any) -> None:
        """Starts to save a step of a stage: see `Checkpoints.save`."""
        self.processes.beat(f"{self.graph.stages[index].name} step {step}: save")
        with self._still_there():
            self.renew_copy()
            self.graph.checkpoints[index].save(step, *what)

    @phase("checkpoint")
    def finish(self, index: int) -> None:
        """Waits until all checkpoints of a stage are whole."""
        with self._still_there():
            self.graph.checkpoints[index].wait()

    @phase("checkpoint")
    def close(self) -> None:
        """Waits for all that is being saved, also after an error."""
        with self._still_there():
            self.graph.close()

    def renew_copy(self) -> None:
        """Copies small files that have changed to the store, where checkpoints are in one."""
        if self.processes.is_first:
            self.copy.renew()

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

    @contextlib.contextmanager
    def _still_there(self) -> Iterator[None]:
        """Raises the error of a workdir that is gone before any other that follows from it."""
        try:
            yield
        finally:
            check_there(self.workdir)
