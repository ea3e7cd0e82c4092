"""Messages without a schema."""

import pytest

from rljax.planning.groups import groups_of
from rljax.planning.wire import Message

# 1: 150, 2: "testing", 3 (packed): 3, 270, 86942, 4: -1; the first three are of the format's guide.
BYTES = bytes.fromhex("089601120774657374696e671a06038e029ea70520ffffffffffffffffff01")


def test_numbers_texts_and_lists_are_read():
    message = Message(BYTES)
    assert message.number(1) == 150
    assert message.text(2) == "testing"
    assert message.numbers(3) == [3, 270, 86942]
    assert message.number(4) == -1
    assert (message.number(9), message.text(9), message.messages(9)) == (0, "", [])
    assert message.has(1) and not message.has(9)


@pytest.mark.parametrize("cut", [1, 2, 8])
def test_what_ends_too_early_is_an_error(cut):
    with pytest.raises(ValueError, match="program"):
        Message(BYTES[:cut] if cut < 8 else BYTES[:8])


def test_groups_that_are_counted_out():
    # Field 92: 2 groups of 2, ids 0..3 as 2 x 2, transposed: {0, 2}, {1, 3}.
    counted = bytes.fromhex("080210021a02020222020100")
    message = Message(bytes.fromhex("e205") + bytes([len(counted)]) + counted)
    assert groups_of(message, "all-reduce", 4) == ((0, 2), (1, 3))
    assert groups_of(Message(b""), "all-reduce", 3) == ((0, 1, 2),)
