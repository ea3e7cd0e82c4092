"""Plans as text: small numbers still say something."""

import pytest

from rljax.planning.table import GIB, counted, gib


@pytest.mark.parametrize("number, said", [(8_190_735_360, "8.19 B"), (821_000, "0.821 M")])
def test_parameters_are_counted_in_billions_or_millions(number, said):
    assert counted(number) == said


@pytest.mark.parametrize(
    "size, said", [(None, ""), (0, "0.00"), (7.6387 * GIB, "7.64"), (0.00123 * GIB, "0.0012")]
)
def test_sizes_below_a_tenth_of_a_gib_keep_two_digits(size, said):
    assert gib(size) == said
