"""Segments of a text: what is asked for never stands in the context."""

import pytest

from rljax.data.segments import Segment, next_segments, segments_of

CODE = "def f(x):\n    y = x + 1\n\n    return y\n"


def test_lines_keep_their_indentation_and_empty_ones_are_no_targets():
    assert list(next_segments(CODE, "line")) == [
        Segment("def f(x):", "    y = x + 1", "    return y"),
        Segment("def f(x):\n    y = x + 1", "    return y", ""),
    ]


def test_sentences_and_words():
    text = "One is odd. Thus! Two is even, 1.5 is not. "
    found = [segment.target for segment in next_segments(text, "sentence", shortest=6)]
    assert found == ["Two is even, 1.5 is not."]
    assert [text[a:b] for a, b in segments_of(text, "sentence")] == [
        *("One is odd.", "Thus!", "Two is even, 1.5 is not."),
    ]
    words = list(next_segments("a  b c", "word"))
    assert words == [Segment("a", "b", "c"), Segment("a  b", "c", "")]


@pytest.mark.parametrize("split", ["line", "sentence", "word"])
def test_the_context_is_what_comes_before_and_the_parts_make_up_the_text(split):
    text = CODE + "It adds. It returns.\n" + CODE
    places = segments_of(text, split)
    assert "".join("".join(text[a:b].split()) for a, b in places) == "".join(text.split())
    for segment, (start, _) in zip(next_segments(text, split), places[1:], strict=True):
        assert text.startswith(segment.before) and len(segment.before) <= start
        assert text[start:].startswith(segment.target)
        assert text[len(segment.before) : start].strip() == ""


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match="split='page'; known: 'line', 'sentence', 'word'"):
        segments_of("a", "page")
    with pytest.raises(ValueError, match="shortest=0 characters"):
        segments_of("a", "line", shortest=0)
    assert not list(next_segments("", "line")) and not list(next_segments("one line", "line"))
