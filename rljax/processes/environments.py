"""What starts processes, and the variables by which it tells each of them who it is.

The first of `SOURCES` whose variables are set counts: our own launcher, Open MPI, Slurm, GKE, a
JobSet of Kubernetes, a Cloud TPU machine.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from rljax.errors import shown

Environ = Mapping[str, str]


class Found(NamedTuple):
    """What an environment says; None or "" for what it leaves open."""

    source: str
    index: int | None = None
    count: int | None = None
    host: str = ""
    port: int | None = None


def found_in(environ: Environ, metadata: Callable[[str], str | None]) -> Found | None:
    """What the first environment that is there says; None where there is none.

    Raises:
        ValueError: for a variable that should hold a number, or is missing beside others.
    """
    for source in SOURCES:
        if found := source(environ):
            return found
    return cloud_tpu(environ, metadata) if uses_tpu(environ) else None


def launcher(environ: Environ) -> Found | None:
    """launch/hosts.py, and whoever sets RLJAX_PROCESSES, RLJAX_PROCESS_ID, RLJAX_COORDINATOR."""
    if not any(name in environ for name in LAUNCHER):
        return None
    host, port = host_and_port(environ.get("RLJAX_COORDINATOR", ""), "RLJAX_COORDINATOR")
    return Found(
        "RLJAX_PROCESSES, RLJAX_PROCESS_ID, RLJAX_COORDINATOR",
        _whole(environ, "RLJAX_PROCESS_ID"),
        _whole(environ, "RLJAX_PROCESSES"),
        host,
        port,
    )


def open_mpi(environ: Environ) -> Found | None:
    """mpirun of Open MPI. Since version 5 it does not say where process 0 runs."""
    if "OMPI_COMM_WORLD_SIZE" not in environ:
        return None
    address = re.search(
        r"tcp://([^,:]+)|tcp6://\[([^,\]]+)", environ.get("OMPI_MCA_orte_hnp_uri", "")
    )
    return Found(
        "Open MPI (OMPI_COMM_WORLD_SIZE, OMPI_COMM_WORLD_RANK)",
        _whole(environ, "OMPI_COMM_WORLD_RANK"),
        _whole(environ, "OMPI_COMM_WORLD_SIZE"),
        (address[1] or address[2]) if address else "",
    )


def slurm(environ: Environ) -> Found | None:
    """A step of Slurm, started by srun. A batch script without srun is one process."""
    if "SLURM_STEP_NODELIST" not in environ or "SLURM_PROCID" not in environ:
        return None
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environ else "SLURM_NTASKS"
    return Found(
        f"Slurm ({tasks}, SLURM_PROCID, SLURM_STEP_NODELIST)",
        _whole(environ, "SLURM_PROCID"),
        _whole(environ, tasks),
        first_host(environ["SLURM_STEP_NODELIST"]),
    )


def gke_tpu(environ: Environ) -> Found | None:
    """TPU slices of GKE; with several slices the MEGASCALE variables count them."""
    workers = environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES", "")
    if not workers or not uses_tpu(environ):
        return None
    return _slices(
        "GKE (TPU_WORKER_HOSTNAMES, TPU_WORKER_ID)",
        [name.strip() for name in workers.split(",") if name.strip()],
        _whole(environ, "TPU_WORKER_ID"),
        environ,
    )


def jobset(environ: Environ) -> Found | None:
    """An indexed job of a JobSet, whose service gives pod 0 a name. The count is not told."""
    needed = ("JOBSET_NAME", "REPLICATED_JOB_NAME", "JOB_COMPLETION_INDEX")
    if not all(name in environ for name in needed):
        return None
    name, job = environ["JOBSET_NAME"], environ["REPLICATED_JOB_NAME"]
    if (_whole(environ, "JOB_INDEX") or 0) > 0:
        raise ValueError(
            f"This pod is of job {environ['JOB_INDEX']} of {job!r}, and only one job of a JobSet "
            "can be numbered by itself: set RLJAX_PROCESS_ID, RLJAX_PROCESSES and "
            "RLJAX_COORDINATOR (JOB_INDEX)."
        )
    return Found(
        "JobSet (JOBSET_NAME, REPLICATED_JOB_NAME, JOB_COMPLETION_INDEX)",
        _whole(environ, "JOB_COMPLETION_INDEX"),
        None,
        f"{name}-{job}-0-0.{name}",
    )


def cloud_tpu(environ: Environ, metadata: Callable[[str], str | None]) -> Found | None:
    """A Cloud TPU machine, whose metadata server knows the slice."""
    if "TPU_SKIP_MDS_QUERY" in environ:
        return None
    endpoints = metadata("worker-network-endpoints")
    if not endpoints:
        return None
    said = {"TPU_WORKER_ID": metadata("agent-worker-number") or ""}
    slices = tpu_env(metadata("tpu-env") or "")
    source = "the metadata server (agent-worker-number, worker-network-endpoints)"
    workers = [endpoint.split(":")[-1] for endpoint in endpoints.split(",")]
    return _slices(source, workers, _whole(said, "TPU_WORKER_ID"), {**slices, **environ})


LAUNCHER = ("RLJAX_PROCESSES", "RLJAX_PROCESS_ID", "RLJAX_COORDINATOR")
SOURCES = (launcher, open_mpi, slurm, gke_tpu, jobset)


def uses_tpu(environ: Environ) -> bool:
    """Whether JAX_PLATFORMS lets jax take TPUs."""
    platforms = environ.get("JAX_PLATFORMS", "")
    return not platforms or "tpu" in platforms.split(",")


def tpu_env(text: str) -> dict[str, str]:
    """The lines "KEY: 'value'" of the attribute tpu-env."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip().strip("'") for key, colon, value in pairs if colon}


def first_host(nodes: str) -> str:
    """The first host of a list such as "gpu[007-011,020],login1"; ranges may be several."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)[0]
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", first)


def host_and_port(address: str, where: str) -> tuple[str, int | None]:
    """("host", port) of "host:port", "[v6]:port", or a host alone.

    Raises:
        ValueError: for a port that is none; `where` it was read is named.
    """
    if not address:
        return "", None
    match = re.fullmatch(r"\[([^\]]+)\](?::(\d{1,5}))?|([^:\s]+)(?::(\d{1,5}))?", address)
    if not match:
        raise ValueError(f"{where} must be HOST:PORT, got {shown(address)} ({where}).")
    host, port = match[1] or match[3], match[2] or match[4]
    return host, int(port) if port else None


def _slices(source: str, workers: list[str], worker: int | None, environ: Environ) -> Found:
    """Processes of one or several slices of equal size; process 0 is worker 0 of slice 0."""
    slices = _whole(environ, "MEGASCALE_NUM_SLICES") or 1
    slice_id = _whole(environ, "MEGASCALE_SLICE_ID") or 0
    host = workers[0]
    if slices > 1:
        source += ", MEGASCALE_NUM_SLICES, MEGASCALE_SLICE_ID"
        host, _ = host_and_port(
            environ.get("MEGASCALE_COORDINATOR_ADDRESS", ""), "MEGASCALE_COORDINATOR_ADDRESS"
        )
    index = None if worker is None else worker + slice_id * len(workers)
    host, _ = host_and_port(host, "TPU_WORKER_HOSTNAMES") if host else ("", None)
    return Found(source, index, slices * len(workers), host)


def _whole(environ: Environ, name: str) -> int | None:
    """A variable that holds a number from 0; None where it is not set."""
    text = environ.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise ValueError(f"{name} must be a whole number from 0, got {shown(text)} ({name}).")
    return int(text)
