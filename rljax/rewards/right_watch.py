"""Says when a reward's scale was probably forgotten, nothing satisfies a constraint, or a judge is
hacked."""

import sys
from collections.abc import Callable, Sequence

import numpy as np

from rljax.rewards.member import RewardSpec
from rljax.rewards.pool import Scores

# Batches of samples that are looked at: steps, or rounds of dynamic sampling.
BATCHES = 3

# Batches in which a reward rises while its held-out one falls, and standard errors that a change is
# more than by chance.
HACKING_BATCHES, SURE = 40, 3.0


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


class ConstraintWatch:
    """Looks at the first batches for constraints that no sample satisfies.

    Then methods that reward nothing else learn nothing, and nothing else would say so.
    """

    def __init__(
        self, members: Sequence[RewardSpec], say: Callable[[str], None] = to_stderr
    ) -> None:
        """Takes a composition, and what prints a line."""
        self.best = {m.label: -np.inf for m in members if m.constraint}
        self.right_at = {member.label: member.right_at for member in members}
        self.say, self.left, self._samples = say, BATCHES if self.best else 0, 0
        self._any = False

    def see(self, scores: Scores) -> None:
        """Takes a batch; speaks at most once."""
        if not self.left:
            return
        self.left -= 1
        there = scores.judged & ~scores.failed
        self._samples += int(there.sum())
        self._any |= bool(scores.satisfied[there].any())
        for label in self.best:
            values = scores.parts[label][there]
            self.best[label] = float(np.fmax.reduce(values, initial=self.best[label]))
        if self.left or self._any or not self._samples:
            return
        shown = ", ".join(
            f"{label!r} reached {best:g} of {self.right_at[label]:g}"
            for label, best in self.best.items()
        )
        self.say(
            f"warning: none of the first {self._samples} samples satisfies all constraints, so "
            f"that nothing is rewarded: {shown} (config.scoring.rewards, 'right_at')."
        )


class HackingWatch:
    """Compares each reward that is trained on with the one that is held out of it.

    A policy that learns what its judge likes, and not what is good, is paid more and more while a
    judge that it never sees pays it less (arXiv:2603.12246, arXiv:2210.10760).
    """

    def __init__(
        self, members: Sequence[RewardSpec], say: Callable[[str], None] = to_stderr
    ) -> None:
        """Takes a composition, and what prints a line."""
        self.pairs = [(m.heldout_of, m.label) for m in members if m.heldout_of is not None]
        self.say = say
        self._means: dict[tuple[str, str], list[tuple[float, float]]] = {p: [] for p in self.pairs}

    def see(self, scores: Scores) -> None:
        """Takes a batch; speaks at most once for each `HACKING_BATCHES`."""
        for pair, means in self._means.items():
            both = np.stack([scores.parts[label] for label in pair])[:, ~scores.failed]
            both = both[:, ~np.isnan(both).any(axis=0)]
            if both.size:
                means.append(tuple(both.mean(axis=1).tolist()))
            if len(means) < HACKING_BATCHES:
                continue
            (trained, heldout), changes = pair, changes_of(np.array(means))
            means[: HACKING_BATCHES // 2] = []
            if changes[0] > SURE and changes[1] < -SURE:
                means.clear()
                self.say(
                    f"warning: over the last {HACKING_BATCHES} batches the reward {trained!r} rose "
                    f"and {heldout!r}, which is held out of it, fell: the policy learns to please "
                    f"the judge (reward/{trained}, reward/{heldout} in the metrics)."
                )


def changes_of(series: np.ndarray) -> np.ndarray:
    """The change from the first half of some series to the second, in its standard errors.

    Args:
        series: [S, K] f64.

    Returns:
        [K] f64; 0 where nothing changes.
    """
    first, second = np.array_split(series, 2)
    errors = np.sqrt(first.var(axis=0) / len(first) + second.var(axis=0) / len(second))
    change = second.mean(axis=0) - first.mean(axis=0)
    return np.where(change == 0, 0.0, change / np.maximum(errors, 1e-12))
