"""How far two ways to compute the same sum may differ."""

import numpy as np


def rounding(values, terms: int, dtype=np.float32) -> float:
    """The absolute tolerance between sums that were added in two orders.

    A CPU adds in the order that its registers suggest, and each addition rounds to half a unit in
    the last place. Such errors grow with the root of their number; twice two standard deviations
    are allowed, of the largest value.

    Args:
        values: the sums, or one way to compute them.
        terms: how many products one sum has; for results of several layers, of all of them.
        dtype: in which they were added.
    """
    largest = float(np.max(np.abs(np.asarray(values, np.float64))))
    return 4 * float(np.finfo(dtype).eps) / 2 * terms**0.5 * largest


def assert_same_sums(found, expected, terms: int) -> None:
    """Arrays of equal shape differ by rounding only: see `rounding`."""
    atol = rounding(expected, terms)
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
