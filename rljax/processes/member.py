"""Every process but the first: it sends to process 0, and hears from it."""

import contextlib
import time
from collections.abc import Callable, Sequence

from rljax.commands.statuses import Status
from rljax.processes.ends import End, Person, Verdict
from rljax.processes.frames import BrokenLine, Line, Message
from rljax.processes.link import BEAT_SECONDS, Key, Link, parted
from rljax.processes.settings import Settings


class Member(Link):
    """The link of a process that is not the first.

    Args:
        index: of this process.
        people: all processes.
        line: to process 0.
        settings: limits in seconds.
        on_verdict: as of `Link`.
    """

    def __init__(
        self,
        index: int,
        people: Sequence[Person],
        line: Line,
        settings: Settings,
        on_verdict: Callable[[Verdict, bool], None],
    ) -> None:
        super().__init__(index, people, settings, on_verdict)
        self._line, self._heard = line, time.monotonic()
        line.limit(settings.lost_seconds)
        self._start(self._read, self._beat)

    def close(self, seconds: float) -> None:
        """Closes the connection at once."""
        self._closed = True
        self._line.close()

    def _give(self, key: Key, payload: bytes) -> None:
        self._send("gather", payload, name=key[0], number=key[1])

    def _tell(self, end: End) -> None:
        self._send("end", status=end.status, reason=end.reason)

    def _send(self, kind: str, payload: bytes = b"", **fields: object) -> None:
        with contextlib.suppress(BrokenLine):  # the thread that reads hears of it, too
            self._line.send(kind, payload, **fields)

    def _read(self) -> None:
        try:
            while True:
                self._hear(self._line.receive())
        except BrokenLine as error:
            self._lost(str(error))

    def _hear(self, message: Message) -> None:
        fields = message.fields
        self._heard = time.monotonic()
        if message.kind == "gathered":
            payloads = parted(message.payload, fields["sizes"])
            self._take((fields["name"], fields["number"]), payloads)
        elif message.kind == "verdict":
            self._decide(Verdict(End(*fields["end"]), tuple(fields["doing"])))

    def _beat(self) -> None:
        while not self._closed:
            doing, seconds = self.watchdog.doing()
            self._send("beat", doing=doing, seconds=seconds)
            self._check_watchdog()
            silent = time.monotonic() - self._heard
            if silent > self.settings.lost_seconds:
                self._lost(f"no sign of life for {silent:.0f} s")
            time.sleep(BEAT_SECONDS)

    def _lost(self, reason: str) -> None:
        """Process 0 has gone, and with it the one that could say more."""
        if not self._closed:
            self._decide(Verdict(End(0, Status.RESTART, f"lost: {reason}", lost=True)))
