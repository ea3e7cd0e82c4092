import numpy as np
import pytest

from rljax.rewards.member import parse_rewards
from rljax.rewards.pool import Scores
from rljax.rewards.right_watch import BATCHES, RightWatch


def scores(values, right_at=1.0):
    values = np.array(values, np.float32)
    yes = np.ones(len(values), bool)
    return Scores(values, {"f": values}, values >= right_at, yes, ~yes, ~yes, None)


def said(batches, **entry):
    lines = []
    (first,) = parse_rewards([{"name": "r.py:f", **entry}])
    watch = RightWatch(first, lines.append)
    for values in batches:
        watch.see(scores(values, first.right_at))
    return lines


@pytest.mark.parametrize(
    "values, word, low, high", [([0.0, 0.5], "none", "0", "0.5"), ([1.0, 9.0], "all", "1", "9")]
)
def test_a_forgotten_threshold_is_said_once(values, word, low, high):
    (line,) = said([values] * 3 * BATCHES)
    assert line == (
        f"warning: {word} of the first {2 * BATCHES} samples are right, though the reward 'f' gave "
        f"them {low} to {high}: a sample is right from 1 on. Give the reward the value that means "
        "right as 'right_at' (config.scoring.rewards)."
    )


@pytest.mark.parametrize(
    "batches, entry",
    [
        ([[0.0, 0.5]] * (BATCHES - 1), {}),  # too early to say
        ([[0.0, 0.5]] * BATCHES, {"right_at": 1.0}),  # given
        ([[0.0, 0.0]] * BATCHES, {}),  # nothing learned yet
        ([[0.0, 0.5]] * (BATCHES - 1) + [[0.0, 1.0]], {}),
    ],
)
def test_nothing_is_said(batches, entry):
    assert said(batches, **entry) == []
