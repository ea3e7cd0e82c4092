"""A run as far as its first compilation: what a pod should pass before it is paid for."""

from pathlib import Path

import jax
from ml_collections import ConfigDict
from rich.console import Console

from rljax.config.validate import validate
from rljax.parallel.collectives import check_collectives
from rljax.processes.processes import Processes
from rljax.reporting.progress import say
from rljax.training.run.contents import read_contents
from rljax.training.run.context import build_context
from rljax.training.run.several import check_same_contents


def preflight(
    config: ConfigDict, workdir: Path, processes: Processes, console: Console | None = None
) -> None:
    """Opens everything that the run needs, and adds numbers up along each axis of the mesh.

    Nothing of the run is written. Process 0 prints what was found.

    Args:
        config: complete (config/load.py).
        workdir: of the run.
        processes: that have passed the roll call.
        console: standard output by default.

    Raises:
        ValueError: for what would stop the run before it compiles.
    """
    processes.beat("preflight: data and model", compiles=True)
    context = build_context(config, validate(config), workdir, processes)
    with context.workers():
        contents = read_contents(context)
        check_same_contents(processes, contents)
    processes.beat("preflight: collectives", compiles=True)
    seconds = check_collectives(context.mesh)
    files = sum(len(content.files) for content in contents.values())
    size = sum(file["bytes"] for content in contents.values() for file in content.files.values())
    lines = [
        f"processes: {processes.count}, each with {jax.local_device_count()} of "
        f"{jax.device_count()} devices ({jax.devices()[0].device_kind})",
        f"mesh: {', '.join(f'{axis}={size}' for axis, size in context.mesh.shape.items())}",
        *(f"  sum along {axis}: {taken:.2f} s" for axis, taken in seconds.items()),
        f"read: {files} files, {size / 1e6:.1f} MB, the same on all",
        "the preflight is passed",
    ]
    if processes.is_first:
        for line in lines:
            say(console or Console(), line)
