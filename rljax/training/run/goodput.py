"""The wall time of a run over all its processes, kept in WORKDIR/goodput.json.

A checkpoint's note holds the seconds up to it. What the file of a dead process holds beyond the
checkpoint that the next one goes on from is lost work, and becomes `restart`. The file is renewed
every few seconds, so the last ones of a killed process may be unknown. Time in which no process
held the workdir is not counted.
"""

import contextlib
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rljax.reporting.files import GOODPUT_FILE, number, read_json, write_json_atomic
from rljax.reporting.goodput import PHASES, figures
from rljax.training.run.phases import Ledger

RENEW_SECONDS = 2.0  # at most so often by those who have news
BEAT_SECONDS = 10.0  # and at least so often, whatever the run does


class WallTime:
    """Seconds by phase, of this process and of those before it."""

    def __init__(self, ledger: Ledger, workdir: Path, *, writes: bool = True) -> None:
        """Takes the ledger of this process; of several beside each other one `writes`."""
        self.ledger, self.path, self.writes = ledger, workdir / GOODPUT_FILE, writes
        self.earlier, self.starts = dict.fromkeys(PHASES, 0.0), 1
        self._written = -RENEW_SECONDS
        self._ended, self._resumed = threading.Event(), False

    def resume(self, saved: Mapping[str, float]) -> None:
        """Adds the processes before this one.

        Args:
            saved: seconds by phase up to the checkpoint that the run goes on from; {} without one.
        """
        known = _read(self.path)
        self.earlier.update({name: float(saved.get(name, 0.0)) for name in PHASES})
        lost = sum(known["seconds"].values()) - sum(self.earlier.values())
        self.earlier["restart"] += max(0.0, lost)
        self.starts, self._resumed = known["starts"] + 1, True
        self.write(now=True)
        threading.Thread(target=self._beat, daemon=True).start()

    def close(self) -> None:
        """Writes what is known at the end of the stages, or of the process.

        A process that never came to its first stage leaves the file as it was. If nothing can be
        written, whoever failed to write more says so.
        """
        self._ended.set()
        if self._resumed:
            with contextlib.suppress(OSError):
                self.write(now=True)

    def seconds(self) -> dict[str, float]:
        """Seconds by phase up to now."""
        mine = self.ledger.seconds()
        return {name: self.earlier[name] + mine[name] for name in PHASES}

    def figures(self) -> dict[str, Any]:
        """Goodput, starts, seconds and shares."""
        return figures(self.seconds(), self.starts)

    def write(self, *, now: bool = False) -> None:
        """Renews the file; unless `now`, at most every `RENEW_SECONDS`.

        A workdir that is gone is not made again.
        """
        due = now or time.monotonic() - self._written >= RENEW_SECONDS
        if self.writes and due and self.path.parent.exists():
            self._written = time.monotonic()
            write_json_atomic(self.path, self.figures())

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with contextlib.suppress(OSError):  # a full disk: those who write more will say so
                self.write()


def _read(path: Path) -> dict[str, Any]:
    """Starts and their seconds; none where the file is missing or damaged."""
    try:
        found = read_json(path)
    except ValueError:
        found = {}
    seconds = found.get("seconds")
    seconds = seconds if isinstance(seconds, Mapping) else {}
    return {
        "starts": int(number(found.get("starts")) or 0),
        "seconds": {name: number(seconds.get(name)) or 0.0 for name in PHASES},
    }
