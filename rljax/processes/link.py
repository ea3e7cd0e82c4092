"""What connects a process with the others: messages gathered, signs of life, and the end.

Process 0 is the hub (hub.py), every other process has one connection to it (member.py). What both
have in common is here. Threads of their own read, and give signs of life; the main thread may be
deep in a collective that never returns.
"""

import abc
import collections
import threading
import traceback
from collections.abc import Callable, Sequence

from rljax.commands.statuses import Status
from rljax.processes.ends import End, Person, Verdict
from rljax.processes.frames import MOST_PAYLOAD
from rljax.processes.settings import Settings
from rljax.processes.watchdog import Watchdog

BEAT_SECONDS = 1.0  # between two signs of life

Key = tuple[str, int]  # name of a gathering, and the how manieth it is


class Link(abc.ABC):
    """One end of the connections between processes.

    Args:
        index: of this process.
        people: all processes.
        settings: their limits in seconds.
        on_verdict: called in a thread of the link when all must end and the main thread does not
            wait for that; with the verdict, and whether the main thread is ending with an error.
    """

    def __init__(
        self,
        index: int,
        people: Sequence[Person],
        settings: Settings,
        on_verdict: Callable[[Verdict, bool], None],
    ) -> None:
        self.index, self.people, self.count = index, people, len(people)
        self.settings, self.on_verdict = settings, on_verdict
        self.watchdog = Watchdog(settings.step_seconds, settings.compile_seconds)
        self.verdict: Verdict | None = None
        self._changed = threading.Condition()
        self._calls: collections.Counter[str] = collections.Counter()
        self._gathered: dict[Key, list[bytes]] = {}
        self._reported = self._fails = self._waits_for_end = self._closed = False

    def exchange(self, name: str, payload: bytes) -> list[bytes]:
        """Gives what every process sent under a name, by process.

        Raises:
            ValueError: for a payload that is too large.
        """
        if len(payload) > MOST_PAYLOAD // self.count:
            raise ValueError(
                f"{self.count} processes may gather {MOST_PAYLOAD // self.count} bytes each, got "
                f"{len(payload)} for {name!r}."
            )
        with self._changed:
            key = (name, self._calls[name])
            self._calls[name] += 1
        self._give(key, payload)
        with self._changed:
            self._changed.wait_for(lambda: key in self._gathered)
            return self._gathered.pop(key)

    def beat(self, what: str, *, compiles: bool) -> None:
        """Tells the watchdog that the main thread goes on."""
        self.watchdog.beat(what, compiles=compiles)

    def fail(self, status: int, reason: str) -> None:
        """Tells the others at once that the main thread ends with an error, or was asked to."""
        with self._changed:
            self._fails = True
        self._report(status, reason)

    def finish(self, status: int, reason: str) -> Verdict:
        """Tells the others that this process is done, and waits until it is known how all end."""
        self.watchdog.rest("end")
        with self._changed:
            self._waits_for_end = True
        self._report(status, reason)
        with self._changed:
            self._changed.wait_for(lambda: self.verdict is not None)
            return self.verdict

    def _report(self, status: int, reason: str) -> None:
        """Only the first report counts."""
        with self._changed:
            first, self._reported = not self._reported, True
        if first:
            self._tell(End(self.index, int(status), reason))

    @abc.abstractmethod
    def close(self, seconds: float) -> None:
        """Ends the connections; the hub waits so long for the others to do so first."""

    @abc.abstractmethod
    def _give(self, key: Key, payload: bytes) -> None:
        """Hands over what this process sends."""

    @abc.abstractmethod
    def _tell(self, end: End) -> None:
        """Hands over how this process ends."""

    def _take(self, key: Key, payloads: list[bytes]) -> None:
        """Keeps what was gathered for the thread that waits for it."""
        with self._changed:
            self._gathered[key] = payloads
            self._changed.notify_all()

    def _decide(self, verdict: Verdict) -> None:
        """Keeps the verdict, and ends the process unless the main thread does so."""
        with self._changed:
            if self.verdict is not None:
                return
            self.verdict = verdict
            waits, fails = self._waits_for_end, self._fails
            self._changed.notify_all()
        if not waits:
            self.on_verdict(verdict, fails)

    def _check_watchdog(self) -> None:
        if reason := self.watchdog.late():
            self._report(Status.RESTART, reason)

    def _start(self, *loops: Callable[[], None]) -> list[threading.Thread]:
        """Starts threads that end with the process; it ends if one of them fails."""

        def guarded(loop: Callable[[], None]) -> None:
            try:
                loop()
            except BaseException as error:
                traceback.print_exc()
                self._decide(Verdict(End(self.index, Status.FAULT, f"a thread failed: {error!r}")))

        threads = [threading.Thread(target=guarded, args=(loop,), daemon=True) for loop in loops]
        for thread in threads:
            thread.start()
        return threads


def joined(payloads: Sequence[bytes]) -> tuple[bytes, list[int]]:
    """Payloads in a row, and the size of each."""
    return b"".join(payloads), [len(payload) for payload in payloads]


def parted(payload: bytes, sizes: Sequence[int]) -> list[bytes]:
    """The reverse of `joined`."""
    parts, start = [], 0
    for size in sizes:
        parts.append(payload[start : start + size])
        start += size
    return parts
