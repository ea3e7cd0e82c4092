"""Batches of one size: every index once, then the last one again."""

import pytest

from rljax.data.batches import equal_batches


@pytest.mark.parametrize(
    "count, size, batches",
    [(5, 2, [[0, 1], [2, 3], [4, 4]]), (4, 2, [[0, 1], [2, 3]]), (1, 3, [[0, 0, 0]]), (0, 3, [])],
)
def test_the_last_batch_is_filled_up(count, size, batches):
    assert list(equal_batches(count, size)) == batches
