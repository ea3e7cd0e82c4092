"""A job for each cell of a sweep, as text for a scheduler."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rljax.comparison.sweeps.folder import Plan, workdir_of
from rljax.reporting.files import write_text_atomic
from rljax.user_modules import errors_located, import_file

ROOM = "rljax.pods"
ENDINGS = {"jobset": "yaml", "slurm": "sh"}
JOBS = "jobs"

# (name of the job, words that every host runs, the renderer's settings) -> text of the job.
Renderer = Callable[[str, Sequence[str], Any], str]


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


def read_settings(path: str) -> Any:
    """What settings() of a file returns: those of the renderer, such as nodes or an image.

    Raises:
        ValueError: for a file without settings(), or an error in it.
    """
    module = import_file(path, field="--settings", again=True)
    if not hasattr(module, "settings"):
        raise ValueError(f"{path} has no function settings() (--settings).")
    with errors_located(path, field="--settings", leave=(ValueError,)):
        return module.settings()


def render_cells(
    folder: Path, plan: Plan, kind: str, render: Renderer, settings: Any, remote: Path
) -> list[Path]:
    """Writes a job for each cell to DIR/jobs; returns the files.

    A job is called after the hash of its cell: schedulers allow few letters in a name.

    Args:
        folder: of the sweep here.
        plan: of it.
        kind: of the jobs.
        render: makes the text of one.
        settings: of the scheduler.
        remote: the same folder where the jobs run; their workdirs lie in it.
    """
    texts = {}
    for cell in plan.cells:
        words = [f"--config={plan.config}", *plan.overrides, *cell.words]
        workdir = f"--workdir={workdir_of(remote, cell)}"
        command = ["python", "launch/train.py", *words, workdir]
        path = folder / JOBS / f"{cell.name}.{ENDINGS[kind]}"
        texts[path] = render(f"cell-{cell.hash}", command, settings)
    for path, text in texts.items():  # only once all of them could be rendered
        write_text_atomic(path, text)
    return list(texts)
