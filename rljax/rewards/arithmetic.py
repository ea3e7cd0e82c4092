"""Values of arithmetic in text, as Python would compute them, without running the text.

sum     := product (("+" | "-") product)*
product := signed (("*" | "/" | "//") signed)*
signed  := ("+" | "-")* power
power   := atom ("**" signed)?
atom    := NUMBER | "(" sum ")"
"""

import math
import operator
import re

Number = int | float | complex

# Deeper nesting, longer texts and longer whole numbers than these have no value here.
MAX_DEPTH = 100
MAX_CHARACTERS = 1000
MAX_BITS = 4096

_PIECE = re.compile(r"[0-9]*\.[0-9]+|[0-9]+\.|[0-9]+|\*\*|//|[-+*/()]|[ \t\f]+|[\r\n]+")
_SUMS = {"+": operator.add, "-": operator.sub}
_PRODUCTS = {"*": operator.mul, "/": operator.truediv, "//": operator.floordiv}


def evaluate(text: str) -> Number:
    """Value of digits, + - * / // **, parentheses and white space: whole numbers and floats.

    Raises:
        ValueError: if the text is no such expression, or has no value: a division by zero, an
            overflow, more than the limits of this file.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"An expression of {len(text)} characters; {MAX_CHARACTERS} are read.")
    parser = _Parser(split_pieces(text))
    try:
        return parser.whole()
    except ArithmeticError as error:
        raise ValueError(f"{text!r} has no value: {error}.") from error


def split_pieces(text: str) -> list[str]:
    """Numbers, operators and parentheses in order; a line may break inside parentheses only."""
    pieces, place, depth = [], 0, 0
    for match in _PIECE.finditer(text.strip()):
        piece = match[0]
        if match.start() != place or (depth == 0 and piece[0] in "\r\n"):
            break
        place = match.end()
        depth += {"(": 1, ")": -1}.get(piece, 0)
        if not piece.isspace():
            pieces.append(piece)
    if place != len(text.strip()):
        raise ValueError(f"{text!r} is no arithmetic from character {place} on.")
    return pieces


class _Parser:
    """Recursive descent over pieces; every method leaves `place` behind what it has read."""

    def __init__(self, pieces: list[str]) -> None:
        self.pieces, self.place, self.depth = pieces, 0, 0

    def whole(self) -> Number:
        value = self.sum()
        if self.place < len(self.pieces):
            raise ValueError(f"Nothing may stand before {self.pieces[self.place]!r}.")
        return value

    def sum(self) -> Number:
        value = self.product()
        while (sign := self.next_of(_SUMS)) is not None:
            value = _limited(_SUMS[sign](value, self.product()))
        return value

    def product(self) -> Number:
        value = self.signed()
        while (sign := self.next_of(_PRODUCTS)) is not None:
            try:
                value = _limited(_PRODUCTS[sign](value, self.signed()))
            except TypeError as error:  # // of a complex number
                raise ValueError(str(error)) from error
        return value

    def signed(self) -> Number:
        negative = False
        while (sign := self.next_of(_SUMS)) is not None:
            negative ^= sign == "-"
        value = self.power()
        return -value if negative else value

    def power(self) -> Number:
        base = self.atom()
        if self.next_of(("**",)) is None:
            return base
        return _power(base, self.nested(self.signed))

    def atom(self) -> Number:
        if self.next_of(("(",)) is not None:
            value = self.nested(self.sum)
            if self.next_of((")",)) is None:
                raise ValueError("A parenthesis is open.")
            return value
        piece = self.pieces[self.place] if self.place < len(self.pieces) else ""
        if not piece or piece in "**//+-()":
            raise ValueError(f"A number is missing at piece {self.place}.")
        self.place += 1
        if "." in piece:
            return float(piece)
        if piece[0] == "0" and piece.strip("0"):
            raise ValueError(f"{piece!r} begins with a zero.")
        return _limited(int(piece))

    def nested(self, rule) -> Number:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError(f"More than {MAX_DEPTH} nested parentheses and powers.")
        value = rule()
        self.depth -= 1
        return value

    def next_of(self, wanted) -> str | None:
        """Reads the next piece if it is wanted."""
        if self.place < len(self.pieces) and self.pieces[self.place] in wanted:
            self.place += 1
            return self.pieces[self.place - 1]
        return None


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1:
        if exponent * math.log2(abs(base)) > MAX_BITS:
            raise ValueError(f"{base}**{exponent} has more than {MAX_BITS} bits.")
    return _limited(base**exponent)


def _limited(value: Number) -> Number:
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise ValueError(f"A number of more than {MAX_BITS} bits.")
    return value
