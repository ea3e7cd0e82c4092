"""The batch size at which sampling turns from constant to linear."""

import pytest

from rljax.benchmarks.batch_size import fitted, prompt_counts


def test_the_fit_finds_both_parts():
    sizes = [1, 2, 4, 8, 16, 32, 64]
    fixed, each = fitted(sizes, [0.5 + 0.03 * b for b in sizes])
    assert (fixed, each) == pytest.approx((0.5, 0.03))
    # Time in proportion, and time that falls: neither part is below 0.
    assert fitted(sizes, [0.1 * b for b in sizes]) == pytest.approx((0.0, 0.1))
    fixed, each = fitted([1, 2, 4], [1.0, 1.05, 1.3])
    assert fixed > 0 and each > 0
    assert fitted([1, 2, 4], [0.2, 0.5, 1.1])[0] == 0.0
    assert fitted([1, 2, 4], [1.3, 1.1, 1.0])[1] == 0.0


def test_sizes_double_up_to_the_most():
    assert prompt_counts(8, 1) == [1, 2, 4, 8]
    assert prompt_counts(6, 2) == [2, 4, 6]
    assert prompt_counts(1, 1) == [1]
