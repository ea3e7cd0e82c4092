"""Starts programs, watches them, and ends them: what a warden does of a run.

A run is one program, or two with a pipe each way between them. When the last one ends, so does the
run. A program finds its standard input, output and error, and:

| descriptor | of two programs |
| --- | --- |
| 3 | read what the other one writes |
| 4 | write to the other one |
| 5 | its report to the owner; of the last program only |
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from rljax.rewards.sandbox import watch
from rljax.rewards.sandbox.confinement import (
    ERRORS,
    FROM_OTHER,
    INPUT,
    OUTPUT,
    REPORT,
    TO_OTHER,
    Start,
    keep,
    read_status,
)
from rljax.rewards.sandbox.descendants import end_children
from rljax.rewards.sandbox.layers import Layers, user_of
from rljax.rewards.sandbox.limits import Ended, Limits, Program

_LOOK_SECONDS = 0.02  # between two looks at what a program uses
_LAST_OUTPUT_SECONDS = 0.5  # for what is in the pipes when all processes have ended
_REPORT_BYTES = 2**20


class Failed(NamedTuple):
    """A run that could not start, and why. It is nobody's verdict."""

    reason: str


class Running:
    """A program that runs: its keeper, its pipes, and what came out of them."""

    def __init__(
        self, program: Program, limits: Limits, layers: Layers, folder: str, others: dict[int, int]
    ) -> None:
        self.limits, self.layers, self.folder = limits, layers, folder
        self.content: dict[int, bytearray] = {}  # by descriptor of ours: what was read
        self.reason: str | None = None
        self.started = time.monotonic()
        number = int.from_bytes(os.urandom(4), "big")
        _make_folder(folder, program, user_of(number) if layers.own_user else None)
        held = {INPUT: _input_file(program.stdin), **others}
        ends = {}
        for name in (OUTPUT, ERRORS, REPORT) if REPORT in others else (OUTPUT, ERRORS):
            ends[name], held[name] = os.pipe()
        status, theirs = os.pipe()
        self.keeper = os.fork()
        if self.keeper == 0:
            keep(Start(program, limits, layers, folder, held, theirs, number))
        for descriptor in (theirs, *(held[name] for name in (INPUT, *ends))):
            os.close(descriptor)
        self.status, self.ends = status, ends
        for descriptor in (status, *ends.values()):
            os.set_blocking(descriptor, False)
            self.content[descriptor] = bytearray()
        self.open = {status, *ends.values()}

    def read(self, descriptor: int) -> None:
        """Takes what is there; too much of it is a reason to end the program."""
        try:
            piece = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        if not piece:
            self.open.discard(descriptor)
        kept = self.content[descriptor]
        kept += piece
        if descriptor == self.ends.get(REPORT):
            most = _REPORT_BYTES
        else:
            most = self.limits.output_kb * 1024
        written = sum(len(self.content[self.ends[name]]) for name in (OUTPUT, ERRORS))
        if len(kept) > most or written > self.limits.output_kb * 1024:
            self.reason = self.reason or "output"
            del kept[most:]

    def look(self) -> None:
        """Finds a reason to end the program, if there is one."""
        if self.reason is None and time.monotonic() - self.started > self.limits.seconds:
            self.reason = "timeout"
        if self.reason is None:
            use = watch.use_of(self.keeper, self.layers.helpers, self.folder, self.limits)
            self.reason = watch.beyond(use, self.limits)

    @property
    def over(self) -> bool:
        """The program has ended, or must."""
        return self.reason is not None or self.status not in self.open

    def ended(self) -> Ended | Failed:
        """How it ended, once nothing of it runs any more."""
        seconds = time.monotonic() - self.started
        status = read_status(bytes(self.content[self.status]))
        for descriptor in self.content:
            os.close(descriptor)
        if isinstance(status, str):
            return Failed(status)
        code = None if status is None else os.waitstatus_to_exitcode(status)
        if self.layers.command and code is not None and code > 128:
            code = 128 - code  # a launcher's way to say that a signal ended the program
        out, errors = (bytes(self.content[self.ends[name]]) for name in (OUTPUT, ERRORS))
        report = bytes(self.content[self.ends[REPORT]]) if REPORT in self.ends else b""
        return Ended(
            reason=self.reason or _reason(code, errors),
            exit_code=None if self.reason else code,
            seconds=seconds,
            stdout=out,
            stderr=errors,
            report=report,
        )


def _reason(code: int | None, errors: bytes) -> str:
    """Why a program ended by itself."""
    if code == 0:
        return "ok"
    if code == -signal.SIGXCPU:
        return "timeout"
    if code == -signal.SIGXFSZ:
        return "files"
    if code is None or code < 0:
        return "killed"
    lines = errors.strip().splitlines()
    return "memory" if lines and lines[-1].startswith(b"MemoryError") else "error"


def run(
    programs: list[Program], limits: Limits, layers: Layers, base: str, owner: int | None
) -> list[Ended] | Failed:
    """Runs one program, or two that are connected, until the last one ends.

    Args:
        programs: one or two.
        limits: of each.
        layers: what stands between them and the machine.
        base: folder in which each gets its own.
        owner: a descriptor that becomes readable when the owner has ended.
    """
    running = []
    try:
        running = _start(programs, limits, layers, base)
        while not (running[-1].over or any(one.reason for one in running)):
            _take(running, _LOOK_SECONDS, owner)
            for one in running:
                if not one.over:
                    one.look()
        for one in running:
            if not one.over:
                one.reason = "stopped"
        end_children()
        deadline = time.monotonic() + _LAST_OUTPUT_SECONDS
        while any(one.open for one in running) and time.monotonic() < deadline:
            _take(running, _LOOK_SECONDS, None)
    finally:
        end_children()
        for one in running:
            remove(one.folder)
    ended = [one.ended() for one in running]
    return next((one for one in ended if isinstance(one, Failed)), ended)


def _start(programs: list[Program], limits: Limits, layers: Layers, base: str) -> list[Running]:
    pipes = [os.pipe(), os.pipe()] if len(programs) == 2 else []
    running = []
    for index, program in enumerate(programs):
        others = {}
        if pipes:
            others = {FROM_OTHER: pipes[index][0], TO_OTHER: pipes[1 - index][1]}
        if index == len(programs) - 1:
            others[REPORT] = -1  # a pipe of its own
        folder = os.path.join(base, f"{index}-{os.urandom(8).hex()}")
        running.append(Running(program, limits, layers, folder, others))
    for pair in pipes:
        for descriptor in pair:
            os.close(descriptor)
    return running


def _take(running: list[Running], seconds: float, owner: int | None) -> None:
    """Waits for output of any program, and reads it.

    Raises:
        EOFError: the owner has ended.
    """
    of = {descriptor: one for one in running for descriptor in one.open}
    watched = [*of, *([] if owner is None else [owner])]
    for descriptor in select.select(watched, [], [], seconds)[0]:
        if descriptor == owner:
            raise EOFError("The owner has ended.")
        of[descriptor].read(descriptor)


def _input_file(content: bytes) -> int:
    """A file that can only be read."""
    if not content:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    file = os.memfd_create("input")
    with open(file, "wb", closefd=False) as writer:
        writer.write(content)
    reader = os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_CLOEXEC)
    os.close(file)
    return reader


def _make_folder(folder: str, program: Program, user: int | None) -> None:
    """A folder with the program's files, which nobody else can enter."""
    os.mkdir(folder, 0o700)
    for name, content in program.files.items():
        path = Path(folder) / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.write_bytes(content)
    if user is not None:
        for place in (folder, *map(str, Path(folder).rglob("*"))):
            os.chown(place, user, user)


def remove(folder: str) -> None:
    """Removes a folder, whatever a program made of it."""
    with contextlib.suppress(OSError, RecursionError):
        shutil.rmtree(folder)
        return
    # Folders without rights, or deeper than a path can say.
    for command in (["chmod", "-R", "u+rwx", folder], ["rm", "-rf", "--", folder]):
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
