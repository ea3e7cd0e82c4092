"""The channel of several processes, for threads of one that stand for them."""

import threading
from collections import Counter

from rljax.processes.processes import Processes


class Meeting:
    """Gives all what all of them sent under a name, each name in its own order."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.given: dict[tuple[str, int], dict[int, bytes]] = {}
        self.changed = threading.Condition()

    def processes(self) -> list[Processes]:
        """One for each of them."""
        hosts = [f"host {index}" for index in range(self.count)]
        return [Processes(n, self.count, _Side(self, n), hosts) for n in range(self.count)]


class _Side:
    def __init__(self, meeting: Meeting, index: int) -> None:
        self.meeting, self.index, self.calls = meeting, index, Counter()

    def exchange(self, name: str, payload: bytes) -> list[bytes]:
        meeting = self.meeting
        with meeting.changed:
            self.calls[name] += 1
            given = meeting.given.setdefault((name, self.calls[name]), {})
            given[self.index] = payload
            meeting.changed.notify_all()
            assert meeting.changed.wait_for(lambda: len(given) == meeting.count, 20), name
            return [given[index] for index in range(meeting.count)]
