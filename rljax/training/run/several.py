"""The processes of a run, from its config."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from rljax.config.validate import plain, resolved_dict, validate
from rljax.processes.facts import facts_before_jax
from rljax.processes.processes import Processes
from rljax.processes.settings import Settings
from rljax.processes.start import joined
from rljax.training.run.contents import Contents
from rljax.training.run.workdir import default_workdir


@contextlib.contextmanager
def started(config: ConfigDict, workdir: Path | None) -> Iterator[tuple[Processes, Path]]:
    """Starts this process as one of the run's, before jax looks for devices.

    Args:
        config: complete (config/load.py); validated here.
        workdir: of the run; None for a new one, which several processes cannot share.

    Yields:
        The processes, and the workdir.

    Raises:
        ValueError: for a bad config, processes that do not fit together, or several without a
            workdir.
        SystemFailure: for processes that are missing.
    """
    stages = validate(config)

    def facts() -> dict:
        if workdir is None:
            raise ValueError(
                "Several processes need a folder that all of them share: name it (--workdir)."
            )
        return facts_before_jax(plain(resolved_dict(config, stages)), workdir)

    workdir_or_new = workdir or default_workdir(config.name)
    with joined(Settings(**config.processes), facts, workdir_or_new) as processes:
        yield processes, workdir_or_new


def check_same_contents(processes: Processes, contents: Contents) -> None:
    """Raises ValueError, naming who differs, unless all processes read the same files."""
    processes.same_on_all(
        "what they read", {field: content.files for field, content in contents.items()}
    )
