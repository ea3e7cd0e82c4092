"""All cells of a sweep on this machine, each a process with a workdir of its own."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rljax.commands.statuses import CALM
from rljax.comparison.sweeps import halving
from rljax.comparison.sweeps.cells import Cell
from rljax.comparison.sweeps.folder import (
    DONE,
    FAILED,
    LOGS,
    STOPPED,
    End,
    Plan,
    read_ends,
    states,
    workdir_of,
    write_end,
)
from rljax.comparison.sweeps.scores import curves_of, read_conditions
from rljax.comparison.sweeps.side_by_side import Ended, Job, last_error, run_side_by_side
from rljax.comparison.sweeps.slots import Slot
from rljax.processes.local import said


class Halving(NamedTuple):
    """Where conditions are judged (ascending steps), and how many of them go on: 1 of `factor`."""

    rungs: tuple[int, ...]
    factor: int


class LocalSweep:
    """Runs the cells that are not done; what has failed before is tried again."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        slots: Sequence[Slot],
        train: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        """Nothing runs yet.

        Args:
            folder: of the sweep.
            plan: of it.
            slots: of this machine; as many cells run beside each other.
            train: the words of the command that trains.
            say: takes lines of progress.
        """
        self.folder, self.plan = folder, plan
        self.slots, self.train, self.say = slots, train, say
        self.failed: dict[str, str] = {}
        self._cells = {cell.name: cell for cell in plan.cells}

    def run(self, rule: Halving | None = None) -> int | None:
        """Runs all cells, or with a rule those that it lets go on.

        Returns:
            The signal that ended the sweep, if one did.
        """
        for name, end in read_ends(self.folder).items():
            if end.state == FAILED and name in self._cells:
                write_end(self.folder, self._cells[name], None)
        for rung in rule.rungs if rule is not None else ():
            if (number := self._until(rung)) is not None:
                return number
            self._judge(rung, rule.factor)
        return self._until(None)

    def command(self, cell: Cell) -> list[str]:
        """The words that run a cell."""
        words = [f"--config={self.plan.config}", *self.plan.overrides, *cell.words]
        return [*self.train, *words, f"--workdir={workdir_of(self.folder, cell)}"]

    def _until(self, rung: int | None) -> int | None:
        """Runs what goes on until a step of the last stage; None: to the end."""
        jobs = [self._job(cell, rung) for cell in self._going_on() if not self._reached(cell, rung)]
        return run_side_by_side(jobs, self.slots, self._began, self._ended)

    def _going_on(self) -> list[Cell]:
        ends = states(self.folder, self.plan.cells)
        over = (DONE, STOPPED, FAILED)
        return [cell for cell in self.plan.cells if ends[cell.name].state not in over]

    def _reached(self, cell: Cell, rung: int | None) -> bool:
        if rung is None:
            return False
        curve = curves_of(workdir_of(self.folder, cell), self.plan.stage).get(self.plan.metric)
        return curve is not None and int(curve.steps[-1]) >= rung

    def _job(self, cell: Cell, rung: int | None) -> Job:
        enough = None if rung is None else lambda: self._reached(cell, rung)
        return Job(cell.name, self.command(cell), self._log(cell), enough)

    def _log(self, cell: Cell) -> Path:
        return self.folder / LOGS / f"{cell.name}.log"

    def _began(self, name: str) -> None:
        self.say(f"{name}: begins")

    def _ended(self, name: str, ended: Ended) -> None:
        cell = self._cells[name]
        if ended.code == 0:
            self.say(f"{name}: done")
        elif ended.enough and ended.code in CALM:
            self.say(f"{name}: waits for the others")
        else:
            why = last_error(self._log(cell))
            self.failed[name] = why
            write_end(self.folder, cell, End(FAILED, f"{said(ended.code)}: {why}"))
            self.say(f"{name}: failed ({said(ended.code)}): {why}; the others go on")

    def _judge(self, rung: int, factor: int) -> None:
        """Stops the conditions that are not among the best at a rung."""
        conditions = read_conditions(self.folder, self.plan)
        reached = {
            each.name: each.estimate(self.plan.metric, rung).value
            for each in conditions
            if any(
                curve is not None and curve.steps[-1] >= rung
                for curve in each.curves.get(self.plan.metric, ())
            )
        }
        best = halving.survivors(reached, factor)
        ends = states(self.folder, self.plan.cells)
        for cell in self.plan.cells:
            if cell.condition in reached and cell.condition not in best:
                if ends[cell.name].state not in (DONE, STOPPED, FAILED):
                    place = f"{reached[cell.condition]:.4g} at step {rung}"
                    write_end(self.folder, cell, End(STOPPED, f"halving: {place}"))
                    self.say(f"{cell.name}: stopped by halving, {place}")


def counts(folder: Path, plan: Plan) -> str:
    """How many cells have ended how, in words."""
    found = Counter(end.state for end in states(folder, plan.cells).values())
    return ", ".join(f"{number} {state}" for state, number in found.items())
