"""Where macro actions begin."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.credit import SEGMENTATIONS
from rljax.objectives.credit.macro_actions import (
    RANDOM_LENGTHS,
    falling_perplexity,
    ngrams,
    random_ngrams,
)
from rljax.objectives.parts import apply

MASK = jnp.array([[1] * 7, [0, 1, 1, 0, 1, 1, 0], [0] * 7], bool)


def lengths_of(ids, mask):
    return np.bincount(np.asarray(ids)[np.asarray(mask)])


@pytest.mark.parametrize(
    "ngram, full, four",  # ids of 7 tokens and of the 4 tokens of the row with holes
    [
        (1, [0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3]),
        (3, [0, 0, 0, 1, 1, 1, 2], [0, 0, 0, 1]),
        (2, [0, 0, 1, 1, 2, 2, 3], [0, 0, 1, 2]),
        (100, [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 1]),
    ],
)
def test_ngrams_count_true_slots_and_leave_the_last_token_alone(ngram, full, four):
    ids = ngrams(MASK, ngram=ngram)
    np.testing.assert_array_equal(ids[0], full)
    np.testing.assert_array_equal(ids[1][MASK[1]], four)


def test_a_long_ngram_without_a_lone_last_token_is_the_whole_row():
    np.testing.assert_array_equal(ngrams(MASK, ngram=7, last_alone=False), 0)
    np.testing.assert_array_equal(ngrams(MASK, ngram=3, last_alone=False)[0], [0, 0, 0, 1, 1, 1, 2])
    np.testing.assert_array_equal(ngrams(MASK, ngram=6, last_alone=False)[0, -2:], [0, 1])


def test_random_lengths_are_a_shuffled_list_and_then_the_rest():
    mask = jnp.ones((200, 30), bool)
    noise = jax.random.uniform(jax.random.key(0), mask.shape)
    ids = np.asarray(random_ngrams(mask, noise, ngram_repeats=1, last_alone=False))
    lengths = [np.bincount(row) for row in ids]
    for row in lengths:  # 1 + 2 + 3 + 5 + 10 = 21 tokens, then 9 that are left
        assert sorted(row[:5]) == sorted(RANDOM_LENGTHS) and row[5:].tolist() == [9]
    # A uniform shuffle: every length comes first in a fifth of the rows.
    first = np.array([row[0] for row in lengths])
    for length in RANDOM_LENGTHS:
        assert 0.1 < (first == length).mean() < 0.3
    alone = np.asarray(random_ngrams(mask, noise, ngram_repeats=1))
    assert all(np.bincount(row)[-2:].tolist() == [8, 1] for row in alone)


def test_random_lengths_skip_holes_and_survive_the_ends_of_the_noise():
    for edge in (0.0, 1.0 - 2.0**-24):
        noise = jnp.where(MASK, edge, jnp.nan)
        ids = random_ngrams(MASK, noise, last_alone=False)
        expected = [0, 1, 2, 3, 3, 4, 4] if edge == 0.0 else [0] * 7
        np.testing.assert_array_equal(ids[0], expected)
        np.testing.assert_array_equal(ids[1][MASK[1]], expected[:4])


def test_perplexity_falls_inside_a_macro_action_from_its_second_token_on():
    perplexity = jnp.array([3.0, 5.0, 4.0, 2.0, 6.0, 6.0, 1.0])
    logprobs = jnp.stack([-jnp.log(perplexity), jnp.full(7, jnp.nan), jnp.zeros(7)])
    logprobs = logprobs.at[1, jnp.array([1, 2, 4, 5])].set(-jnp.log(perplexity[:4]))
    ids = falling_perplexity(MASK, logprobs)
    np.testing.assert_array_equal(ids[0], [0, 0, 0, 1, 1, 1, 2])
    np.testing.assert_array_equal(ids[1][MASK[1]], [0, 0, 0, 1])


# Those of trajectories follow the steps in which tokens were filled, not the row.
@pytest.mark.parametrize("option", sorted(set(SEGMENTATIONS) - {"trajectory"}))
def test_numbers_start_at_zero_rise_by_one_and_cover_the_row(option):
    noise = jax.random.uniform(jax.random.key(1), MASK.shape)
    tokens = jnp.arange(7) % 3 + jnp.zeros_like(MASK, jnp.int32) + 9
    arrays = dict(
        mask=MASK, noise=noise, tokens=tokens, ref_logprobs=-noise, old_logprobs=jnp.log(noise)
    )
    ids = jax.jit(lambda arrays: apply(SEGMENTATIONS[option], arrays))(arrays)
    assert ids.shape == MASK.shape and ids.dtype == jnp.int32
    for row, mask in zip(np.asarray(ids), np.asarray(MASK), strict=True):
        used = row[mask]
        assert lengths_of(row, mask).sum() == mask.sum()
        assert mask.sum() == 0 or used[0] == 0 and set(np.diff(used)) <= {0, 1}
        assert row.min() >= 0


@pytest.mark.parametrize("field", [dict(ngram=0), dict(ngram_repeats=0)])
def test_impossible_fields_are_errors(field):
    ((name, value),) = field.items()
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        if name == "ngram":
            ngrams(MASK, **field)
        else:
            random_ngrams(MASK, jnp.zeros(MASK.shape), **field)
