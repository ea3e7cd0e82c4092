"""Where the output of rewards goes: to the run's standard error, through a pipe of our own.

Scoring processes, and all that rewards start, never hold the run's own descriptors. So output never
mixes with that of the run, and a process that outlives the run keeps no pipe behind it open.
"""

import contextlib
import os
import sys
import threading
import time

# What rewards may write: a burst, and so much a second; the rest is counted, not kept.
_BURST_BYTES = 2**20
_BYTES_PER_SECOND = 2**16


class OutputPipe:
    """A pipe for the standard output and error of children; a thread copies it to `sys.stderr`."""

    def __init__(self) -> None:
        self._read, self.write = os.pipe()  # `write` is for children; neither is inherited
        self._thread = threading.Thread(target=self._copy, name="reward output", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Closes our end; waits a moment for what is still in the pipe. May be called twice."""
        if self.write >= 0:
            os.close(self.write)
            self.write = -1
            self._thread.join(timeout=1.0)  # longer only if somebody else still holds the pipe

    def _copy(self) -> None:
        left, dropped, before = float(_BURST_BYTES), 0, time.monotonic()
        with os.fdopen(self._read, "rb", buffering=0) as pipe:
            while chunk := pipe.read(65536):
                now = time.monotonic()
                left = min(_BURST_BYTES, left + _BYTES_PER_SECOND * (now - before))
                before = now
                if len(chunk) > left:
                    dropped += len(chunk)
                    continue
                left -= len(chunk)
                if dropped:
                    _write(f"[{dropped} bytes of the rewards' output left out]\n")
                    dropped = 0
                _write(chunk.decode(errors="replace"))
        if dropped:
            _write(f"[{dropped} bytes of the rewards' output left out]\n")


def _write(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # a closed standard error
        sys.stderr.write(text)
        sys.stderr.flush()
