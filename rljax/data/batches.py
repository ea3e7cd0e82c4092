"""The indices of some rows in batches of one size, so that a jitted program has one shape."""

from collections.abc import Iterator


def equal_batches(count: int, size: int) -> Iterator[list[int]]:
    """The indices 0 .. count - 1 by `size`; the last batch is filled up with the last index.

    What is made of the filling stands at the end: the first `count` results are those of the rows.

    Args:
        count: rows.
        size: of every batch, > 0.
    """
    for start in range(0, count, size):
        yield [min(index, count - 1) for index in range(start, start + size)]
