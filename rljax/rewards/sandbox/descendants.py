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
    running = map(int, filter(str.isdigit, os.listdir("/proc")))
    return [child for child in running if parent_of(child) == process]


def parent_of(process: int) -> int | None:
    """The parent of a process; None if there is no such process any more."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return None


def end_children(seconds: float = 10.0) -> None:
    """Kills all descendants of this process, which adopts orphans, and waits for them.

    They are stopped first: a process that is stopped keeps its place in the limit of processes, so
    that those of a fork bomb run out of places. Then only children are killed: the number of one
    that was not waited for belongs to nobody else. Its own children are adopted by this process,
    and are next.

    Args:
        seconds: how long at most; processes that the kernel does not let go stay behind.
    """
    deadline = time.monotonic() + seconds
    stopped: set[int] = set()
    while _stop_others(stopped) and time.monotonic() < deadline:
        pass
    while time.monotonic() < deadline:
        for child in children(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def _stop_others(stopped: set[int]) -> bool:
    """Stops the descendants that are not in the set, and adds them; whether there were any."""
    found, level = False, [os.getpid()]
    while level:
        parent = level.pop()
        for child in children(parent):
            level.append(child)
            if child not in stopped:
                _stop(child, parent)
                stopped.add(child)
                found = True
    return found


def _stop(process: int, parent: int) -> None:
    """Stops a process if it is still this parent's, or has been adopted by us."""
    try:
        handle = os.pidfd_open(process)
    except OSError:  # it has ended, or the kernel is older than Linux 5.3
        return
    # The handle is that of the process whose parent is read: numbers are given out again.
    with contextlib.suppress(OSError):
        if parent_of(process) in (parent, os.getpid()):
            signal.pidfd_send_signal(handle, signal.SIGSTOP)
    os.close(handle)
