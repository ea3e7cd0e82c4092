r"""Numbers as people write them, read exactly: 1,000; 3 1/2; \frac{1}{2}; 12.5\%; \$4.50; 5 cm."""

import re
from fractions import Fraction
from typing import NamedTuple

from rljax.rewards.mathematics import units

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+|\d{1,3}(?: \d{3})+|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_BRACED = rf"\{{\s*([+-]?\s*{_DIGITS})\s*\}}"
_BAR = rf"({_DIGITS})\s*/\s*({_DIGITS})"
_LATEX = rf"\\frac\s*(?:{_BRACED}|(\d))\s*(?:{_BRACED}|(\d))"
_FRACTION = rf"(?:{_BAR}|{_LATEX})"
_EXPONENT = r"[+-]?\d{1,3}"
_TIMES = r"\s*(?:\\times|\\cdot|\*|x)\s*"
_TEN = rf"(?:{_TIMES}10\s*\^\s*(?:\{{\s*({_EXPONENT})\s*\}}|({_EXPONENT}))|[eE]({_EXPONENT}))"

_NAME = re.compile(
    r"(\\?[a-zA-Z]+(?:_(?:\w|\{\w+\}))?|[a-zA-Z]\([a-zA-Z]\)|\\text\{[^{}]*\})\s*=\s*(?=[^=])"
)
_SIGN = re.compile(r"\s*([+-]?)\s*")
_MONEY = re.compile("(" + "|".join(map(re.escape, units.CURRENCIES)) + r")\s*")
_MIXED = re.compile(rf"(\d+)(?:\s+|\s*(?=\\frac))(?:\\[,;:! ]\s*)?{_FRACTION}")
_ONE_FRACTION = re.compile(_FRACTION)
_REPEATING = re.compile(r"(\d*)\.(\d*)\\overline\s*\{?(\d+)\}?")
_PLAIN = re.compile(rf"({_DECIMAL}){_TEN}?")
_POWER_OF_TEN = re.compile(r"10\s*\^\s*(?:\{\s*([+-]?\d{1,3})\s*\}|(\d))(?!\d)")
_PERCENT = re.compile(
    r"\s*(?:\\?%|percent\b|per cent\b|pct\b|\\text\s*\{\s*(?:percent|%|\\%)\s*\})\s*(?:points?)?"
)
_BASE = re.compile(r"_\s*\{?\s*(?:\\text\{)?(\d{1,2}|two|eight|ten|sixteen)\}?\s*\}?")
_SCALE_WORDS = "|".join(units.SCALES)
_SCALE = re.compile(rf"\s*(?:\\text\s*\{{\s*)?({_SCALE_WORDS})(?:s?\b\s*\}}?|(?<=[千万亿]))")


class Number(NamedTuple):
    """An exact number and what stood beside it.

    Attributes:
        value: without the percent sign: 10\\% is 10.
        places: digits behind the point; None for a number that is not written as a decimal.
        percent: a percent sign stood behind it.
        unit: "" for none; see `units.unit_of`. A number in base b has the unit "base b".
        name: of what it is the value, such as "x"; "" if that is not said.
    """

    value: Fraction
    places: int | None = None
    percent: bool = False
    unit: str = ""
    name: str = ""

    @property
    def exact(self) -> Fraction:
        """The value with the percent sign counted: 10\\% is 1/10."""
        return self.value / 100 if self.percent else self.value


def read_number(text: str) -> Number | None:
    """The number that a text is, with its sign, percent sign, currency and unit; None if none.

    Args:
        text: as `spelling.plain` leaves it.
    """
    name = _NAME.match(text)
    rest = text[name.end() :] if name else text
    sign, rest = _sign(rest)
    money = _MONEY.match(rest.replace("\\$", "$"))
    if money:
        rest = rest.replace("\\$", "$", 1)[money.end() :]
        more, rest = _sign(rest)
        sign *= more
    found = _magnitude(rest)
    if found is None:
        return None
    value, places, end = found
    rest = rest[end:]
    percent = _PERCENT.match(rest)
    rest = rest[percent.end() :] if percent else rest
    scale, rest = _scale(rest)
    if scale != 1:
        places = None
    base = _BASE.fullmatch(rest.strip())
    unit = f"base {base[1]}" if base else units.unit_of(rest.replace("\\$", "$"))
    if unit is None or (rest[:1].isdigit()):
        return None
    if money:
        unit = units.NAMES.get(money[1], money[1])
    name_text = re.sub(r"\\text|[\s{}]", "", name[1]) if name else ""
    return Number(sign * value * scale, places, bool(percent), unit, name_text)


def same_number(first: Number, second: Number) -> bool:
    """True if both are one number.

    A decimal with six places or more is also the number that it rounds. A percent sign may be left
    out (10% is both 10 and 0.1, as for math-verify), and so may a unit and the name in "x = 3"; two
    different ones are different answers.
    """
    if first.name and second.name and first.name.lower() != second.name.lower():
        return False
    if first.unit and second.unit and first.unit != second.unit:
        if units.is_known(first.unit) and units.is_known(second.unit):
            return False
        if first.unit.startswith("base") and second.unit.startswith("base"):
            return False
    if _close(first, second):
        return True
    if first.percent == second.percent:
        return False
    as_fractions = [n._replace(value=n.exact, places=_places_of_exact(n)) for n in (first, second)]
    return _close(*as_fractions)


def rounds_to(value: Fraction, places: int | None, other: Fraction) -> bool:
    """True if `value`, written with so many places, is `other` rounded.

    It takes six places and three digits that are not leading zeros: 0.333333 is 1/3, 0.33 is not.
    """
    if places is None or places < 6 or abs(value) * 10**places < 100:
        return False
    return abs(value - other) * 2 * 10**places <= 1


def _close(first: Number, second: Number) -> bool:
    return (
        first.value == second.value
        or rounds_to(first.value, first.places, second.value)
        or rounds_to(second.value, second.places, first.value)
    )


def _places_of_exact(number: Number) -> int | None:
    return number.places + 2 if number.percent and number.places is not None else number.places


def _sign(text: str) -> tuple[int, str]:
    match = _SIGN.match(text)
    return (-1 if match[1] == "-" else 1), text[match.end() :]


def _whole(text: str) -> int:
    return int(re.sub(r"[,\s+]", "", text))


def _ratio(parts: tuple[str | None, ...]) -> Fraction | None:
    top, bottom = [_whole(part) for part in parts if part is not None]
    return Fraction(top, bottom) if bottom else None


def _magnitude(text: str) -> tuple[Fraction, int | None, int] | None:
    """Value, decimal places, and where the number ends."""
    if match := _MIXED.match(text):
        part = _ratio(match.groups()[1:])
        if part is not None and 0 <= part < 1:
            return int(match[1]) + part, None, match.end()
    if match := _ONE_FRACTION.match(text):
        part = _ratio(match.groups())
        return None if part is None else (part, None, match.end())
    if match := _REPEATING.match(text):
        whole, fixed, repeated = match.groups()
        shift = 10 ** len(fixed)
        tail = Fraction(int(repeated), shift * (10 ** len(repeated) - 1))
        return Fraction(int((whole or "0") + fixed), shift) + tail, None, match.end()
    if match := _POWER_OF_TEN.match(text):
        return Fraction(10) ** int(match[1] or match[2]), None, match.end()
    if match := _PLAIN.match(text):
        digits = re.sub(r"[,\s]", "", match[1]).rstrip(".")
        exponent = next((int(e) for e in match.groups()[1:] if e is not None), 0)
        places = max(len(digits.partition(".")[2]) - exponent, 0) if "." in digits else None
        return Fraction(digits) * Fraction(10) ** exponent, places, match.end()
    return None


def _scale(text: str) -> tuple[int, str]:
    match = _SCALE.match(text)
    return (units.SCALES[match[1]], text[match.end() :]) if match else (1, text)
