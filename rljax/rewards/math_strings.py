r"""Rewards of d1 (arXiv:2504.12216) on MATH: answers compared as normalised LaTeX, and a format.

Stricter than the reward "math", which computes: "0.50" is not "1/2" here. The normal form is the
one of the MATH data set (arXiv:2103.03874).
"""

import re
from typing import Any

from rljax.rewards.answers import last_boxed
from rljax.rewards.references import gold_text

# In this order.
_REPLACED = [
    (re.compile(pattern, re.DOTALL), by)
    for pattern, by in (
        (r"\n|\\!", ""),
        (r"\\\\", r"\\"),
        (r"\\[td]frac", r"\\frac"),
        (r"\\left|\\right", ""),
        (r"\^\{\\circ\}|\^\\circ", ""),
        (r"\\\$", ""),
        (r"\\text\{ .*", ""),  # a unit
        (r"\\?%", ""),
        (r"(^|[ {])\.", r"\g<1>0."),
        (r"^[^=]{0,2}=([^=]*)$", r"\1"),  # x = 5
        (r"\\sqrt\s*([^{\s])", r"\\sqrt{\1}"),
        (r" ", ""),
        (r"\\frac([^{])([^{])", r"\\frac{\1}{\2}"),
        (r"\\frac([^{])\{", r"\\frac{\1}{"),
        (r"^0\.5$", r"\\frac{1}{2}"),
        (r"^(-?[0-9]+)/(-?[0-9]+)$", r"\\frac{\1}{\2}"),
    )
]


def math_string(prompt: str, completion: str, reference: Any) -> float:
    r"""2.0 if the last \boxed{}, or else the whole text, is the gold answer in normal form.

    Args:
        prompt: not read.
        completion: the model's text.
        reference: gold text, of which the last \boxed{} is compared if there is one.
    """
    gold, answer = _unboxed(gold_text(reference)), _unboxed(completion)
    return 2.0 * (normal_form(answer) == normal_form(gold))


def math_tags_format(
    prompt: str, completion: str, reference: Any, *, reference_bug: bool = False
) -> float:
    r"""1.0 for an <answer> with a \boxed in it, 0.75 for one without, 0.5 for a \boxed, else 0.25.

    Args:
        prompt: not read.
        completion: the model's text.
        reference: not read.
        reference_bug: the papers' code looks for a backspace and "oxed", which no text has: 0.75
            with an answer tag and 0.25 without.
    """
    _, tag, rest = completion.partition("<answer>")
    looked_at = rest.split("</answer>")[0] if tag else completion
    boxed = ("\x08oxed" if reference_bug else "\\boxed") in looked_at
    return 0.25 + 0.5 * bool(tag) + 0.25 * boxed


def normal_form(text: str) -> str:
    r"""LaTeX without layout: "\dfrac12", "\frac{1}{2}", "1/2" and "0.5" are all \frac{1}{2}."""
    for pattern, by in _REPLACED:
        text = pattern.sub(by, text)
    return text


def _unboxed(text: str) -> str:
    box = last_boxed(text)
    if box is None:
        return text
    content = box.removeprefix("\\boxed").strip()
    return content[1:-1] if content.startswith("{") else content
