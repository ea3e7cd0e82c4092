"""Which weights the samples of a step are drawn with.

Weights are told by the step of the stage that they are after: 0 are those that it starts from.
Experience of step s is trained on by the weights after step s - 1; its lag in steps is what lies
between. All schedules keep it within `staleness`.
"""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from rljax.training.collect.staleness import may_submit


class Schedule(Protocol):
    """Decides when a step's samples may be drawn, and with which weights."""

    def may_draw(self, step: int, newest: int) -> bool:
        """Whether a step (from 1) may be drawn once the weights after step `newest` are there."""

    def weights_of(self, step: int, newest: int) -> int:
        """The step after which the weights for a step's samples are taken."""

    def needs(self, weights: int, newest: int, step: int, steps: int) -> bool:
        """Whether weights may still be used, by a step from `step` to `steps`."""


class Fixed(NamedTuple):
    """Weights after step s - 1 - staleness, whatever the timing: a run repeats bit for bit."""

    staleness: int

    def may_draw(self, step: int, newest: int) -> bool:
        """See `Schedule.may_draw`."""
        return newest >= self.weights_of(step, newest)

    def weights_of(self, step: int, newest: int) -> int:
        """See `Schedule.weights_of`; the first steps have those that the stage starts from."""
        return max(0, step - 1 - self.staleness)

    def needs(self, weights: int, newest: int, step: int, steps: int) -> bool:
        """See `Schedule.needs`."""
        last = self.weights_of(steps, newest)
        return step <= steps and self.weights_of(step, newest) <= weights <= last


class Latest(NamedTuple):
    """The newest weights; a step is admitted if it will be trained within the staleness.

    Admission is AReaL's rule (arXiv:2505.24298; collect/staleness.py), with the experience of a
    step as a batch of one. Which weights are the newest depends on timing.
    """

    staleness: int

    def may_draw(self, step: int, newest: int) -> bool:
        """See `Schedule.may_draw`."""
        return newest >= 0 and may_submit(step - 1, newest, batch=1, max_lag=self.staleness)

    def weights_of(self, step: int, newest: int) -> int:
        """See `Schedule.weights_of`."""
        return newest

    def needs(self, weights: int, newest: int, step: int, steps: int) -> bool:
        """See `Schedule.needs`."""
        return step <= steps and weights == newest


class Replayed(NamedTuple):
    """The weights that an event log names, step by step."""

    weights: Mapping[int, int]  # step -> the step after which its weights are taken

    def may_draw(self, step: int, newest: int) -> bool:
        """See `Schedule.may_draw`."""
        return newest >= self.weights[step]

    def weights_of(self, step: int, newest: int) -> int:
        """See `Schedule.weights_of`."""
        return self.weights[step]

    def needs(self, weights: int, newest: int, step: int, steps: int) -> bool:
        """See `Schedule.needs`."""
        return any(self.weights[later] == weights for later in range(step, steps + 1))


def make_schedule(name: str, staleness: int) -> Schedule:
    """The schedule of `config.asynchronous.schedule`."""
    return {"fixed": Fixed, "latest": Latest}[name](staleness)
