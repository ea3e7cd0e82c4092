"""Says when the scale of a user's reward was probably forgotten."""

import sys
from collections.abc import Callable

import numpy as np

from rljax.rewards.member import RewardSpec
from rljax.rewards.pool import Scores

# Batches of samples that are looked at: steps, or rounds of dynamic sampling.
BATCHES = 3


def to_stderr(line: str) -> None:
    """Prints a line beside the run's own output."""
    print(line, file=sys.stderr)


class RightWatch:
    """Looks at the first batches of a reward whose threshold nobody has given.

    Where its values differ, yet no sample is right, or all are, the line between right and wrong is
    probably elsewhere: filters, pairs and accuracies would be of no use.
    """

    def __init__(self, first: RewardSpec, say: Callable[[str], None] = to_stderr) -> None:
        """Takes the first reward of a composition, and what prints a line."""
        self.first, self.say = first, say
        self.left = BATCHES if first.assumed else 0
        self._values: list[np.ndarray] = []
        self._right: list[np.ndarray] = []

    def see(self, scores: Scores) -> None:
        """Takes a batch; speaks at most once."""
        if not self.left:
            return
        self.left -= 1
        values = scores.parts[self.first.label]
        there = scores.judged & ~scores.failed & ~np.isnan(values)
        self._values.append(values[there])
        self._right.append(scores.correct[there])
        if self.left:
            return
        values, right = np.concatenate(self._values), np.concatenate(self._right)
        if len(values) and values.min() < values.max() and right.all() == right.any():
            self.say(
                f"warning: {'all' if right.all() else 'none'} of the first {len(values)} samples "
                f"are right, though the reward {self.first.label!r} gave them {values.min():g} to "
                f"{values.max():g}: a sample is right from {self.first.right_at:g} on. Give the "
                "reward the value that means right as 'right_at' (config.scoring.rewards)."
            )
