"""Several processes on this machine, as a pod has them on many: for a laptop and for tests.

Each is told who it is by RLJAX_* variables, and leads a group of its own. Its lines come with its
number. Nothing of it outlives this process: at the end each group is killed, and where this process
itself is killed the kernel ends the others (Linux).
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, NamedTuple

from rljax.commands.statuses import CALM, Status

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LOOK_SECONDS = 0.1
PR_SET_PDEATHSIG = 1  # of prctl(2)
DEVICES_FLAG = "--xla_force_host_platform_device_count"
# Lines that all processes have in common are shown once.
COMMON = ("note: ", "error: ")
# What gloo says of every connection that works.
NOISE = " peer ranks. Expected number of connected peer ranks is : "


class Plan(NamedTuple):
    """What is started.

    Attributes:
        command: of every process.
        processes: how many.
        devices: fake CPU devices of each; None for the devices of the machine.
        port: of jax's coordinator; the next one is that of the roll call.
        wait_seconds: that the others have to end after one has failed, before they are killed.
    """

    command: Sequence[str]
    processes: int
    devices: int | None
    port: int
    wait_seconds: float


def run_locally(plan: Plan, environ: Mapping[str, str]) -> int:
    """Starts the processes, passes their lines and our signals on, and waits for all.

    Returns:
        The exit status of them together (`status_of_all`).
    """
    screen = Screen()
    children: list[subprocess.Popen] = []
    with noted_signals() as signals:
        try:
            for index in range(plan.processes):
                children.append(_start(plan, index, environ))
            readers = [_read(index, child, screen) for index, child in enumerate(children)]
            _wait(children, plan.wait_seconds, signals)
        finally:
            for child in children:
                kill_group(child)
    for reader in readers:
        reader.join()
    status = status_of_all([child.returncode for child in children])
    if status != Status.DONE:
        ends = "; ".join(f"process {i} {said(c.returncode)}" for i, c in enumerate(children))
        print(f"{ends}; exit status {status}", file=sys.stderr)
    return status


def status_of_all(codes: Sequence[int]) -> int:
    """One exit status for several.

    An error that a user must mend counts before a fault, that before lost machines, and these
    before signals that asked for the end. A process that was killed is a lost one.

    Args:
        codes: of subprocess, negative for a signal.
    """
    asked = {-signal.SIGTERM: Status.TERMINATED, -signal.SIGINT: Status.INTERRUPTED}
    known = [asked.get(code, Status.RESTART) if code < 0 else code for code in codes]
    order = (Status.FAILED, Status.FAULT, *sorted(set(known) - set(Status)), Status.RESTART)
    for status in (*order, Status.INTERRUPTED, Status.TERMINATED, Status.CLOSED):
        if status in known:
            return int(status)
    return int(Status.DONE)


def said(code: int) -> str:
    """How a process has ended, in words."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with {code}"


def free_ports() -> int:
    """A port that is free on this machine, and so is the one after it."""
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_server(("", 0)) as first:
            port = first.getsockname()[1]
            with socket.create_server(("", port + 1)):
                return port
    raise ValueError("No two free ports in a row were found; name one (--port).")


def environment_of(plan: Plan, index: int, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of one process."""
    made = {
        **environ,
        "RLJAX_PROCESSES": str(plan.processes),
        "RLJAX_PROCESS_ID": str(index),
        "RLJAX_COORDINATOR": f"127.0.0.1:{plan.port}",
        "PYTHONUNBUFFERED": "1",
    }
    if plan.devices is not None:
        flags = environ.get("XLA_FLAGS", "").split()
        kept = [flag for flag in flags if not flag.startswith(DEVICES_FLAG)]
        made["XLA_FLAGS"] = " ".join([*kept, f"{DEVICES_FLAG}={plan.devices}"])
        made["JAX_PLATFORMS"] = "cpu"
    return made


class Screen:
    """Where the lines of all processes go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[str, int] = {}  # common line -> the process that said it first

    def show(self, index: int, line: str, stream: IO[str]) -> None:
        """Writes a line of a process, unless another one has said the same to the user."""
        if NOISE in line:
            return
        with self._lock:
            if line.startswith(COMMON) and self._seen.setdefault(line, index) != index:
                return
            with contextlib.suppress(BrokenPipeError):  # whoever read this has gone; go on
                stream.write(f"[{index}] {line}\n")
                stream.flush()


@contextlib.contextmanager
def noted_signals() -> Iterator[list[int]]:
    """Meanwhile signals to this process are noted, to be passed on."""
    noted: list[int] = []
    handlers = {n: signal.signal(n, lambda number, frame: noted.append(number)) for n in PASSED_ON}
    try:
        yield noted
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _start(plan: Plan, index: int, environ: Mapping[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        plan.command,
        env=environment_of(plan, index, environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=starts_in(),
    )


def starts_in(cores: Sequence[int] | None = None) -> Callable[[], None] | None:
    """What a child calls first, so that the kernel kills it when its parent ends.

    Args:
        cores: that the child and all that it starts may use; None for those of this process.
    """
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if cores is not None:
            os.sched_setaffinity(0, cores)
        if os.getppid() != parent:  # it ended before it could be asked for
            os._exit(Status.RESTART)

    return ask


def _read(index: int, child: subprocess.Popen, screen: Screen) -> threading.Thread:
    """Shows both streams of a process in a thread, which ends with them."""

    def read(source: IO[bytes], stream: IO[str]) -> None:
        for line in source:
            screen.show(index, line.decode(errors="replace").rstrip("\r\n"), stream)

    def both() -> None:
        errors = threading.Thread(target=read, args=(child.stderr, sys.stderr), daemon=True)
        errors.start()
        read(child.stdout, sys.stdout)
        errors.join()

    thread = threading.Thread(target=both, daemon=True)
    thread.start()
    return thread


def _wait(children: Sequence[subprocess.Popen], wait_seconds: float, signals: list[int]) -> None:
    """Waits until all have ended; after a failure of one, only so long.

    Meanwhile it passes signals on to all, who save and end.
    """
    until = None
    while any(child.poll() is None for child in children):
        while signals:
            number = signals.pop(0)
            for child in children:
                child.send_signal(number)  # nothing happens to one that has ended
        failed = any(child.returncode not in (None, *CALM) for child in children)
        if failed and until is None:
            until = time.monotonic() + wait_seconds
        if until is not None and time.monotonic() > until:
            return
        time.sleep(LOOK_SECONDS)


def kill_group(child: subprocess.Popen) -> None:
    """Ends a process with all that it has left in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
