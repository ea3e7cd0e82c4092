"""Whether all processes are about to do the same; where they are not, a collective would hang."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from rljax.processes.processes import Processes
from rljax.training.update.rows import Rows


def check_same_step(
    processes: Processes, update: Callable[..., Any], arguments: Sequence[Any], batch: Rows
) -> None:
    """Compares the first batch of a stage, and the program that will learn from it.

    Args:
        processes: of the run; one alone has nothing to compare.
        update: jitted.
        arguments: of its first call.
        batch: on the host.

    Raises:
        ValueError: on every process, naming those that differ from the others.
    """
    if processes.count == 1:
        return
    processes.same_on_all("the first batch", {name: _digest(batch[name]) for name in sorted(batch)})
    program = update.lower(*arguments).as_text()
    processes.same_on_all("the program of an update", hashlib.sha256(program.encode()).hexdigest())


def _digest(arrays: Any) -> str:
    """SHA-256 of the values, shapes and types of a pytree of NumPy arrays."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(arrays):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
