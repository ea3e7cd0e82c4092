"""A job for each cell of a sweep, as text for a scheduler."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rljax.comparison.sweeps.folder import Plan, workdir_of
from rljax.errors import shown
from rljax.pods import jobset, slurm
from rljax.reporting.files import write_text_atomic
from rljax.user_modules import errors_located, import_file

ENDINGS = {"jobset": "yaml", "slurm": "sh"}
JOBS = "jobs"

# (name of the job, words that every host runs, the renderer's settings) -> text of the job.
Renderer = Callable[[str, Sequence[str], Any], str]
RENDERERS: dict[str, tuple[type, Renderer]] = {
    "jobset": (jobset.JobSetSettings, jobset.render_job),
    "slurm": (slurm.SlurmSettings, slurm.render_job),
}


def read_settings(path: str, kind: str) -> Any:
    """What settings() of a file returns: those of the renderer, such as nodes or an image.

    Raises:
        ValueError: for a file without settings(), an error in it, or settings of another kind.
    """
    module = import_file(path, field="--settings", again=True)
    if not hasattr(module, "settings"):
        raise ValueError(f"{path} has no function settings() (--settings).")
    with errors_located(path, field="--settings", leave=(ValueError,)):
        made = module.settings()
    wanted, _ = RENDERERS[kind]
    if not isinstance(made, wanted):
        raise ValueError(
            f"settings() of {path} must return {wanted.__module__}.{wanted.__name__} for "
            f"--render={kind}, got {shown(made)} (--settings)."
        )
    return made


def render_cells(folder: Path, plan: Plan, kind: str, settings: Any, remote: Path) -> list[Path]:
    """Writes a job for each cell to DIR/jobs; returns the files.

    A job is called after the hash of its cell: schedulers allow few letters in a name.

    Args:
        folder: of the sweep here.
        plan: of it.
        kind: of the jobs.
        settings: of the scheduler, for its renderer.
        remote: the same folder where the jobs run; their workdirs lie in it.
    """
    (_, render), texts = RENDERERS[kind], {}
    for cell in plan.cells:
        words = [f"--config={plan.config}", *plan.overrides, *cell.words]
        workdir = f"--workdir={workdir_of(remote, cell)}"
        command = ["launch/train.py", *words, workdir]
        path = folder / JOBS / f"{cell.name}.{ENDINGS[kind]}"
        texts[path] = render(f"cell-{cell.hash}", command, settings)
    for path, text in texts.items():  # only once all of them could be rendered
        write_text_atomic(path, text)
    return list(texts)
