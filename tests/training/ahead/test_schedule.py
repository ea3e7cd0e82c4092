"""Which weights the samples of a step are drawn with, as a simulation of all timings."""

import random

import pytest

from rljax.training.ahead.schedule import Fixed, Latest, Replayed, Schedule, make_schedule

STEPS = 12


def simulate(schedule: Schedule, timing: random.Random, pieces: int = 1) -> dict[int, list[int]]:
    """Step -> weights, with sampler and trainer in any order that the schedule allows."""
    drawn, trained, newest, found = 0, 0, 0, {}
    kept, writing = {0}, []
    while trained < STEPS:
        step = drawn + 1
        may_draw = step <= STEPS and schedule.may_draw(step, len(writing), newest)
        may_train = trained < drawn
        assert may_draw or may_train, "both sides wait for each other"
        if may_draw and (not may_train or timing.random() < 0.5):
            writing.append(schedule.weights_of(step, len(writing), newest))
            assert writing[-1] in kept, "weights are gone that a step is drawn with"
            if len(writing) == pieces:
                found[step], drawn, writing = writing, step, []
        else:
            trained += 1
            newest = trained
            if schedule.needs(newest, newest, drawn + 1, len(writing), STEPS):
                kept.add(newest)
        kept = {w for w in kept if schedule.needs(w, newest, drawn + 1, len(writing), STEPS)}
    return found


@pytest.mark.parametrize("staleness", [0, 1, 4, 20])
def test_the_fixed_schedule_does_not_depend_on_timing(staleness):
    found = [simulate(Fixed(staleness), random.Random(seed)) for seed in range(20)]
    wanted = {step: [max(0, step - 1 - staleness)] for step in range(1, STEPS + 1)}
    assert all(each == wanted for each in found)


@pytest.mark.parametrize("staleness", [0, 1, 4])
def test_the_newest_weights_are_never_older_than_allowed(staleness):
    found = [simulate(Latest(staleness), random.Random(seed)) for seed in range(50)]
    lags = {step - 1 - weights for each in found for step, (weights,) in each.items()}
    assert lags == set(range(staleness + 1)), "every lag that is allowed comes up"
    assert len({str(each) for each in found}) > 1 or staleness == 0


def test_a_replay_repeats_any_order_of_the_newest_weights():
    for seed in range(40):
        pieces = 1 + seed % 3
        found = simulate(Latest(3), random.Random(seed), pieces)
        assert simulate(Replayed(found), random.Random(seed + 1), pieces) == found


@pytest.mark.parametrize("pieces", [2, 3, 8])
@pytest.mark.parametrize("staleness", [2, 5])
def test_the_second_half_of_the_pieces_takes_the_next_weights(staleness, pieces):
    found = [simulate(Fixed(staleness, pieces), random.Random(s), pieces) for s in range(20)]
    assert all(each == found[0] for each in found)
    for step, weights in found[0].items():
        first = -(-pieces // 2) * [max(0, step - 1 - staleness)]
        assert weights == first + (pieces - len(first)) * [max(0, step - staleness)]
    # Never back: a run that goes on from a checkpoint has the latest weights only.
    in_order = [weight for weights in found[0].values() for weight in weights]
    assert in_order == sorted(in_order)


def test_few_weights_are_kept():
    """Of the fixed schedule the ones of the last `staleness` steps, of the newest one."""
    assert [w for w in range(10) if Fixed(3).needs(w, 9, 8, 0, 20)] == [4, 5, 6, 7, 8, 9]
    assert [w for w in range(10) if Fixed(3).needs(w, 9, 13, 0, 20)] == [9]
    assert not Fixed(3).needs(18, 18, 15, 0, 20), "no step is left that would be drawn with them"
    assert [w for w in range(10) if Latest(3).needs(w, 9, 8, 0, 20)] == [9]
    assert not Latest(3).needs(9, 9, 21, 0, 20)


def test_schedules_by_their_names():
    assert make_schedule("fixed", 2, 3) == Fixed(2, 3)
    assert make_schedule("latest", 2) == Latest(2)
