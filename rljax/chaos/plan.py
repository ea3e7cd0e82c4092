"""Which phase is hit next, by what, and when: drawn from a seed, every phase in its turn."""

import random
from typing import NamedTuple

from rljax.chaos.marks import Habits

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
FULL = "FULL"  # no file of the process can grow any more, as on a full disk
FLIP = "FLIP"  # SIGKILL, and a bit of the newest checkpoint flips before the next process

# A phase that takes less is still hit at some moment of it, or right after it.
SHORTEST_SECONDS = 0.002


class Kill(NamedTuple):
    """The end of one process."""

    phase: str  # aimed at
    occurrence: int  # in this process, from 1
    delay: float  # seconds after the phase begins
    signal: str


class Plan:
    """Draws kills; phases and signals come in rounds, so that none is left out by chance."""

    def __init__(self, seed: int, habits: Habits, inject: bool = False) -> None:
        """Takes the habits of the run; `inject` adds faults to the signals."""
        self.random, self.habits = random.Random(seed), habits
        # Three of four processes are killed without a warning.
        self.kinds = ("SIGKILL",) * 3 + SIGNALS[1:] + ((FULL, FLIP) if inject else ())
        self._phases: list[str] = []
        self._signals: list[str] = []

    def next(self) -> Kill:
        """The next kill. Early occurrences are the more likely ones: a run has many processes."""
        phase, signal = self._draw(self._phases, self.habits.phases), self._draw_signal()
        often = self.habits.counts[phase]
        occurrence = 1 + int(self.random.random() ** 2 * often / 2)
        longest = max(self.habits.seconds.get(phase, 0.0), SHORTEST_SECONDS)
        return Kill(phase, occurrence, self.random.uniform(0, longest), signal)

    def again(self, kill: Kill) -> None:
        """The run was over before the kill came: its phase and signal are drawn again, first."""
        self._phases.append(kill.phase)
        self._signals.append(kill.signal)

    def _draw_signal(self) -> str:
        return self._draw(self._signals, list(self.kinds))

    def _draw(self, waiting: list[str], names: list[str]) -> str:
        if not waiting:
            waiting += self.random.sample(names, len(names))
        return waiting.pop()


def first_time(kill: Kill) -> Kill:
    """The same kill where its phase comes first; a whole run has it once at least."""
    return kill._replace(occurrence=1)
