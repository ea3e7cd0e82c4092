"""Demonstrations on a canvas: what is behind the end is learned too, and what was cut is not."""

import pytest

from rljax.data.canvas import filled
from rljax.data.packing import Example

END = 9


def example(prompt, answer):
    return Example([*prompt, *answer], [False] * len(prompt) + [True] * len(answer))


def test_an_answer_is_filled_with_its_end():
    found = filled(example([1, 2], [3, END]), 4, (END,), "field")
    assert found.tokens == [1, 2, 3, END, END, END]
    assert found.learned == [False, False, True, True, True, True]


@pytest.mark.parametrize("answer, canvas", [([3, END], 0), ([3, END], 2), ([3, 4], 4)])
def test_without_room_or_without_an_end_nothing_is_filled(answer, canvas):
    """The last one was cut: nothing says that it ends there."""
    assert filled(example([1], answer), canvas, (END,), "field") == example([1], answer)


def test_only_the_last_answer_has_a_canvas():
    turns = Example([1, 2, END, 3, 4, END], [False, True, True, False, True, True])
    found = filled(turns, 3, (END,), "field")
    assert found.tokens == [1, 2, END, 3, 4, END, END] and found.learned[-3:] == [True] * 3


def test_an_answer_longer_than_the_canvas_is_refused():
    with pytest.raises(ValueError, match=r"3 tokens with its end, the canvas 2 \(field\)"):
        filled(example([1], [2, 3, END]), 2, (END,), "field")
