"""Processes beside each other, one in each slot: logged, ended early, stopped by our signals."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from rljax.comparison.sweeps.slots import Slot
from rljax.processes.local import kill_group, noted_signals, starts_in

LOOK_SECONDS = 0.25


class Job(NamedTuple):
    """One process.

    Attributes:
        name: of it.
        command: its words.
        log: takes both of its streams, behind what is there.
        enough: asked now and then; once it says so, the process gets SIGTERM, saves and ends.
    """

    name: str
    command: Sequence[str]
    log: Path
    enough: Callable[[], bool] | None = None


class Ended(NamedTuple):
    """How a process has ended: its exit status, and whether it had done enough before."""

    code: int
    enough: bool


class _Running(NamedTuple):
    job: Job
    process: subprocess.Popen
    asked: list[bool]  # grows once it was told to end


def run_side_by_side(
    jobs: Sequence[Job],
    slots: Sequence[Slot],
    began: Callable[[str], None],
    ended: Callable[[str, Ended], None],
) -> int | None:
    """Runs all jobs, as many beside each other as there are slots.

    Args:
        jobs: in the order in which they begin.
        slots: each holds one process at a time.
        began: is told the name of a job.
        ended: is told how a job has ended.

    Returns:
        The signal that ended all of it, if one did.
    """
    waiting, running = list(jobs), dict[Slot | int, _Running]()
    stopped: int | None = None
    with noted_signals() as signals:
        try:
            while waiting or running:
                if signals:
                    stopped, waiting = signals.pop(0), []
                    for each in running.values():
                        each.process.send_signal(stopped)
                for index, slot in enumerate(slots):
                    if waiting and index not in running:
                        job = waiting.pop(0)
                        began(job.name)
                        running[index] = _Running(job, _start(job, slot), [])
                for index, each in list(running.items()):
                    _look(each)
                    if each.process.poll() is not None:
                        del running[index]
                        kill_group(each.process)  # what it has left behind
                        if stopped is None:
                            ended(each.job.name, Ended(each.process.returncode, bool(each.asked)))
                time.sleep(LOOK_SECONDS)
        finally:
            for each in running.values():
                kill_group(each.process)
    return stopped


def _start(job: Job, slot: Slot) -> subprocess.Popen:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "ab") as log:
        return subprocess.Popen(
            job.command,
            env=slot.environment({**os.environ, "PYTHONUNBUFFERED": "1"}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=starts_in(slot.cores),
        )


def _look(each: _Running) -> None:
    """Tells a process to end once it has done enough."""
    if each.asked or each.job.enough is None or each.process.poll() is not None:
        return
    if each.job.enough():
        each.asked.append(True)
        with contextlib.suppress(ProcessLookupError):
            each.process.send_signal(signal.SIGTERM)


def last_error(log: Path) -> str:
    """What a process has said last of why it failed."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or [line for line in lines if line.strip()] or [""])[-1][:400]


def python(file: Path) -> list[str]:
    """The words that run a Python file."""
    return [sys.executable, str(file)]
