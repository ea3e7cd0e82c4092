"""Process 0: it gathers what all send, hears who is alive, and says how all end."""

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence

from rljax.commands.statuses import CALM, Status
from rljax.processes.ends import End, Person, Verdict, deciding_end
from rljax.processes.frames import BrokenLine, Line, Message
from rljax.processes.link import BEAT_SECONDS, Key, Link, joined
from rljax.processes.settings import Settings

SUSPECT_SECONDS = 5.0  # of silence, once another process has failed
LOOK_SECONDS = 0.2  # between two looks at who has ended or is silent


class Hub(Link):
    """The link of process 0.

    Args:
        people: all processes.
        lines: to the others, by their index.
        settings: limits in seconds.
        on_verdict: as of `Link`.
    """

    def __init__(
        self,
        people: Sequence[Person],
        lines: Mapping[int, Line],
        settings: Settings,
        on_verdict: Callable[[Verdict, bool], None],
    ) -> None:
        super().__init__(0, people, settings, on_verdict)
        self._lines = lines
        self._rounds: dict[Key, dict[int, bytes]] = {}
        self._ends: list[End] = []
        self._failed_at: float | None = None
        self._doing = {index: ("start", 0.0) for index in lines}
        self._heard = dict.fromkeys(lines, time.monotonic())
        for line in lines.values():
            line.limit(settings.lost_seconds)
        reads = [functools.partial(self._read, index, line) for index, line in lines.items()]
        self._readers = dict(zip(lines, self._start(*reads), strict=True))
        self._start(self._judge, self._beat)

    def close(self, seconds: float) -> None:
        """Waits until the others have closed their ends: what they were told has then arrived."""
        self._closed = True
        until = time.monotonic() + seconds
        lost = {end.index for end in self._ends if end.lost}
        for index, reader in self._readers.items():
            if index not in lost:
                reader.join(max(0.0, until - time.monotonic()))
        for line in self._lines.values():
            line.close()

    def _give(self, key: Key, payload: bytes) -> None:
        self._put(0, key, payload)

    def _tell(self, end: End) -> None:
        self._add(end)

    def _put(self, index: int, key: Key, payload: bytes) -> None:
        """Keeps what a process sent; sends it on when it is the last one."""
        with self._changed:
            arrived = self._rounds.setdefault(key, {})
            arrived[index] = payload
            if len(arrived) < self.count:
                return
            del self._rounds[key]
        payloads = [arrived[i] for i in range(self.count)]
        together, sizes = joined(payloads)
        self._send_all("gathered", together, name=key[0], number=key[1], sizes=sizes)
        self._take(key, payloads)

    def _send_all(self, kind: str, payload: bytes = b"", **fields: object) -> None:
        for line in self._lines.values():
            with contextlib.suppress(BrokenLine):  # its reader hears of it, too
                line.send(kind, payload, **fields)

    def _add(self, end: End) -> None:
        with self._changed:
            if end.index in {known.index for known in self._ends}:
                return
            self._ends.append(end)
            if end.status not in CALM and self._failed_at is None:
                self._failed_at = time.monotonic()
            self._changed.notify_all()

    def _read(self, index: int, line: Line) -> None:
        """Hears one process until its connection ends."""
        try:
            while True:
                self._hear(index, line.receive())
        except BrokenLine as error:
            self._add(End(index, Status.RESTART, f"lost: {error}", lost=True))

    def _hear(self, index: int, message: Message) -> None:
        fields = message.fields
        self._heard[index] = time.monotonic()
        if message.kind == "beat":
            self._doing[index] = (fields["doing"], time.monotonic() - fields["seconds"])
        elif message.kind == "gather":
            self._put(index, (fields["name"], fields["number"]), message.payload)
        elif message.kind == "end":
            self._add(End(index, fields["status"], fields["reason"]))

    def _beat(self) -> None:
        while not self._closed:
            self._send_all("beat")
            self._check_watchdog()
            time.sleep(BEAT_SECONDS)

    def _judge(self) -> None:
        """Waits for the end that counts, and tells it to all."""
        while not self._closed:
            self._find_silent()
            with self._changed:
                now = time.monotonic()
                failed_seconds = now - self._failed_at if self._failed_at else 0.0
                found = deciding_end(
                    self._ends,
                    self.count,
                    failed_seconds=failed_seconds,
                    awaited=self._awaited(),
                )
                if found is None:
                    self._changed.wait(LOOK_SECONDS)
                    continue
            verdict = Verdict(found, self._table())
            self._send_all("verdict", end=list(found), doing=list(verdict.doing))
            return self._decide(verdict)

    def _awaited(self) -> set[int]:
        """Processes for whose message another one waits."""
        everyone = set(range(self.count))
        return {index for arrived in self._rounds.values() for index in everyone - arrived.keys()}

    def _find_silent(self) -> None:
        """Whoever is silent for too long is lost; after a failure elsewhere that is sooner."""
        limit = self.settings.lost_seconds
        if self._failed_at is not None:
            limit = min(limit, SUSPECT_SECONDS)
        for index, heard in self._heard.items():
            seconds = time.monotonic() - heard
            if seconds > limit:
                reason = f"lost: no sign of life for {seconds:.0f} s"
                self._add(End(index, Status.RESTART, reason, lost=True))

    def _table(self) -> tuple[str, ...]:
        """What each process is doing."""
        now = time.monotonic()
        doing, seconds = self.watchdog.doing()
        at = {0: (doing, now - seconds), **self._doing}
        return tuple(
            f"{self.people[index]}: {what!r} for {now - since:.0f} s"
            for index, (what, since) in sorted(at.items())
        )
