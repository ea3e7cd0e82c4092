"""Reads protocol buffers without their schema: numbered fields, each a number or bytes.

The compiler hands its programs out in this form, and no package that rljax needs has the schema.
"""

from collections.abc import Iterator

Value = int | bytes

# Kinds of fields on the wire: https://protobuf.dev/programming-guides/encoding
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """The (number, value) of each field of a message, in their order.

    Numbers of fixed size come as their bytes.

    Raises:
        ValueError: if the bytes are no message.
    """
    place = 0
    while place < len(message):
        key, place = varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, place = varint(message, place)
            yield number, value
            continue
        size = {FIXED64: 8, FIXED32: 4}.get(kind)
        if kind == BYTES:
            size, place = varint(message, place)
        if size is None or place + size > len(message):
            raise ValueError(f"Field {number} of a program cannot be read (kind {kind}).")
        yield number, message[place : place + size]
        place += size


def varint(message: bytes, place: int) -> tuple[int, int]:
    """The number of variable size at a place, and the place behind it."""
    value = shift = 0
    while True:
        if place >= len(message):
            raise ValueError("A program ends inside of a number.")
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def signed(value: int) -> int:
    """A number of 64 bits, which are written without a sign."""
    return value - (1 << 64) if value >= 1 << 63 else value


class Message:
    """A message by field number. A field that is not there is 0, b"" or an empty list."""

    def __init__(self, content: bytes) -> None:
        self._fields: dict[int, list[Value]] = {}
        for number, value in fields(content):
            self._fields.setdefault(number, []).append(value)

    def number(self, field: int) -> int:
        """A signed whole number."""
        return signed(self._fields.get(field, [0])[-1])

    def numbers(self, field: int) -> list[int]:
        """Signed whole numbers, packed or one by one."""
        found = []
        for value in self._fields.get(field, []):
            if isinstance(value, int):
                found.append(signed(value))
                continue
            place = 0
            while place < len(value):
                number, place = varint(value, place)
                found.append(signed(number))
        return found

    def content(self, field: int) -> bytes:
        """The bytes of a field."""
        return self._fields.get(field, [b""])[-1]

    def text(self, field: int) -> str:
        """A text."""
        return self.content(field).decode("utf-8", "replace")

    def texts(self, field: int) -> list[str]:
        """All texts of a repeated field."""
        return [value.decode("utf-8", "replace") for value in self._fields.get(field, [])]

    def message(self, field: int) -> "Message":
        """A message inside; an empty one where there is none."""
        return Message(self.content(field))

    def messages(self, field: int) -> list["Message"]:
        """All messages of a repeated field."""
        return [Message(value) for value in self._fields.get(field, [])]

    def has(self, field: int) -> bool:
        """Whether the field is there."""
        return field in self._fields
