"""Weights through a folder that both sides, and all processes, see.

    FOLDER/RUN-VERSION/PROCESS.json          the parts that a process has written
    FOLDER/RUN-VERSION/LEAF-PROCESS-N.npy    one of them

Every process writes the shards that it holds first of all, and reads what its own devices need.
"""

import contextlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from rljax.errors import blamed
from rljax.models.network import Params
from rljax.processes.processes import Processes
from rljax.sampling.engine import Engine


class Stored(NamedTuple):
    """Weights in a folder."""

    path: Path
    shapes: Params  # of the weights


class Part(NamedTuple):
    """A part of an array in a file."""

    file: Path
    bounds: list[list[int]]  # first and last + 1 along each axis


class Storage:
    """Through a folder that both sides see; each version has a name of its own."""

    def __init__(self, engine: Engine, folder: Path, name: str, processes: Processes) -> None:
        """Removes what an earlier process of the same name left in the folder.

        Args:
            engine: of the sampler.
            folder: shared.
            name: of the run and stage, of which no two write at a time.
            processes: of the run; all of them call this together.
        """
        self.engine, self.folder, self.name = engine, folder.absolute(), name
        self.processes = processes
        self.forgotten: set[str] = set()  # folders that this process will not read again
        self._cast = jax.jit(engine.prepared)
        if processes.is_first:
            for left in self.folder.glob(f"{name}-*"):
                shutil.rmtree(left, ignore_errors=True)
        processes.barrier(f"{name}: folder of weights is clean")

    def send(self, params: Params, version: int) -> Stored:
        """See `Transfer.send`; all processes call it together."""
        cast = self._cast(params)
        path = self.folder / f"{self.name}-{version}"
        with self._blamed():
            path.mkdir(parents=True, exist_ok=True)
            write_shards(path, jax.tree.leaves(cast), self.processes.index)
        self.processes.barrier(f"{path.name} is written")
        return Stored(path, jax.eval_shape(lambda tree: tree, cast))

    def receive(self, sent: Stored) -> Params:
        """See `Transfer.receive`."""
        leaves, structure = jax.tree.flatten(sent.shapes)
        shardings = jax.tree.leaves(self.engine.placement(sent.shapes))
        with self._blamed():
            parts = read_parts(sent.path, self.processes.count)
            arrays = [
                jax.make_array_from_callback(
                    leaf.shape,
                    sharding,
                    lambda index, leaf=leaf, own=parts[number]: assembled(leaf, own, index),
                )
                for number, (leaf, sharding) in enumerate(zip(leaves, shardings, strict=True))
            ]
        return structure.unflatten(arrays)

    def forget(self, sent: Stored) -> None:
        """See `Transfer.forget`; a process alone removes the folder at once."""
        self.forgotten.add(sent.path.name)
        if self.processes.count == 1:
            self.tidy()

    def tidy(self) -> None:
        """See `Transfer.tidy`: what no process will read again is removed."""
        done = self.processes.gather_json(f"{self.name}: weights are read", sorted(self.forgotten))
        free = set(done[0]).intersection(*done[1:])
        self.forgotten -= free
        if free and self.processes.is_first:
            for name in free:
                shutil.rmtree(self.folder / name, ignore_errors=True)
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


def write_shards(folder: Path, leaves: Sequence[jax.Array], process: int) -> None:
    """Writes the first copy of each shard that is on a device of this process.

    Args:
        folder: that is there.
        leaves: arrays of all processes.
        process: index of this one.
    """
    known = []
    for number, leaf in enumerate(leaves):
        own = [shard for shard in leaf.addressable_shards if shard.replica_id == 0]
        for count, shard in enumerate(own):
            file = f"{number:05d}-{process}-{count}.npy"
            np.save(folder / file, np.asarray(shard.data))
            known.append([number, file, bounds_of(shard.index, leaf.shape)])
    (folder / f"{process}.json").write_text(json.dumps(known), encoding="utf-8")


def read_parts(folder: Path, processes: int) -> dict[int, list[Part]]:
    """The parts of each array, by its number, that the processes have written."""
    found: dict[int, list[Part]] = {}
    for process in range(processes):
        known = json.loads((folder / f"{process}.json").read_text(encoding="utf-8"))
        for number, file, bounds in known:
            found.setdefault(number, []).append(Part(folder / file, bounds))
    return found


def assembled(
    leaf: jax.ShapeDtypeStruct, parts: Sequence[Part], index: tuple[Any, ...]
) -> np.ndarray:
    """A slice of an array, from the parts that it meets."""
    wanted = bounds_of(index, leaf.shape)
    made = np.empty([stop - start for start, stop in wanted], leaf.dtype)
    for part in parts:
        common = [
            (max(start, first), min(stop, last))
            for (start, stop), (first, last) in zip(wanted, part.bounds, strict=True)
        ]
        if all(start < stop for start, stop in common):
            # NumPy's files know no bfloat16: its bytes are what they hold.
            held = np.load(part.file, mmap_mode="r", allow_pickle=False).view(leaf.dtype)
            made[_inside(common, wanted)] = held[_inside(common, part.bounds)]
    return made


def bounds_of(index: tuple[Any, ...], shape: Sequence[int]) -> list[list[int]]:
    """Slices of an array as numbers: first and last + 1 along each axis."""
    return [list(each.indices(size)[:2]) for each, size in zip(index, shape, strict=True)]


def _inside(common: Sequence[Sequence[int]], around: Sequence[Sequence[int]]) -> tuple[slice, ...]:
    return tuple(
        slice(start - first, stop - first)
        for (start, stop), (first, _) in zip(common, around, strict=True)
    )
