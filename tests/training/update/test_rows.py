"""Rows of prompts and completions, rewards on their last token, and the batches of a step."""

import numpy as np
import pytest

from rljax.training.update.rows import (
    completion_rows,
    group_rows,
    rollout_rows,
    take_rows,
    update_order,
)


def test_rows_by_hand():
    rows = completion_rows(
        np.array([[9, 9, 5], [1, 2, 3]]),
        np.array([[False, False, True], [True, True, True]]),
        np.array([[6, 7, 0, 0], [4, 0, 0, 0]]),
        np.array([[True, True, False, False], [True, False, False, False]]),
    )
    np.testing.assert_array_equal(rows["tokens"], [[9, 9, 5, 6, 7, 0, 0], [1, 2, 3, 4, 0, 0, 0]])
    np.testing.assert_array_equal(
        rows["segment_ids"], [[0, 0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 0, 0, 0]]
    )
    real = rows["segment_ids"] > 0
    np.testing.assert_array_equal(rows["positions"][real], [0, 1, 2, 0, 1, 2, 3])
    assert rows["mask"].shape == (2, 4)


def test_group_rows_by_hand():
    """Two prompts of 1 and 3 tokens with two completions each, one of them empty."""
    rows = group_rows(
        np.array([[9, 9, 5], [1, 2, 3]]),
        np.array([[False, False, True], [True, True, True]]),
        np.array([[[6, 7], [8, 0]], [[4, 4], [0, 0]]]),
        np.array([[[True, True], [True, False]], [[True, True], [False, False]]]),
    )
    np.testing.assert_array_equal(rows["tokens"], [[9, 9, 5, 6, 7, 8, 0], [1, 2, 3, 4, 4, 0, 0]])
    np.testing.assert_array_equal(
        rows["segment_ids"], [[0, 0, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 0, 0]]
    )
    real = rows["segment_ids"] > 0
    np.testing.assert_array_equal(rows["positions"][real], [0, 1, 2, 1, 0, 1, 2, 3, 4])
    assert rows["positions"].min() >= 0 and rows["mask"].shape == (2, 2, 2)
    assert {rows[name].dtype.name for name in ("tokens", "positions", "segment_ids")} == {"int32"}


def test_both_layouts_hold_the_same_tokens_at_the_same_positions():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 5, 3)
    prompt_mask = np.arange(4) >= 4 - lengths[:, None]
    mask = np.arange(6) < rng.integers(0, 7, (3, 5))[..., None]
    arrays = rng.integers(0, 99, (3, 4)), prompt_mask, rng.integers(0, 99, (3, 5, 6)), mask
    shared = rollout_rows(*arrays, share_prompts=True)
    separate = rollout_rows(*arrays, share_prompts=False)
    np.testing.assert_array_equal(separate["mask"], mask.reshape(15, 6))
    for name in ("tokens", "positions", "segment_ids"):
        one, own = shared[name][:, :4], shared[name][:, 4:].reshape(15, 6)
        np.testing.assert_array_equal(separate[name][:, :4], np.repeat(one, 5, axis=0))
        completions = separate[name][:, 4:]
        kept = mask.reshape(15, 6)
        np.testing.assert_array_equal(completions[kept], own[kept], err_msg=name)


def test_single_batch_keeps_its_order():
    order = update_order(6, rows_per_update=6, epochs=1, seed=(0, 1))
    np.testing.assert_array_equal(order, [np.arange(6)])


@pytest.mark.parametrize("rows_per_update, epochs", [(4, 1), (4, 3), (12, 2), (1, 1)])
def test_every_epoch_uses_every_row_once(rows_per_update, epochs):
    order = update_order(12, rows_per_update=rows_per_update, epochs=epochs, seed=(3, 5))
    assert order.shape == (12 * epochs // rows_per_update, rows_per_update)
    by_epoch = order.reshape(epochs, 12)
    for epoch in by_epoch:
        assert sorted(epoch) == list(range(12))
    if epochs > 1:
        assert (by_epoch[0] != by_epoch[1]).any()


def test_order_depends_on_seed_and_step_only():
    def order(*seed):
        return update_order(32, rows_per_update=8, epochs=1, seed=seed)

    np.testing.assert_array_equal(order(0, 1), order(0, 1))
    assert (order(0, 1) != order(0, 2)).any() and (order(0, 1) != order(1, 1)).any()


def test_rows_of_a_unit_stay_together():
    order = update_order(24, rows_per_update=12, epochs=2, seed=(1,), unit=4).reshape(2, 6, 4)
    for epoch in order:
        assert sorted(epoch[:, 0]) == [0, 4, 8, 12, 16, 20]
        np.testing.assert_array_equal(epoch, epoch[:, :1] + np.arange(4))


def test_arrays_of_a_batch_stay_together():
    rows = {"mask": np.ones((8, 1), bool), "a": np.arange(8), "b": np.arange(8) * 10}
    taken = take_rows(rows, [3, 1])
    np.testing.assert_array_equal(taken["b"], [30, 10])
    np.testing.assert_array_equal(taken["b"], taken["a"] * 10)
