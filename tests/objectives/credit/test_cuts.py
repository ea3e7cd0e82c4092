"""Which states are estimated, and the segments between them."""

import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.credit.cuts import (
    first_cuts,
    spaced,
    spaced_cuts,
    step_cuts,
    steps,
    uncertain,
    uncertain_cuts,
)

PROBABILITIES = jnp.array([[0.95, 0.5, 0.3, 0.9, 0.2, 0.1], [0.4, 0.99, 0.5, 0.5, 0.99, 0.99]])
LOGPROBS = jnp.log(PROBABILITIES)
FULL = jnp.ones((2, 6), bool)


def slots_of(cuts):
    return [np.flatnonzero(row).tolist() for row in np.asarray(cuts)]


@pytest.mark.parametrize(
    "interval, expected",
    [(1, [[1, 2, 4, 5], [0, 2, 3]]), (2, [[1, 4], [0, 3]]), (9, [[1], [0]])],
)
def test_cuts_are_before_uncertain_tokens(interval, expected):
    """An interval above the number of candidates leaves one cut."""
    cuts = uncertain_cuts(FULL, LOGPROBS, cut_threshold=0.9, cut_interval=interval)
    assert slots_of(cuts) == expected


def test_the_uncertain_token_begins_the_next_segment():
    ids = uncertain(FULL, LOGPROBS, cut_interval=2)
    np.testing.assert_array_equal(ids, [[0, 1, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1]])


def test_no_uncertain_token_no_cut():
    assert slots_of(uncertain_cuts(FULL, 0 * LOGPROBS)) == [[], []]
    np.testing.assert_array_equal(uncertain(FULL, 0 * LOGPROBS), 0)


def test_equal_spacing_counts_true_slots():
    mask = jnp.array([[0, 1, 1, 0, 1, 1], [1, 1, 0, 0, 0, 0]], bool)
    assert slots_of(spaced_cuts(mask, cut_spacing=2)) == [[1, 4], [0]]
    np.testing.assert_array_equal(spaced(mask, cut_spacing=2)[0][mask[0]], [0, 0, 1, 1])


def test_masked_slots_are_no_candidates_whatever_they_hold():
    mask = FULL.at[0, 1].set(False)
    cuts = uncertain_cuts(mask, LOGPROBS.at[0, 1].set(jnp.nan), cut_interval=1)
    assert slots_of(cuts) == [[2, 4, 5], [0, 2, 3]]


def test_steps_begin_after_the_ends_of_steps():
    tokens = jnp.array([[5, 10, 10, 6, 11, 7], [10, 5, 10, 3, 6, 10]])
    assert slots_of(step_cuts(FULL, tokens)) == [[0, 3], [0, 1, 3]]
    assert slots_of(step_cuts(FULL, tokens, step_end_tokens=(10, 11))) == [[0, 3, 5], [0, 1, 3]]
    # A hole between the end and the next token does not hide the end.
    mask = FULL.at[0, 2].set(False)
    assert slots_of(step_cuts(mask, tokens))[0] == [0, 3]
    np.testing.assert_array_equal(steps(FULL, tokens)[0], [0, 0, 0, 1, 1, 1])


def test_only_so_many_cuts():
    cuts = uncertain_cuts(FULL, LOGPROBS, cut_interval=1)
    assert slots_of(first_cuts(cuts, cut_limit=2)) == [[1, 2], [0, 2]]
    assert slots_of(first_cuts(cuts, cut_limit=0)) == [[], []]


@pytest.mark.parametrize(
    "call",
    [
        lambda: uncertain(FULL, LOGPROBS, cut_threshold=0.0),
        lambda: uncertain(FULL, LOGPROBS, cut_interval=0),
        lambda: spaced(FULL, cut_spacing=0),
        lambda: steps(FULL, FULL, step_end_tokens=()),
        lambda: first_cuts(FULL, cut_limit=-1),
    ],
)
def test_impossible_fields_are_errors(call):
    with pytest.raises(ValueError, match="it must be"):
        call()
