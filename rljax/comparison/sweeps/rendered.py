"""A job for each cell of a sweep, as text for a scheduler."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rljax.comparison.sweeps.folder import Plan, workdir_of
from rljax.reporting.files import write_text_atomic

ROOM = "rljax.pods"
ENDINGS = {"jobset": "yaml", "slurm": "sh"}
JOBS = "jobs"

# (name of the job, words that every host runs, settings of the scheduler) -> text of the job.
Renderer = Callable[[str, Sequence[str], Mapping[str, Any]], str]


def renderer(kind: str) -> Renderer:
    """The renderer of a kind, `render_job` of rljax.pods.KIND.

    Raises:
        ValueError: if this version has none.
    """
    name = f"{ROOM}.{kind}"
    try:
        return importlib.import_module(name).render_job
    except ModuleNotFoundError as error:
        if error.name not in (ROOM, name):
            raise
        raise ValueError(
            f"This version has no renderer of jobs for {kind!r}: it would be render_job of {name} "
            "(--render)."
        ) from error


def render_cells(folder: Path, plan: Plan, kind: str, render: Renderer) -> list[Path]:
    """Writes a job for each cell to DIR/jobs; returns the files.

    A job is called after the hash of its cell: schedulers allow few letters in a name.
    """
    written = []
    for cell in plan.cells:
        words = [f"--config={plan.config}", *plan.overrides, *cell.words]
        workdir = f"--workdir={workdir_of(folder, cell)}"
        command = ["python", "launch/train.py", *words, workdir]
        path = folder / JOBS / f"{cell.name}.{ENDINGS[kind]}"
        write_text_atomic(path, render(f"cell-{cell.hash}", command, {}))
        written.append(path)
    return written
