import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.parts import apply
from rljax.objectives.selections import (
    FULL_DENOMINATOR,
    GROUP_FILTERS,
    SELECTIONS,
    most_varied_rows,
)

NAN = np.nan
MASK = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)


def padded(values, fill=NAN):
    """[N, T] with something in the padding that must not matter."""
    return jnp.asarray(np.where(MASK, values, fill))


def select(option, arrays, **fields):
    kept = apply(
        functools.partial(SELECTIONS[option], **fields), {"mask": jnp.asarray(MASK)} | arrays
    )
    kept = np.asarray(kept)
    assert kept.dtype == bool and not kept[~MASK].any()
    return kept


def random_arrays(seed=0):
    rng = np.random.default_rng(seed)

    def draw():
        return padded(rng.normal(size=MASK.shape))

    rows = np.round(rng.normal(size=(len(MASK), 1)), 3)
    return {
        "old_logprobs": -jnp.abs(draw()),
        "behavior_logprobs": -jnp.abs(draw()),
        "old_entropy": jnp.abs(draw()),
        "advantages": padded(rows * np.ones(MASK.shape)),
        "progress": jnp.asarray(0.0),
        "finished": jnp.array([True, False, True, True]),
    }


def test_none_and_finished():
    np.testing.assert_array_equal(select("none", {}), MASK)
    kept = select("finished", random_arrays())
    np.testing.assert_array_equal(kept, MASK & np.array([1, 0, 1, 1], bool)[:, None])


def test_uncertain_tokens_and_the_fall_back():
    probability = np.array([[0.5, 0.95, 0.89, 0], [1, 0.9001, 0, 0], [0.1, 1, 1, 0.91], [0] * 4])
    given = {"old_logprobs": padded(np.log(np.maximum(probability, 1e-9)))}
    np.testing.assert_array_equal(select("uncertain", given), MASK & (probability < 0.9))
    # Nothing is uncertain: all of the mask. A threshold of 1 means every token, 1.0 included.
    np.testing.assert_array_equal(select("uncertain", given, uncertain_below=0.05), MASK)
    np.testing.assert_array_equal(select("uncertain", given, uncertain_below=1.0), MASK)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 1.0])
def test_top_entropy_is_above_the_interpolated_quantile(share):
    given = random_arrays()
    entropy = np.asarray(given["old_entropy"])
    kept = select("top_entropy", given, entropy_share=share)
    bound = np.quantile(entropy[MASK].astype(np.float64), 1 - share)
    np.testing.assert_array_equal(kept, MASK & (entropy >= bound - 1e-7))
    assert "top_entropy" in FULL_DENOMINATOR and FULL_DENOMINATOR <= set(SELECTIONS)


def test_top_entropy_of_nothing():
    nothing = jnp.zeros((2, 3), bool)
    assert not SELECTIONS["top_entropy"](nothing, jnp.ones((2, 3))).any()


# ----------------------------------------------------------------------------------------- M2PO


def m2po_by_hand(squares, threshold):
    """Drops the largest one by one until the mean of the rest is below the threshold."""
    left = sorted(squares)
    while len(left) > 1 and not np.mean(left) < threshold:
        left.pop()
    return left


@pytest.mark.parametrize("threshold", [1e-6, 0.04, 0.5, 1.0, 9.0])
def test_second_moment_keeps_as_many_as_the_mean_allows(threshold):
    given = random_arrays(1)
    kept = select("second_moment", given, second_moment_below=threshold)
    squares = np.asarray((given["old_logprobs"] - given["behavior_logprobs"]) ** 2)
    np.testing.assert_array_equal(
        np.sort(squares[kept]), np.asarray(m2po_by_hand(squares[MASK], threshold), squares.dtype)
    )


def test_second_moment_keeps_everything_below_the_threshold():
    given = random_arrays(1)
    given["behavior_logprobs"] = given["old_logprobs"] + 0.1
    np.testing.assert_array_equal(select("second_moment", given), MASK)
    given["behavior_logprobs"] = jnp.full(MASK.shape, NAN)  # no difference is known
    np.testing.assert_array_equal(select("second_moment", given), MASK)


def test_second_moment_keeps_one_of_equal_tokens():
    given = random_arrays()
    given["behavior_logprobs"] = given["old_logprobs"] + 3.0
    assert select("second_moment", given).sum() == 1


# ------------------------------------------------------------------------------------------ D3S


@pytest.mark.parametrize("seed", range(3))
def test_rows_have_the_largest_variance_of_all_subsets(seed):
    rng = np.random.default_rng(seed)
    values, present = rng.normal(size=7), np.arange(7) != 2
    find = jax.jit(most_varied_rows)
    for count in (1, 2, 3, 5, 6, 9):
        chosen = np.asarray(find(jnp.asarray(values), jnp.asarray(present), count))
        size = min(count, 6)
        assert chosen.sum() == size and not chosen[2]
        subsets = itertools.combinations(np.flatnonzero(present), size)
        best = max(np.var(values[list(subset)]) for subset in subsets)
        assert np.var(values[chosen]) == pytest.approx(best, rel=1e-5)
        # Extremes only: what is left out lies between what is chosen below and above.
        ordered = chosen[np.argsort(values)][present[np.argsort(values)]]
        assert np.abs(np.diff(ordered.astype(int))).sum() <= 2


def test_equal_values_are_counted_once():
    for count in range(1, 5):
        chosen = most_varied_rows(jnp.ones(4), jnp.ones(4, bool), count)
        assert chosen.sum() == count


FIRST = dict(d3s_rows_first=0.5, d3s_tokens_first=0.5, d3s_rows_last=1.0, d3s_tokens_last=1.0)


def test_d3s_by_hand():
    given = random_arrays() | {
        "advantages": padded(np.array([[0.1], [-2.0], [1.0], [50.0]]) * np.ones(4)),
        "old_entropy": padded([[9, 9, 9, 9], [1, 2, 0, 0], [3, 5, 1, 0.5], [9] * 4]),
    }
    # Two of three rows: -2 and 1; keys 2, 4 and 3, 5, 1, .5, of which the three largest stay.
    kept = select("d3s", given, **(FIRST | dict(d3s_rows_first=0.6)))
    np.testing.assert_array_equal(kept, [[0] * 4, [0, 1, 0, 0], [1, 1, 0, 0], [0] * 4])


def test_d3s_relaxes_over_the_stage_to_the_wrapped_method():
    given = random_arrays(2)
    counts = [
        select("d3s", given | {"progress": jnp.asarray(p)}, **FIRST).sum() for p in (0, 0.5, 1)
    ]
    assert counts[0] < counts[1] < counts[2] == MASK.sum()


def test_d3s_does_not_depend_on_the_order_of_rows():
    given, order = random_arrays(3), np.array([2, 3, 0, 1])
    kept = select("d3s", given, **FIRST)
    moved = {k: v if v.ndim == 0 else v[order] for k, v in given.items()} | {"mask": MASK[order]}
    again = apply(functools.partial(SELECTIONS["d3s"], **FIRST), moved)
    np.testing.assert_array_equal(again, kept[order])


def test_d3s_without_signal_selects_nothing():
    given = random_arrays() | {"advantages": padded(np.zeros(MASK.shape))}
    assert not select("d3s", given, **FIRST).any()
    empty = jnp.zeros((2, 3), bool)
    zeros = jnp.zeros((2, 3))
    assert not SELECTIONS["d3s"](empty, zeros, zeros, jnp.asarray(0.0)).any()


def test_selections_are_constants_and_compile():
    given = {k: jnp.where(jnp.isnan(v), 0.0, v) if v.dtype != bool else v
             for k, v in random_arrays(4).items()} | {"mask": jnp.asarray(MASK)}  # fmt: skip

    @jax.jit
    def everything(given, threshold):
        kept = [apply(part, given) for part in SELECTIONS.values()]
        uncertain = SELECTIONS["uncertain"](
            given["mask"], given["old_logprobs"], uncertain_below=threshold
        )
        return sum(part.astype(float).sum() for part in [*kept, uncertain])

    assert everything(given, 0.5) >= MASK.sum()


@pytest.mark.parametrize(
    "option, fields, message",
    [
        ("uncertain", dict(uncertain_below=0.0), "uncertain_below is 0.0"),
        ("top_entropy", dict(entropy_share=1.5), "entropy_share is 1.5"),
        ("second_moment", dict(second_moment_below=0.0), "second_moment_below is 0.0"),
        ("d3s", dict(d3s_rows_last=0.0), "d3s_rows_last is 0.0"),
    ],
)
def test_errors_name_the_field(option, fields, message):
    with pytest.raises(ValueError, match=message):
        select(option, random_arrays(), **fields)


# --------------------------------------------------------------------------------------- groups

GROUP_MASK = np.array([1, 1, 1, 1, 1, 1, 0, 1, 1, 1], bool)[:, None]
# Group 7: one of two right; 3: all right, but for a row that is not there; 5: all wrong; 2: alone;
# 9: one of three right.
GROUPS = np.array([7, 3, 5, 7, 3, 5, 3, 9, 9, 9])
CORRECT = np.array([1, 1, 0, 0, 1, 0, 0, 1, 0, 0], bool)


@pytest.mark.parametrize(
    "option, fields, dropped",
    [
        ("none", {}, []),
        ("mixed", {}, [3, 5]),
        ("with_signal", {}, [3, 5]),
        ("not_all_correct", {}, [3]),
        ("not_all_wrong", {}, [5]),
        ("accuracy_range", {}, [3, 5]),
        ("accuracy_range", dict(accuracy_low=0.0, accuracy_high=0.4), [3, 7]),
        ("accuracy_range", dict(accuracy_low=1 / 3, accuracy_high=1 / 3), [3, 5, 7]),
    ],
)
def test_group_filters(option, fields, dropped):
    arrays = {
        "mask": jnp.asarray(GROUP_MASK),
        "group_ids": jnp.asarray(GROUPS),
        "correct": jnp.asarray(CORRECT),
        "scores": jnp.where(GROUP_MASK[:, 0], CORRECT * 2.0 - 0.3, NAN),
    }
    keep = apply(functools.partial(GROUP_FILTERS[option], **fields), arrays)
    np.testing.assert_array_equal(keep, GROUP_MASK[:, 0] & ~np.isin(GROUPS, dropped))


def test_a_filter_on_the_measure_does_not_see_shaped_scores():
    mask, groups = jnp.ones((4, 1), bool), jnp.array([0, 0, 1, 1])
    arrays = {
        "mask": mask,
        "group_ids": groups,
        "correct": jnp.array([True, True, True, False]),
        "scores": jnp.array([1.0, 0.9, 0.5, 0.5]),
    }
    np.testing.assert_array_equal(apply(GROUP_FILTERS["mixed"], arrays), [0, 0, 1, 1])
    np.testing.assert_array_equal(apply(GROUP_FILTERS["with_signal"], arrays), [1, 1, 0, 0])


def test_a_single_sample_has_no_signal():
    arrays = dict(
        mask=jnp.ones((1, 1), bool), group_ids=jnp.zeros(1, int), correct=jnp.ones(1, bool)
    )
    assert not apply(GROUP_FILTERS["mixed"], arrays).any()
    with pytest.raises(ValueError, match="accuracy_low is 0.9"):
        apply(functools.partial(GROUP_FILTERS["accuracy_range"], accuracy_low=0.9), arrays)
