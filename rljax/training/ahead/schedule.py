"""Which weights the samples of a step are drawn with.

Weights are told by the step of the stage that they are after: 0 are those that it starts from.
Experience of step s is trained on by the weights after step s - 1; its lag in steps is what lies
between. All schedules keep it within `staleness`.

Samples of a step may be drawn in several pieces (writers.py), each with weights of its own.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class Schedule(Protocol):
    """Decides when a piece of a step's samples may be drawn, and with which weights."""

    def may_draw(self, step: int, piece: int, newest: int) -> bool:
        """Whether a piece (from 0) of a step (from 1) may be drawn.

        Args:
            step: of the stage.
            piece: of its samples.
            newest: the step after which the newest weights are that are there.
        """

    def weights_of(self, step: int, piece: int, newest: int) -> int:
        """The step after which the weights for a piece are taken."""

    def needs(self, weights: int, newest: int, step: int, piece: int, steps: int) -> bool:
        """Whether weights may still be used, from a piece on up to the end of step `steps`."""


class Fixed(NamedTuple):
    """Weights after step s - 1 - staleness, whatever the timing: a run repeats bit for bit.

    With several pieces the second half of them takes the weights of one step later, as a sampler
    does that keeps up with its trainer. No piece ever wants weights older than the one before it:
    so nothing is missing after a checkpoint, which holds the latest ones.
    """

    staleness: int
    pieces: int = 1

    def may_draw(self, step: int, piece: int, newest: int) -> bool:
        """See `Schedule.may_draw`."""
        return newest >= self.weights_of(step, piece, newest)

    def weights_of(self, step: int, piece: int, newest: int) -> int:
        """See `Schedule.weights_of`; the first steps have those that the stage starts from."""
        return max(0, step - 1 - self.staleness + 2 * piece // self.pieces)

    def needs(self, weights: int, newest: int, step: int, piece: int, steps: int) -> bool:
        """See `Schedule.needs`."""
        first = self.weights_of(step, piece, newest)
        return step <= steps and first <= weights <= self.weights_of(steps, self.pieces - 1, newest)


class Latest(NamedTuple):
    """The newest weights; a step is admitted if it will be trained within the staleness.

    Admission is AReaL's rule, floor((N - 1) / B) <= version + lag (arXiv:2505.24298), with the
    experience of a step as a batch of one: N is the step, B is 1. What is admitted goes on with the
    newest weights piece by piece. Which weights are the newest depends on timing.
    """

    staleness: int

    def may_draw(self, step: int, piece: int, newest: int) -> bool:
        """See `Schedule.may_draw`."""
        return newest >= 0 and step - 1 <= newest + self.staleness

    def weights_of(self, step: int, piece: int, newest: int) -> int:
        """See `Schedule.weights_of`."""
        return newest

    def needs(self, weights: int, newest: int, step: int, piece: int, steps: int) -> bool:
        """See `Schedule.needs`."""
        return step <= steps and weights == newest


class Replayed(NamedTuple):
    """The weights that an event log names, step by step and piece by piece."""

    weights: Mapping[int, Sequence[int]]  # step -> the steps after which its weights are taken

    def may_draw(self, step: int, piece: int, newest: int) -> bool:
        """See `Schedule.may_draw`."""
        return newest >= self.weights_of(step, piece, newest)

    def weights_of(self, step: int, piece: int, newest: int) -> int:
        """See `Schedule.weights_of`; samples that go on beyond the log will be found out."""
        pieces = self.weights[step]
        return pieces[min(piece, len(pieces) - 1)]

    def needs(self, weights: int, newest: int, step: int, piece: int, steps: int) -> bool:
        """See `Schedule.needs`."""
        later = (self.weights[other] for other in range(step + 1, steps + 1))
        rest = self.weights[step][piece:] or self.weights[step][-1:] if step <= steps else ()
        return weights in rest or any(weights in pieces for pieces in later)


def make_schedule(name: str, staleness: int, pieces: int = 1) -> Schedule:
    """The schedule of `config.asynchronous.schedule`, for steps of so many pieces."""
    return Fixed(staleness, pieces) if name == "fixed" else Latest(staleness)
