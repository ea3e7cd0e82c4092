"""Countdown rewards of TinyZero, d1 (arXiv:2504.12216) and SPG (arXiv:2510.09541).

References are {"numbers": [...], "target": t} (or JSON text).
"""

import math
import re
from collections.abc import Sequence
from typing import Any

from rljax.rewards.answers import last_boxed, last_tagged
from rljax.rewards.arithmetic import evaluate
from rljax.rewards.references import reference_fields

# The reference code accepts floats this near to the target.
TOLERANCE = 1e-5

_CHARACTERS = re.compile(r"[\d+\-*/().\s]+")
_EQUATION = re.compile(r"([0-9+\-*/() ]+)=[0-9. ]+")


def countdown(
    prompt: str,
    completion: str,
    reference: Any,
    *,
    partial_reward: float = 0.1,
    partial: str = "answer",
) -> float:
    """1.0 if the last <answer> pair holds an expression of all numbers with the target as value.

    The numbers are the runs of digits; the expression may hold digits, + - * / ( ) . and white
    space, so signs, `**` and `//` too, as in the papers' code.

    Args:
        prompt: not read.
        completion: the model's text.
        reference: numbers and target.
        partial_reward: of other answers.
        partial: "answer": any answer pair gets it, as in the papers' code; "numbers": only one with
            the right numbers, as in the text of d1.

    Raises:
        ValueError: another reference or `partial`.
    """
    if partial not in ("answer", "numbers"):
        raise ValueError(
            f"partial of the reward 'countdown' must be 'answer' or 'numbers', got {partial!r} "
            "(config.scoring.rewards)."
        )
    numbers, target = read_countdown(reference, "countdown")
    answer = last_tagged(completion)
    if answer is None:
        return 0.0
    right_numbers = uses_numbers(answer, numbers)
    if right_numbers and reaches(answer, target):
        return 1.0
    return float(partial_reward) if right_numbers or partial == "answer" else 0.0


def countdown_boxed(
    prompt: str, completion: str, reference: Any, *, unboxed: str = "text"
) -> float:
    r"""1.0 if the expression of the papers' evaluation, mostly in \boxed{}, reaches the target.

    Args:
        prompt: not read.
        completion: the model's text.
        reference: numbers and target.
        unboxed: see `boxed_expression`.
    """
    numbers, target = read_countdown(reference, "countdown_boxed")
    expression = boxed_expression(completion, unboxed=unboxed)
    return float(uses_numbers(expression, numbers) and reaches(expression, target))


def read_countdown(reference: Any, reward: str) -> tuple[list[int], int | float]:
    """The numbers and the target of a reference.

    Raises:
        ValueError: if it does not hold whole numbers and a number.
    """
    numbers, target = reference_fields(reference, ("numbers", "target"), reward)
    whole = isinstance(numbers, Sequence) and all(type(number) is int for number in numbers)
    if not whole or not numbers or type(target) not in (int, float) or not math.isfinite(target):
        raise ValueError(
            f"The reward {reward!r} needs a list of whole numbers and a number as target, got "
            f"{numbers!r} and {target!r} (config.data.reference_column)."
        )
    return list(numbers), target


def boxed_expression(completion: str, *, unboxed: str = "text") -> str:
    r"""The expression in the last \boxed{}: LaTeX operators replaced, "= number" cut off.

    Args:
        completion: the model's text.
        unboxed: what is read where there is no box: "text" the whole text, "answer" the last
            <answer> pair, and the text only where that is missing too.
    """
    if unboxed not in ("text", "answer"):
        raise ValueError(
            f"unboxed of the reward 'countdown_boxed' must be 'text' or 'answer', got {unboxed!r} "
            "(config.scoring.rewards)."
        )
    box = last_boxed(completion)
    if box is not None:
        expression = box.removeprefix("\\boxed").strip()
        expression = expression[1:-1] if expression.startswith("{") else expression
    else:
        answer = last_tagged(completion) if unboxed == "answer" else None
        expression = completion if answer is None else answer
    for latex, sign in (("\\div", "/"), ("\\times", "*"), ("\\cdot", "*")):
        expression = expression.replace(latex, sign)
    equation = _EQUATION.search(expression)
    return equation[1].strip() if equation else expression


def uses_numbers(expression: str, numbers: Sequence[int]) -> bool:
    """True if the runs of digits are the given numbers, each once, in any order."""
    found = re.findall(r"\d+", expression)
    # int() of thousands of digits is refused by Python and would be no given number anyway.
    if len(found) != len(numbers) or max(map(len, found), default=0) > 100:
        return False
    return sorted(map(int, found)) == sorted(map(int, numbers))


def reaches(expression: str, target: float) -> bool:
    """True if the expression has a value within TOLERANCE of the target."""
    if not _CHARACTERS.fullmatch(expression):
        return False
    try:
        return abs(evaluate(expression) - target) < TOLERANCE
    except (ValueError, OverflowError):  # the difference of a huge number and a float
        return False
