"""One process of a run, or several beside each other: started, killed, and how they ended."""

import contextlib
import os
import random
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rljax.chaos.marks import START, Mark, MarkReader, phase_at
from rljax.chaos.plan import FLIP, FULL, Kill
from rljax.training.run.phases import MARKS_VARIABLE

POLL_SECONDS = 0.001

# After the end of the processes that were started, until all that they have started is gone too.
ORPHAN_SECONDS = 10.0


class Outcome(NamedTuple):
    """How an attempt ended."""

    status: int  # of the command; minus the number of a signal that ended it
    output: str  # both streams
    marks: list[Mark]
    began: float  # seconds since 1970
    seconds: float
    hit: str | None  # the phase in which it was hit; None: it ended before that
    timed_out: bool
    orphans: list[str]  # what was left behind and had to be ended here


@contextlib.contextmanager
def hearing_interrupts() -> Iterator[None]:
    """What is started meanwhile hears SIGINT, also where this process was told not to (nohup)."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def attempt(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    kill: Kill | None = None,
    timeout: float,
    chosen: random.Random | None = None,
) -> Outcome:
    """Runs a command to its end, which a kill may bring.

    Args:
        command: words.
        environment: of the processes.
        kill: None lets it end by itself.
        timeout: seconds until all of it is ended, as hanging.
        chosen: draws one of several processes in the phase that is hit.
    """
    with tempfile.TemporaryDirectory(prefix="rljax-chaos-") as folder:
        marks_path, output_path = Path(folder) / "marks", Path(folder) / "output"
        variables = {**environment, MARKS_VARIABLE: str(marks_path)}
        began, started = time.time(), time.monotonic()
        with open(output_path, "wb") as output, hearing_interrupts():
            process = subprocess.Popen(
                command, env=variables, stdout=output, stderr=subprocess.STDOUT
            )
        reader = MarkReader(marks_path)
        killer = Killer(kill, process, reader, chosen or random.Random(0))
        until = started + timeout
        try:
            while process.poll() is None and time.monotonic() < until:
                killer.look()
                time.sleep(POLL_SECONDS)
        finally:  # also after a Ctrl-C: nothing goes on
            timed_out = process.poll() is None
            process.kill()
            process.wait()
            seconds = time.monotonic() - started
            orphans = end_orphans(str(marks_path))
        killer.marks += reader.new()
        return Outcome(
            status=process.returncode,
            output=output_path.read_text(errors="replace"),
            marks=killer.marks,
            began=began,
            seconds=seconds,
            hit=killer.hit(),
            timed_out=timed_out,
            orphans=orphans,
        )


class Killer:
    """Waits for the moment of a kill."""

    def __init__(
        self,
        kill: Kill | None,
        process: subprocess.Popen,
        reader: MarkReader,
        chosen: random.Random,
    ) -> None:
        """Watches the marks of a process, or of those that it starts."""
        self.kill, self.process, self.reader, self.chosen = kill, process, reader, chosen
        self.marks: list[Mark] = []
        self.victim: int | None = None
        self.due: float | None = None
        self.sent: float | None = None  # seconds since 1970
        self._seen: dict[int, int] = {}  # occurrences by process
        if kill is not None and kill.phase == START:
            self.due = time.monotonic() + kill.delay

    def look(self) -> None:
        """Reads new marks, and kills if it is time."""
        new = self.reader.new()
        self.marks += new
        if self.kill is None or self.sent is not None:
            return
        for mark in new if self.due is None else ():
            if mark.name == self.kill.phase:
                self._seen[mark.process] = self._seen.get(mark.process, 0) + 1
                if self._seen[mark.process] == self.kill.occurrence:
                    self.victim = self._victim(mark.process)
                    self.due = time.monotonic() + self.kill.delay
                    break
        if self.due is not None and time.monotonic() >= self.due:
            self._strike()

    def hit(self) -> str | None:
        """The phase in which the process was hit."""
        if self.sent is None or self.kill is None or self.victim is None:
            return None
        return phase_at(self.marks, self.victim, self.sent, self.kill.phase)

    def _victim(self, marked: int) -> int:
        """The process that is hit: one chosen of those that do the same at the same time."""
        beside = [pid for pid in children(self.process.pid) if pid == marked or self._seen.get(pid)]
        return self.chosen.choice(beside) if len(beside) > 1 else marked

    def _strike(self) -> None:
        if self.victim is None:  # of the start: no process has said anything yet
            self.victim = self.chosen.choice(children(self.process.pid) or [self.process.pid])
        try:
            if self.kill.signal == FULL:
                _, most = resource.prlimit(self.victim, resource.RLIMIT_FSIZE)
                resource.prlimit(self.victim, resource.RLIMIT_FSIZE, (0, most))
            else:
                name = "SIGKILL" if self.kill.signal == FLIP else self.kill.signal
                os.kill(self.victim, signal.Signals[name])
        except ProcessLookupError:  # it ended in this moment
            self.kill = None
            return
        self.sent = time.time()


def children(parent: int) -> list[int]:
    """The Python processes that a process has started itself and that train; none for a single one.

    Only a command that starts others, launch/hosts.py, has them as its children: the reward workers
    of a single process are no processes of the run.
    """
    if "hosts.py" not in _command(parent):
        return []
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[1]) == parent:
            found.append(int(folder.name))
    return found


def end_orphans(token: str) -> list[str]:
    """Ends processes whose environment holds a text; returns the commands of those that stayed.

    Processes that are about to end get some time for it.
    """
    until = time.monotonic() + ORPHAN_SECONDS
    while (left := _with_environment(token)) and time.monotonic() < until:
        time.sleep(0.05)
    orphans = []
    for pid in left:
        orphans.append(f"{pid} {_command(pid)}"[:200])
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return orphans


def _with_environment(token: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if token.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # of another user, or it has just ended
            continue
    return found


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return ""
    return words.replace(b"\0", b" ").decode(errors="replace")
