"""Weights from the trainer to the sampler: cast where the trainer is, moved, laid out anew.

`send` is called in the trainer's thread before the next update, which gives the buffers of the
parameters away: it returns when its copy is made. `receive` is called in the sampler's thread, once
or several times; `forget` when nobody will ask again. The sampler gets the same bits on every way.

    direct   jitted cast on the trainer's mesh, then `jax.device_put` to the sampler's shardings:
             devices exchange what they need (no controller service; within one process, or
             where the sampler has the trainer's devices)
    host     the cast parameters lie in host memory until the sampler takes them; with several
             processes each has all of them, gathered over the trainer's devices array by array
    storage  the cast parameters are written to a folder by orbax, under a temporary name first
"""

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from rljax.errors import blamed
from rljax.models.network import Params
from rljax.parallel.host import to_host
from rljax.parallel.rules import from_host
from rljax.sampling.engine import Engine

FOLDER = "weights"  # of WORKDIR, by default


class Transfer(Protocol):
    """A way for weights."""

    def send(self, params: Params, version: int) -> Any:
        """The trainer's side: a copy of the parameters, in the sampler's precision."""

    def receive(self, sent: Any) -> Params:
        """The sampler's side: weights that its engine reads."""

    def forget(self, sent: Any) -> None:
        """Frees what was sent."""


class Sent(NamedTuple):
    """Weights on their way, and what they cost."""

    content: Any
    bytes: int
    seconds: float  # of the trainer, from parameters that are there


class Direct:
    """From device to device."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def send(self, params: Params, version: int) -> Params:
        """See `Transfer.send`."""
        return jax.block_until_ready(self.engine.load(params))

    def receive(self, sent: Params) -> Params:
        """See `Transfer.receive`."""
        return sent

    def forget(self, sent: Params) -> None:
        """Nothing to do: arrays are freed with their last reader."""


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


class Stored(NamedTuple):
    """Weights in a folder."""

    path: Path
    shapes: Params  # of the weights


class Storage:
    """Through a folder that both sides see; each version has a name of its own."""

    def __init__(self, engine: Engine, folder: Path, name: str) -> None:
        """Removes what an earlier process of the same name left in the folder.

        Args:
            engine: of the sampler.
            folder: shared.
            name: of the run and stage, of which no two write at a time.
        """
        self.engine, self.folder, self.name = engine, folder.absolute(), name
        self._cast = jax.jit(engine.prepared)
        for left in self.folder.glob(f"{name}-*"):
            shutil.rmtree(left, ignore_errors=True)

    def send(self, params: Params, version: int) -> Stored:
        """See `Transfer.send`; orbax renames the folder when it is complete."""
        cast = self._cast(params)
        path = self.folder / f"{self.name}-{version}"
        with self._blamed():
            self.folder.mkdir(parents=True, exist_ok=True)
            ocp.save(path, dict(_named(cast)), overwrite=True)
        return Stored(path, jax.eval_shape(lambda tree: tree, cast))

    def receive(self, sent: Stored) -> Params:
        """See `Transfer.receive`."""
        shardings = self.engine.placement(sent.shapes)
        wanted = jax.tree.map(
            lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
            sent.shapes,
            shardings,
        )
        with self._blamed():
            found = ocp.load(sent.path, dict(_named(wanted)))
        leaves, structure = jax.tree.flatten(sent.shapes)
        return structure.unflatten([found[f"{number:05d}"] for number in range(len(leaves))])

    def forget(self, sent: Stored) -> None:
        """See `Transfer.forget`; the last one takes the folder with it."""
        shutil.rmtree(sent.path, ignore_errors=True)
        with contextlib.suppress(OSError):  # others are in it
            self.folder.rmdir()

    def _blamed(self) -> contextlib.AbstractContextManager[None]:
        """A disk that is full or gone is the user's to mend."""
        return blamed(
            f"Weights for the sampler cannot pass through {self.folder}",
            OSError,
            ValueError,
            field="config.asynchronous.transfer_folder",
        )


def _named(tree: Params) -> list[tuple[str, Any]]:
    """Leaves by number: their paths hold more kinds of nodes than orbax knows."""
    return [(f"{number:05d}", leaf) for number, leaf in enumerate(jax.tree.leaves(tree))]


def sent(transfer: Transfer, params: Params, version: int) -> Sent:
    """Sends parameters, and measures it."""
    jax.block_until_ready(params)  # the update that makes them is not part of it
    started = time.perf_counter()
    content = transfer.send(params, version)
    seconds = time.perf_counter() - started
    sizes = content.shapes if isinstance(content, Stored) else content
    total = sum(np.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(sizes))
    return Sent(content, int(total), seconds)


def make_transfer(name: str, engine: Engine, folder: Path, run: str) -> Transfer:
    """The way of `config.asynchronous.transfer`.

    Args:
        name: of the way.
        engine: of the sampler.
        folder: of files on their way.
        run: name of run and stage, part of the files' names.
    """
    if name == "storage":
        return Storage(engine, folder, run)
    return {"direct": Direct, "host": Host}[name](engine)
