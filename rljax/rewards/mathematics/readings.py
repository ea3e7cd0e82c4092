r"""What an answer is: a number, choices, words, or an expression for the algebra system."""

import functools
import logging
import re
from decimal import Decimal
from typing import Any, NamedTuple

from rljax.rewards.mathematics import limits, spelling, units
from rljax.rewards.mathematics.numbers import Number, read_number

_LETTER = r"\(?([A-Z])\)?"
_CHOICE = re.compile(_LETTER)
_CHOICES = re.compile(rf"{_LETTER}(?:\s*(?:,|;|&|and|,\s*and)\s*{_LETTER})+")
_SEVERAL = re.compile(r"[A-H]{2,6}")
_CHOICE_AND_TEXT = re.compile(r"(?:\(([A-Z])\)|([A-Z])(?:\)|[.:](?=\s)))\s*(\S.*)")
# What an option begins with, so that "(A) \cup (B)" is none.
_OPTION = re.compile(r"-?\s?(?:\\?\$)?-?(?:\.?\d|\\[dt]?frac|\\sqrt|\\pi)|[^\W\d_]{2,}")
_AFTER_LETTER = re.compile(r"(?:[).:}~\s]|\\[ ,;:!]|\\q?quad)*")

_CLOCK = re.compile(r"\d{1,2}(?::\d{2})?\s*[ap]\.?\s?m\.?|\d{1,2}:00", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}|\d{1,2}/\d{1,2}/\d{4}")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_LONG_WORD = re.compile(r"[^\W\d_]{4,}|[^\W\d_a-zA-Zα-ωΑ-Ω]{1,}")
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox|operatorname)\s*\{([^{}]*)\}")
_ONLY_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mbox)\s*\{[^{}]*\}")
# Of two and three letters; longer ones are words by their length.
_SHORT_WORD = re.compile(
    "[A-Z][a-z]{1,2}|no|yes|odd|one|two|six|ten|red|all|any|sun|mon|tue|wed|thu|fri|sat"
)
_SPEECH = frozenset(
    "is are was were has have had equals so thus hence therefore because it he she they there we"
    " you this that answer to in at by of if for per when where with".split()
)
_FUNCTIONS = frozenset(
    "sqrt sinh cosh tanh arcsin arccos arctan infty infinity theta alpha beta gamma delta lambda"
    " sigma omega frac cdot times floor ceil mathbb".split()
)
_TRAILING_TEXT = re.compile(
    r"(?:\\[,;:! ]|~|\s)*\\(?:text|mathrm|mbox|textrm)\s*\{[^{}]*\}(?:\^\{?-?\d\}?)?$"
)
_REMARK = re.compile(r"(?<=.)(?:\\[,;:! ]|\s)*\\text\s*\{\s*\([^{}]*\)\s*\}$")
_TRAILING_WORDS = re.compile(r"(?<=[\d})\s])\s*([a-zA-Z]{2,}(?:\^\{?\d\}?)?)$")


class Reading(NamedTuple):
    """An answer as it is compared.

    Attributes:
        kind: "number", "choice", "words", "expression" or "spelling" (compared as it is written).
        text: LaTeX in the one spelling, without wrappings.
        number: if it is one.
        choices: letters, if it is one or more of them.
        words: in lower case, if it can be read as words.
    """

    kind: str
    text: str
    number: Number | None = None
    choices: frozenset[str] = frozenset()
    words: str = ""

    @property
    def shown(self) -> str:
        """The reading as people write it."""
        if self.number is not None:
            return _shown_number(self.number)
        if self.choices:
            return ", ".join(sorted(self.choices))
        if self.kind == "expression":
            return " = ".join(map(str, expressions(self)[:1])) or self.text
        return self.words if self.kind == "words" else self.text


def read(text: str) -> Reading | None:
    """Reads an answer; None for an empty one and one that is too long."""
    if len(text) > limits.MAX_CHARACTERS:
        return None
    said = bool(_ONLY_TEXT.fullmatch(spelling.plain(text).strip("$ .")))
    text = _bare(text)
    if not text:
        return None
    number = read_number(text)
    if number is not None:
        return Reading("number", text, number=number, words=_words(text))
    choices = choices_of(text)
    if choices:
        return Reading("choice", text, choices=choices, words=_words(text))
    if _is_words(text, said):
        return Reading("words", text, words=_words(text))
    text = _without_unit(spelling.without_thousands(text))
    kind = "expression" if limits.is_tame(text) else "spelling"
    return Reading(kind, text, words=_words(text))


def choices_of(text: str) -> frozenset[str]:
    """The letters of "A", "(A)", "A, C" and "ACD"; empty if it is nothing of that kind."""
    text = spelling.words_of(text)
    if match := _CHOICE.fullmatch(text):
        return frozenset(match[1])
    if _CHOICES.fullmatch(text):
        return frozenset(re.findall(r"[A-Z]", text))
    if _SEVERAL.fullmatch(text) and list(text) == sorted(set(text)):
        return frozenset(text)
    return frozenset()


def choice_before_text(text: str) -> frozenset[str]:
    """The letter of "(A) Paris", "A. Paris" and "A: Paris"."""
    match = _CHOICE_AND_TEXT.match(spelling.words_of(text))
    return frozenset(match[1] or match[2]) if match else frozenset()


def choice_and_text(text: str) -> tuple[Reading, Reading] | None:
    r"""Both halves of "(A) 5", "A) 5", "A. Paris" and "\textbf{(A)}\ \frac{1}{2}", if it is one."""
    text = spelling.plain(text)
    match = _CHOICE_AND_TEXT.match(spelling.words_of(text))
    if match is None:
        return None
    letter, option = match[1] or match[2], match[3]
    if "\\" in option:
        after = text.partition(letter)[2]
        option = after[_AFTER_LETTER.match(after).end() :]
    if not _OPTION.match(option):
        return None
    halves = read(letter), read(option)
    return None if None in halves else halves


def is_sentence(text: str) -> bool:
    """True for words and mathematics mixed: what of it is the answer cannot be told."""
    text = re.sub(r"\\(?:begin|end)\s*\{\w+\}", " ", text)
    outside = _COMMAND.sub(" ", _TEXT.sub(r" \1 ", text))
    words = re.findall(r"[^\W\d_]{2,}", outside)
    has_words = any(w.lower() not in _FUNCTIONS for w in _LONG_WORD.findall(outside))
    speech = _SPEECH.intersection(word.lower() for word in words)
    return bool(re.search(r"[\d=<>^+*/\\]", outside)) and (has_words or bool(speech))


@functools.cache
def _quiet() -> None:
    """Drops the warning of math-verify that nobody times it: the scorer does."""
    for module in ("parser", "grader", "utils"):
        logging.getLogger(f"math_verify.{module}").setLevel(logging.ERROR)


def expressions(reading: Reading, *, fall_back: bool = False) -> list[Any]:
    """The sympy values of a reading, for math-verify's `verify`; empty if it cannot be parsed.

    Args:
        reading: of a tame text.
        fall_back: where the LaTeX cannot be parsed, any number in it will do.

    Raises:
        ValueError: if it can, but has no value: a division by zero.
    """
    import sympy
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    if reading.number is not None:
        value = reading.number.value
        values = [sympy.Rational(value.numerator, value.denominator)]
        return values + [values[0] / 100] if reading.number.percent else values
    if reading.kind != "expression":
        return []
    _quiet()
    # Units are gone already, and theirs would take the t of 3t for one.
    normalization = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="all"
    )
    targets = [LatexExtractionConfig(boxed_match_priority=0, normalization_config=normalization)]
    targets += [ExprExtractionConfig()] if fall_back else []
    # No timers of its own: they need the main thread's alarm, which is the scorer's.
    found = parse(
        f"\\boxed{{{reading.text}}}", targets, fallback_mode="no_fallback", parsing_timeout=None
    )
    if any(value in (sympy.zoo, sympy.nan) for value in found):
        raise ValueError("it has no value (a division by zero)")
    return found


def _bare(text: str) -> str:
    """One spelling, and nothing around it."""
    text = spelling.plain(text)
    while True:
        inner = spelling.unwrapped(spelling.without_sentence(spelling.unwrapped(text)))
        inner = _REMARK.sub("", inner.removeprefix("=")).strip()
        if inner == text:
            return text
        text = inner


def _words(text: str) -> str:
    words = spelling.words_of(text).strip("'\"").casefold()
    return words.replace(".", "") if _CLOCK.fullmatch(words) else words


def _is_words(text: str, said: bool) -> bool:
    """True for words; `said`: all of it stood in \\text{}, so that a short word is no product."""
    spoken = spelling.words_of(text)
    if _CLOCK.fullmatch(spoken) or _DATE.fullmatch(spoken):
        return True
    if re.search(r"[\\=<>^+*/|_\[\]]", spoken):
        return False
    if _SHORT_WORD.fullmatch(spoken):
        return True
    words = re.findall(r"[^\W\d_]{2,}", spoken)
    long = [word for word in _LONG_WORD.findall(spoken) if word.lower() not in _FUNCTIONS]
    if re.search(r"\d", spoken):
        return bool(long) and len(words) <= 3 and not _SPEECH & {w.lower() for w in words}
    return bool(long) or (said and bool(words))


def _without_unit(text: str) -> str:
    """An expression without the unit behind it: "2\\sqrt{3}\\text{ cm}", "\\pi/2 radians"."""
    said = _TRAILING_TEXT.search(text)
    if said and text[: said.start()].strip() and units.unit_of(said[0]):
        return text[: said.start()].strip()
    match = _TRAILING_WORDS.search(text)
    if match and re.sub(r"\^.*", "", match[1]) in units.NAMES:
        return text[: match.start()].strip() or text
    return text


def _shown_number(number: Number) -> str:
    value = number.value
    text = str(value)
    if number.places and abs(value) < 10**20:
        text = f"{Decimal(value.numerator) / Decimal(value.denominator):.{number.places}f}"
    sign = "%" if number.percent else ""
    unit = f" {number.unit}" if number.unit else ""
    return (f"{number.name} = " if number.name else "") + text + sign + unit
