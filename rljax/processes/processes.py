"""The processes of a run, as one of them sees them."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any, Protocol

from rljax.commands.run import told
from rljax.commands.statuses import Status
from rljax.errors import reason
from rljax.processes.comparison import differences


class Channel(Protocol):
    """What connects a process with the others."""

    def exchange(self, name: str, payload: bytes) -> list[bytes]:
        """Gives every process what all of them sent under a name, by process."""

    def beat(self, what: str, *, compiles: bool) -> None:
        """Tells the watchdog that the process goes on."""

    def fail(self, status: int, reason: str) -> None:
        """Tells the others that this process ends with an error."""


class Processes:
    """The processes of a run. One process alone has no channel, and every call is trivial.

    All processes call the same methods with the same names, each name in the same order. Different
    names may be used from different threads at once. When another process fails, this one ends
    (lifeline.py): no call has to look for it.

    Attributes:
        index: of this process, from 0.
        count: of all processes.
    """

    def __init__(self, index: int = 0, count: int = 1, channel: Channel | None = None) -> None:
        self.index, self.count, self._channel = index, count, channel

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints what all of them have in common."""
        return self.index == 0

    def gather_bytes(self, name: str, payload: bytes) -> list[bytes]:
        """What every process gave, in the order of processes; every process gets all of it."""
        if self._channel is None:
            return [payload]
        return self._channel.exchange(name, payload)

    def gather_json(self, name: str, value: Any) -> list[Any]:
        """As `gather_bytes`, for values that JSON knows; tuples come back as lists."""
        payloads = self.gather_bytes(name, json.dumps(value).encode())
        return [json.loads(payload) for payload in payloads]

    def barrier(self, name: str) -> None:
        """Waits until every process is here."""
        self.gather_bytes(name, b"")

    def agree(self, signal: int | None) -> int | None:
        """The signal that any process got, the same for all; called once in every step.

        Args:
            signal: number that asks this process to stop, such as 15 (SIGTERM); None: none did.
        """
        if self._channel is None:
            return signal
        return max(self.gather_json("stop", signal or 0)) or None

    def same_on_all(self, what: str, facts: Any) -> None:
        """Checks that something is the same on every process.

        Args:
            what: the facts are, such as "the program of the train step".
            facts: a value that JSON knows, such as a digest, or a table of them.

        Raises:
            ValueError: on every process, naming who differs, and in what.
        """
        if self._channel is None:
            return
        if lines := differences(self.gather_json(f"same: {what}", facts)):
            raise ValueError(f"The processes differ in {what}: {'; '.join(lines)}.")

    def beat(self, what: str, *, compiles: bool = False) -> None:
        """Tells the watchdog that this process goes on, and with what.

        Args:
            what: begins now, such as "grpo step 12: update".
            compiles: it includes a compilation, which may take longer.
        """
        if self._channel is not None:
            self._channel.beat(what, compiles=compiles)

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Tells the others of an error as it is raised, and not only when it has cleaned up.

        To be put inside of whatever waits for the others in its cleaning up, as the writing of a
        checkpoint does: they would wait in a collective meanwhile.
        """
        try:
            yield
        except BaseException as error:
            if self._channel is not None:
                self._channel.fail(*end_of(error))
            raise


def end_of(error: BaseException) -> tuple[int, str]:
    """The exit status that an exception leads to, and what is said of it."""
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else Status.FAILED
        return status, f"it was asked to end with status {status}"
    status, line = told(error)
    return status, f"{type(error).__name__}: {reason(error)}" if status == Status.FAULT else line


# A run of one process.
ONE = Processes()
