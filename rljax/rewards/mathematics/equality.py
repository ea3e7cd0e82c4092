"""When two answers are one: exactly, or as math-verify says where nothing exact can be said."""

import functools
import re
from fractions import Fraction
from typing import Any

from rljax.rewards.mathematics import readings
from rljax.rewards.mathematics.numbers import Number, rounds_to, same_number
from rljax.rewards.mathematics.readings import Reading

# math-verify takes numbers for equal whose difference vanishes in 15 decimals; in so many, powers
# with exponents of three digits still differ.
_PRECISION = 1000
_DIGITS = 60
# Numbers whose difference is more than this part of them are far apart.
_NEAR = 10**6


# Of a gold, which many samples are compared with.
gold_values = functools.lru_cache(maxsize=4096)(readings.expressions)


def same(gold: Reading, answer: Reading) -> bool:
    """True if an answer has the value of the gold one.

    Letters keep their case where they stand alone (A is not a); words do not.
    """
    if gold.number is not None and answer.number is not None:
        return same_number(gold.number, answer.number)
    if gold.choices:
        return gold.choices == (answer.choices or readings.choice_before_text(answer.text))
    letters = [_lone_letter(gold.text), _lone_letter(answer.text)]
    if all(letters):
        return letters[0] == letters[1]
    if gold.words and gold.words == answer.words:
        return True
    if gold.kind == "words":
        return False
    if _without_blanks(gold.text) == _without_blanks(answer.text):
        return True
    if "spelling" in (gold.kind, answer.kind):
        return False
    golds = gold_values(gold)
    try:
        answers = readings.expressions(answer, fall_back=True)
    except ValueError:
        return False
    if not golds or not answers:
        return False
    return same_values(golds, answers) or _rounded(gold, answer, golds, answers)


def same_values(golds: list[Any], answers: list[Any]) -> bool:
    """True if math-verify finds one of the golds equal to one of the answers, and rightly so.

    Args:
        golds: sympy values.
        answers: the same; the comparison is not symmetric.
    """
    return any(_same_value(gold, answer) for gold in golds for answer in answers)


def _same_value(gold: Any, answer: Any) -> bool:
    from math_verify import verify

    options = dict(allow_set_relation_comp=True, timeout_seconds=None)
    ours, theirs = _number(gold), _number(answer)
    known = ours is not None and theirs is not None
    # Two numbers that are far apart need no algebra, which may take for ever.
    if known and abs(ours - theirs) * _NEAR > max(abs(ours), 1):
        return False
    if not verify(gold, answer, **options):
        return False
    if _has_float(gold) or _has_float(answer):
        return not known or abs(ours - theirs) * _NEAR <= abs(ours)
    return verify(gold, answer, numeric_precision=_PRECISION, **options)


def _rounded(gold: Reading, answer: Reading, golds: list[Any], answers: list[Any]) -> bool:
    """True if one is a decimal that rounds the number that the other one is."""
    for reading, values in ((answer, golds), (gold, answers)):
        number: Number | None = reading.number
        if number is not None and number.places is not None:
            exact = _number(_right_side(values[0]))
            if exact is not None and rounds_to(number.value, number.places, exact):
                return True
    return False


def _right_side(value: Any) -> Any:
    """What stands right of an equation; anything else as it is."""
    import sympy

    return value.rhs if isinstance(value, sympy.Equality) else value


def _number(value: Any) -> Fraction | None:
    """A real number to 60 digits; None for anything else."""
    import sympy

    if not isinstance(value, sympy.Expr) or value.free_symbols:
        return None
    try:
        near = value.evalf(_DIGITS)
    except (ArithmeticError, AttributeError, NotImplementedError, TypeError, ValueError):
        return None  # sympy knows no value of it
    if not isinstance(near, sympy.Float | sympy.Integer | sympy.Rational) or not near.is_finite:
        return None
    exact = sympy.Rational(near)
    return Fraction(int(exact.p), int(exact.q))


def _has_float(value: Any) -> bool:
    import sympy

    return bool(getattr(value, "atoms", lambda kind: ())(sympy.Float))


def _lone_letter(text: str) -> str:
    match = re.fullmatch(r"\(?([a-zA-Z])\)?", text)
    return match[1] if match else ""


def _without_blanks(text: str) -> str:
    return re.sub(r"\s|\\[,;:!]|\\left(?![a-z])|\\right(?![a-z])", "", text)
