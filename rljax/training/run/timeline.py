"""What each thread of a process does in some steps: spans of its phases (phases.py).

Recording is switched on for a few steps, by `--profile` (profile.py). A span belongs to the thread
that was in the phase: the learner's, and those of a sampler ahead. A phase that lasts longer than
the recording is cut at its ends.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator

import jax

from rljax.reporting.timeline import LEARNER, Span


class Timeline:
    """Spans of all threads, from now on."""

    def __init__(self) -> None:
        """No span yet."""
        self.spans: list[Span] = []
        self.began = time.perf_counter()

    def seconds(self) -> float:
        """Since the recording began."""
        return time.perf_counter() - self.began

    def add(self, phase: "Open") -> None:
        """Books a phase that ends now."""
        began = max(0.0, phase.began - self.began)
        self.spans.append(Span(phase.track, phase.name, began, self.seconds()))


class Open:
    """A phase that this thread is in."""

    def __init__(self, name: str) -> None:
        """It begins now."""
        thread = threading.current_thread()
        self.track = LEARNER if thread is threading.main_thread() else thread.name
        self.name, self.began = name, time.perf_counter()


_recording: Timeline | None = None
_open: dict[int, Open] = {}
_numbers = itertools.count()


def start(timeline: Timeline) -> None:
    """Spans of all threads go there from now on."""
    global _recording
    _recording = timeline


def stop() -> None:
    """Ends the recording; phases that are open end with it."""
    global _recording
    timeline, _recording = _recording, None
    for phase in list(_open.values()):
        timeline.add(phase)


@contextlib.contextmanager
def recorded(name: str) -> Iterator[None]:
    """Meanwhile this thread is in a phase: a span, if spans are recorded, also of xprof."""
    number, phase = next(_numbers), Open(name)
    _open[number] = phase
    try:
        with jax.profiler.TraceAnnotation(name):
            yield
    finally:
        del _open[number]
        if (timeline := _recording) is not None:
            timeline.add(phase)
