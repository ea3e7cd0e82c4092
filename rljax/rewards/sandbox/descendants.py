"""Processes below this one: found through /proc, and ended."""

import contextlib
import os
import signal
import time


def children(process: int) -> list[int]:
    """The processes that this one has started or adopted, and not yet waited for."""
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{process}/task"):
            try:
                with open(f"/proc/{process}/task/{task}/children") as file:
                    found += map(int, file.read().split())
            except FileNotFoundError:  # the task has ended, or a kernel without this file
                if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
                    return _children_by_stat(process)
            except OSError:
                continue
    return found


def _children_by_stat(process: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
            if int(file.read().rpartition(")")[2].split()[1]) == process:
                found.append(int(name))
    return found


def kill(process: int) -> None:
    """Kills a child of this process."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def end_children(seconds: float = 10.0) -> None:
    """Kills all descendants of this process, which adopts orphans, and waits for them.

    Only children are killed: the number of one that was not waited for belongs to nobody else. Its
    own children are adopted by this process, and are next.

    Args:
        seconds: how long at most; processes that the kernel does not let go stay behind.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for child in children(os.getpid()):
            kill(child)
        try:
            process, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if process == 0:
            time.sleep(0.001)
