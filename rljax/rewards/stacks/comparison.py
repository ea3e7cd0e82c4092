"""When other stacks call an answer right: (candidate, gold) -> 0 to 1."""

import re
from collections import Counter

from rljax.rewards.math_strings import normal_form
from rljax.rewards.mathematics.limits import is_tame
from rljax.rewards.stacks.normal_forms import mathd, prm800k, squad

_FRACTION = re.compile(r"-?\d+/\d+|-?\\frac\{\d+\}\{\d+\}")
_INTEGER = re.compile(r"-?\d+")


def same_text(candidate: str, gold: str) -> float:
    """Equal character by character."""
    return float(candidate == gold)


def same_without_case(candidate: str, gold: str) -> float:
    """Equal in lower case."""
    return float(candidate.lower() == gold.lower())


def same_in_hendrycks_form(candidate: str, gold: str) -> float:
    """Equal LaTeX in the normal form of MATH (arXiv:2103.03874)."""
    return float(normal_form(candidate) == normal_form(gold))


def same_words(candidate: str, gold: str) -> float:
    """Equal in SQuAD's form."""
    return float(squad(candidate) == squad(gold))


def shared_words(candidate: str, gold: str) -> float:
    """F1 of the words in SQuAD's form."""
    ours, theirs = squad(candidate).split(), squad(gold).split()
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0


def same_form_or_value(candidate: str, gold: str) -> float:
    """Equal in Hendrycks' form, or expressions whose difference simplifies to 0."""
    return same_in_hendrycks_form(candidate, gold) or float(difference_is_zero(candidate, gold))


def same_for_deepscaler(candidate: str, gold: str) -> float:
    """Equal in mathd's form, or element by element by PRM800K's rules."""
    if mathd(candidate) == mathd(gold):
        return 1.0
    ours, theirs = prm800k(candidate), prm800k(gold)
    if not ours:
        return 0.0
    if ours == theirs:
        return 1.0
    if _brackets(ours) != _brackets(theirs):
        return 0.0
    pairs = list(zip(_elements(ours), _elements(theirs), strict=False))
    if len(_elements(ours)) != len(_elements(theirs)):
        return 0.0
    return float(all(_same_element(a, b) for a, b in pairs))


def difference_is_zero(candidate: str, gold: str) -> bool:
    """True if both are expressions and their difference simplifies to 0."""
    import sympy
    from latex2sympy2_extended import NormalizationConfig
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy

    # "7." is no LaTeX number; their parsers refuse it.
    if not is_tame(candidate) or not is_tame(gold) or re.search(r"\d\.(?!\d)", candidate):
        return False
    try:
        symbols = ConversionConfig(lowercase_symbols=False)
        form = NormalizationConfig(malformed_operators=True, nits=True, boxed="none")
        ours, theirs = (
            latex2sympy(t, normalization_config=form, conversion_config=symbols)
            for t in (candidate, gold)
        )
        difference = ours - theirs
        return bool(sympy.simplify(difference) == 0)
    except Exception:  # the parser and sympy fail on a model's text in many ways of their own
        return False


def _same_element(candidate: str, gold: str) -> bool:
    if candidate == gold:
        return True
    if _FRACTION.fullmatch(candidate) and _FRACTION.fullmatch(gold):
        return False  # only the reduced fraction that the gold is
    if bool(_INTEGER.fullmatch(candidate)) != bool(_INTEGER.fullmatch(gold)):
        return False
    return difference_is_zero(candidate, gold)


def _brackets(text: str) -> str:
    """The brackets around a tuple or an interval; "" for anything else."""
    closed = len(text) > 2 and text[0] in "([" and text[-1] in ")]"
    return text[0] + text[-1] if closed and "," in text else ""


def _elements(text: str) -> list[str]:
    return text[1:-1].split(",") if _brackets(text) else [text]
