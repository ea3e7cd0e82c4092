import numpy as np
import pytest

from rljax.rewards.member import parse_rewards
from rljax.rewards.pool import Scores
from rljax.rewards.right_watch import (
    BATCHES,
    HACKING_BATCHES,
    ConstraintWatch,
    HackingWatch,
    RightWatch,
)


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


def test_constraints_that_nothing_satisfies_are_named_with_the_best_value():
    exact = {"name": "exact_match"}
    members = parse_rewards([exact, {"name": "format", "constraint": True, "right_at": 0.5}])
    for last, said in ((0.25, 1), (1.0, 0)):
        lines = []
        watch = ConstraintWatch(members, lines.append)
        for best in (0.0, 0.25, last, last):
            values, yes = np.array([0.0, best], np.float32), np.ones(2, bool)
            parts = {"exact_match": values, "format": values}
            scores = Scores(values, parts, yes, yes, ~yes, ~yes, None, satisfied=values >= 0.5)
            watch.see(scores)
        assert len(lines) == said
        assert all("none of the first 6 samples" in line for line in lines)
        assert all("'format' reached 0.25 of 0.5" in line for line in lines)
    assert not ConstraintWatch(parse_rewards([exact])).left


def test_a_judge_that_rises_while_the_held_out_one_falls_is_an_alarm():
    """Two judges agree with the gold score; one of them also likes length, which the policy learns.

    The policy first gets better, then only longer and worse.
    """
    exact = {"name": "exact_match"}
    spec = [exact, {"name": "format", "heldout_of": "exact_match"}]
    rng, no = np.random.default_rng(0), np.zeros(64, bool)
    for likes_length, said in ((1.0, 1), (0.0, 0)):
        lines = []
        watch = HackingWatch(parse_rewards(spec), lines.append)
        for number in range(3 * HACKING_BATCHES):
            length = number / 40
            gold = min(number, 40) / 40 - 0.5 * max(length - 1, 0) + rng.normal(size=64)
            judge = gold + likes_length * length + 0.3 * rng.normal(size=64)
            parts = {"exact_match": judge, "format": gold}
            watch.see(Scores(judge, parts, ~no, ~no, no, no, None))
        assert bool(lines) == bool(said)
        assert all("'exact_match' rose and 'format'" in line for line in lines)
    assert HackingWatch(parse_rewards([exact])).pairs == []
