"""Weights from the trainer to the sampler: cast where the trainer is, moved, laid out anew.

`send` is called in the trainer's thread before the next update, which gives the buffers of the
parameters away: it returns when its copy is made. `receive` is called in the sampler's thread, once
or several times; `forget` when nobody will ask again. The sampler gets the same bits on every way.

    direct   jitted cast on the trainer's mesh, then devices exchange what they need (direct.py); no
             controller service
    host     the cast parameters lie in host memory until the sampler takes them; with several
             processes each has all of them, gathered over the trainer's devices array by array
    storage  the cast parameters are written to a folder, each process its shards (storage.py)
"""

import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from rljax.models.network import Params
from rljax.parallel.host import to_host
from rljax.parallel.rules import from_host
from rljax.processes.processes import ONE, Processes
from rljax.sampling.engine import Engine
from rljax.training.ahead.direct import Direct
from rljax.training.ahead.storage import Storage, Stored

FOLDER = "weights"  # of WORKDIR, by default


class Transfer(Protocol):
    """A way for weights."""

    def send(self, params: Params, version: int) -> Any:
        """The trainer's side: a copy of the parameters, in the sampler's precision."""

    def receive(self, sent: Any) -> Params:
        """The sampler's side: weights that its engine reads."""

    def forget(self, sent: Any) -> None:
        """Frees what was sent, as far as this process goes."""

    def tidy(self) -> None:
        """Frees what all processes have forgotten; they call it together, after each step."""


class Sent(NamedTuple):
    """Weights on their way, and what they cost."""

    content: Any
    bytes: int
    seconds: float  # of the trainer, from parameters that are there


class Host:
    """Through host memory, where weights that wait take none of the devices'."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._cast = jax.jit(engine.prepared)

    def send(self, params: Params, version: int) -> Params:
        """See `Transfer.send`."""
        return jax.tree.map(to_host, self._cast(params))

    def receive(self, sent: Params) -> Params:
        """See `Transfer.receive`."""
        return jax.tree.map(from_host, sent, self.engine.placement(sent))

    def forget(self, sent: Params) -> None:
        """Nothing to do: arrays are freed with their last reader."""

    def tidy(self) -> None:
        """Nothing to do."""


def sent(transfer: Transfer, params: Params, version: int) -> Sent:
    """Sends parameters, and measures it."""
    jax.block_until_ready(params)  # the update that makes them is not part of it
    started = time.perf_counter()
    content = transfer.send(params, version)
    seconds = time.perf_counter() - started
    sizes = content.shapes if isinstance(content, Stored) else content
    total = sum(np.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(sizes))
    return Sent(content, int(total), seconds)


def make_transfer(
    name: str, engine: Engine, folder: Path, run: str, processes: Processes = ONE
) -> Transfer:
    """The way of `config.asynchronous.transfer`.

    Args:
        name: of the way.
        engine: of the sampler.
        folder: of files on their way.
        run: name of run and stage, part of the files' names.
        processes: of the run.
    """
    if name == "storage":
        return Storage(engine, folder, run, processes)
    return {"direct": Direct, "host": Host}[name](engine)
