import numpy as np
import pytest

from rljax.data.packing import Example, PackedEpochs, first_fit, pack_rows

LENGTHS = np.random.default_rng(0).integers(1, 65, 700)


def test_rows_by_hand():
    examples = [
        Example([7, 8, 9], [False, False, True]),
        Example([5, 6, 4], [False, True, True]),
        Example([3], [False]),
    ]
    rows = pack_rows(examples, [[0, 1], [2]], row_tokens=8, pad_id=99)
    np.testing.assert_array_equal(rows.tokens, [[7, 8, 9, 5, 6, 4, 99, 99], [3] + [99] * 7])
    np.testing.assert_array_equal(rows.positions, [[0, 1, 2, 0, 1, 2, 0, 0], [0] * 8])
    np.testing.assert_array_equal(rows.segment_ids, [[1, 1, 1, 2, 2, 2, 0, 0], [1] + [0] * 7])
    np.testing.assert_array_equal(rows.loss_mask, [[0, 0, 1, 0, 1, 1, 0, 0], [0] * 8])
    assert rows.loss_mask.dtype == bool and rows.tokens.dtype == np.int32
    with pytest.raises(ValueError, match="Row 0 with example 1 needs 6 tokens, a row holds 5"):
        pack_rows(examples, [[0, 1]], row_tokens=5, pad_id=0)


def test_no_completion_is_predicted_from_the_example_before_it():
    with pytest.raises(ValueError, match="Example 1: the prompt is empty"):
        pack_rows(
            [Example([7, 8], [False, True]), Example([9], [True])],
            [[0, 1]],
            row_tokens=8,
            pad_id=0,
        )


def test_first_fit_agrees_with_the_plain_algorithm():
    def plain(lengths, size):
        rows, room = [], []
        for index, length in enumerate(lengths):
            row = next((r for r, free in enumerate(room) if free >= length), len(rows))
            if row == len(rows):
                rows.append([])
                room.append(size)
            rows[row].append(index)
            room[row] -= length
        return rows

    for count in (1, 2, 3, 64, 200):
        lengths = LENGTHS[:count].tolist()
        assert first_fit(lengths, row_tokens=64) == plain(lengths, 64)


@pytest.mark.parametrize("packed", [True, False])
def test_an_epoch_uses_every_example_once_and_no_row_overflows(packed):
    epochs = PackedEpochs(LENGTHS, seed=1, row_tokens=64, packed=packed)
    for epoch in range(3):
        plan = epochs.plan(epoch)
        assert sorted(index for row in plan for index in row) == list(range(700))
        assert max(LENGTHS[row].sum() for row in plan) <= 64
        assert packed or all(len(row) == 1 for row in plan)
    assert epochs.plan(0) != epochs.plan(1)


def test_random_lengths_fill_nine_tenths():
    for seed in range(3):
        for row_tokens, least in ((64, 0.9), (256, 0.95)):
            rows = len(PackedEpochs(LENGTHS, seed=seed, row_tokens=row_tokens).plan(0))
            assert LENGTHS.sum() / (rows * row_tokens) > least


@pytest.mark.parametrize("packed", [True, False])
def test_steps_walk_through_the_epochs_and_are_addressable(packed):
    epochs = PackedEpochs(LENGTHS[:50], seed=5, row_tokens=64, packed=packed)
    ends = np.cumsum([len(epochs.plan(epoch)) for epoch in range(4)])
    steps = int(ends[-1]) // 7
    walked = [row for step in range(steps) for row in epochs.rows_for_step(step, 7)]
    planned = [row for epoch in range(4) for row in epochs.plan(epoch)]
    assert walked == planned[: steps * 7]
    fresh = PackedEpochs(LENGTHS[:50], seed=5, row_tokens=64, packed=packed)
    assert fresh.rows_for_step(steps - 1, 7) == walked[-7:]
    assert fresh.rows_for_step(0, 7) == walked[:7]


@pytest.mark.parametrize(
    "lengths, message",
    [
        ([3, 9], r"Example 1 needs 9 tokens, a row holds 8 \(config.<stage>.data.row_tokens\)"),
        ([3, 0], "Example 1 has no tokens"),
        ([], "nothing to pack"),
    ],
)
def test_bad_lengths(lengths, message):
    with pytest.raises(ValueError, match=message):
        PackedEpochs(lengths, seed=0, row_tokens=8)
