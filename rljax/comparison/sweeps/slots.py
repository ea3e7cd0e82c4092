"""The cores and devices of a machine shared out among runs beside each other."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

GPUS = "CUDA_VISIBLE_DEVICES"


class Slot(NamedTuple):
    """What one run at a time may use.

    Attributes:
        cores: of the CPU.
        gpus: their names, as CUDA_VISIBLE_DEVICES has them; none: this variable stays as it is.
    """

    cores: tuple[int, ...]
    gpus: tuple[str, ...] = ()

    def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The variables of a process in this slot."""
        return {**environ, GPUS: ",".join(self.gpus)} if self.gpus else dict(environ)


def slots(count: int, cores: Sequence[int], gpus: Sequence[str], tpus: int) -> tuple[Slot, ...]:
    """Shares a machine out; every core and every GPU is in one slot, unless there are too few.

    Args:
        count: of runs beside each other.
        cores: of the machine; with fewer than `count`, slots share them in turn.
        gpus: of the machine.
        tpus: chips of the machine.

    Raises:
        ValueError: if there are fewer GPUs than slots, or TPUs, which one process takes whole.
    """
    if count > 1 and tpus:
        raise ValueError(
            f"One process takes all {tpus} TPU chips of a machine: --parallel=1, or --render for "
            "a job of each cell (--parallel)."
        )
    if gpus and count > len(gpus):
        raise ValueError(
            f"{count} runs beside each other need as many GPUs, got {len(gpus)}: "
            f"{', '.join(gpus)} (--parallel)."
        )
    return tuple(
        Slot(tuple(cores[index::count]) or (cores[index % len(cores)],), tuple(gpus[index::count]))
        for index in range(count)
    )


def slots_here(count: int) -> tuple[Slot, ...]:
    """The slots of this machine."""
    cpu = os.environ.get("JAX_PLATFORMS") == "cpu"
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    cores = cores or list(range(os.cpu_count() or 1))
    return slots(count, cores, () if cpu else _gpus(), 0 if cpu else _tpus())


def _gpus() -> tuple[str, ...]:
    """Those that this process may see."""
    given = os.environ.get(GPUS)
    if given is not None:
        return tuple(name for name in given.split(",") if name)
    found = [path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*")]
    return tuple(sorted(found, key=int))


def _tpus() -> int:
    return len([*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*")])
