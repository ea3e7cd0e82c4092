"""GAIN-RL: angles of token vectors, and the window that slides over the ranking."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.angles import angle_signal, mean_angle
from rljax.objectives.curricula import CURRICULA, Problems
from rljax.objectives.curricula.gain import next_centre, window
from tests.objectives.test_curricula import seen, turn

STREAM = jax.random.key(5)
PAPER = dict(centre_step=500, largest_step=1000, centre_slope=2.0, target_accuracy=0.5)
RNG = np.random.default_rng(0)


def problems_of(count, angle=0.0):
    """Ranked backwards: the last problem has the highest signal."""
    difficulty = np.arange(count, dtype=np.float32)
    return Problems(count, difficulty=difficulty, angles=np.full(count, angle, np.float32))


def test_the_signal_is_the_mean_cosine_of_each_block():
    states = jnp.asarray(RNG.normal(size=(6, 4)))
    question, shared = jnp.arange(6) >= 4, jnp.arange(6) < 2
    unit = states / np.linalg.norm(states, axis=1, keepdims=True)
    own, given = unit[4:], unit[:2]
    intra, inter = (own @ own.T).mean(), (own @ given.T).mean()
    found = angle_signal(states, question, shared, shared_weight=8.0)
    assert found == pytest.approx(float(intra + 8 * inter), rel=1e-5)
    assert angle_signal(states, question, shared * False) == pytest.approx(float(intra), rel=1e-5)
    assert abs(intra) <= 1 and abs(inter) <= 1


def test_the_length_of_token_vectors_has_no_say():
    states, scale = jnp.asarray(RNG.normal(size=(5, 3))), jnp.arange(1.0, 6.0)[:, None]
    question = jnp.arange(5) >= 1
    for angle in (
        lambda x: angle_signal(x, question, ~question),
        lambda x: mean_angle(x, question),
    ):
        assert angle(states * scale) == pytest.approx(float(angle(states)), rel=1e-5)
    same = jnp.ones((5, 3)) * scale
    assert angle_signal(same, question, ~question) == pytest.approx(2, rel=1e-6)
    assert mean_angle(same, question) == pytest.approx(1, rel=1e-6)


def test_the_centre_never_moves_back_and_no_further_than_its_largest_step():
    centre = 0.0
    for accuracy, angle in RNG.random((20, 2)) * [1, 2] - [0, 1]:
        after = float(next_centre(centre, accuracy, angle, **PAPER))
        assert centre <= after <= centre + 1000
        centre = after
    assert float(next_centre(7.0, 0.0, -1.0, **PAPER)) == 7.0
    assert float(next_centre(7.0, 9.0, 9.0, **PAPER)) == pytest.approx(1007)


def test_a_wide_window_is_even_and_one_behind_the_end_holds_the_last():
    np.testing.assert_allclose(np.exp(window(10, 3, 1e9)), 0.1, rtol=1e-6)
    far = np.exp(window(10, 1e4, 5.0))
    assert np.isfinite(window(10, 1e4, 5.0)).all() and far[-1] > 0.99
    assert far.sum() == pytest.approx(1, rel=1e-5)


@pytest.mark.contract
def test_subsets_slide_from_the_highest_signal_as_problems_are_solved():
    problems = problems_of(64, angle=0.5)
    curriculum = CURRICULA["gain"](subset_problems=8)
    state, means = curriculum.first(problems, STREAM), []
    for call in range(40):
        index, state = curriculum.take(state, problems, turn(call, 4))
        assert len(set(index.tolist())) == 4
        means.append(float(63 - index.mean()))  # rank 0 is the highest signal
        state = curriculum.observe(state, problems, seen(index, [4] * 4))
    # Steps of n (tanh 1 + tanh 1) = 6.1, 19 of them, up to the end and behind it.
    centre = float(state["centre"])
    assert centre == pytest.approx(19 * 4 * 2 * np.tanh(1.0), rel=1e-4)
    assert np.mean(means[:4]) < 16 < 48 < np.mean(means[-8:])


def test_a_subset_is_handed_out_once_and_the_centre_waits_for_its_end():
    problems, curriculum = problems_of(32), CURRICULA["gain"](subset_problems=6)
    first, state = curriculum.take(curriculum.first(problems, STREAM), problems, turn(1, 3))
    state = curriculum.observe(state, problems, seen(first, [4, 4, 4]))
    second, state = curriculum.take(state, problems, turn(2, 3))
    assert len({*first.tolist(), *second.tolist()}) == 6 and state["centre"] == 0
    state = curriculum.observe(state, problems, seen(second, [0, 0, 0]))
    _, state = curriculum.take(state, problems, turn(3, 3))
    assert state["centre"] == 0.0  # half of all right, no angle: both terms are 0
    assert state["samples"] == 0
    state = curriculum.observe(state, problems, seen(first, [4, 4, 4]))
    _, state = curriculum.take(
        curriculum.take(state, problems, turn(4, 3))[1], problems, turn(5, 3)
    )
    assert float(state["centre"]) == pytest.approx(2 * np.tanh(1.0), rel=1e-5)


def test_fields_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="window_width is 0.0; it must be > 0"):
        CURRICULA["gain"](window_width=0.0)
    with pytest.raises(ValueError, match="subset_problems is 0; it must be >= 1"):
        CURRICULA["gain"](subset_problems=0)
