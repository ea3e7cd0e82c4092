r"""The reward "math"."""

import re
from typing import Any

from rljax.rewards.answers import box_content, boxes, last_boxed
from rljax.rewards.mathematics import limits, readings
from rljax.rewards.mathematics.equality import gold_values, same, same_values
from rljax.rewards.mathematics.golds import Gold, read_gold
from rljax.rewards.mathematics.readings import Reading

# Boxes with less than so many characters between them may hold one list together.
_NEAR = 70
# How far back they are looked for, in characters.
_REACH = 2000

_EMPTY_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{\s*\}")


def math(prompt: str, completion: str, reference: Any, *, require_boxed: bool = True) -> float:
    r"""1.0 if the completion's answer has the value of the gold one; spelling does not count.

    The last \boxed{...} alone is read, so the verdict does not depend on what precedes it; empty
    ones do not count, and where the gold is a list, it may be spread over as many boxes. Numbers
    are compared exactly; what is no number is compared by math-verify. Over-long answers, huge
    exponents and towers of powers score 0 unread.

    Args:
        prompt: not read.
        completion: the model's text.
        reference: gold answer, see `rljax.rewards.mathematics.golds.read_gold`.
        require_boxed: False also reads an unboxed final expression. That rewards ending a text in
            many numbers, so use it for evaluation only.
    """
    gold = read_gold(reference)
    completion = _EMPTY_BOX.sub("", completion)
    box = last_boxed(completion)
    if box is None:
        if require_boxed or "\\boxed" in completion or "\\fbox" in completion:
            return 0.0
        return float(_is_in(completion[-limits.MAX_CHARACTERS :], gold))
    content = box_content(box)
    if any(_says(content, reading) for reading in gold.alternatives):
        return 1.0
    return float(any(_spread(completion, reading) for reading in gold.alternatives))


def _says(content: str, gold: Reading) -> bool:
    answer = readings.read(content)
    return answer is not None and same(gold, answer)


def _spread(completion: str, gold: Reading) -> bool:
    """True if the last boxes together are the list that the gold is."""
    count = _length(gold)
    if count < 2:
        return False
    last = boxes(completion[-_REACH:])[-count:]
    gaps = [b.start - a.end for a, b in zip(last, last[1:], strict=False)]
    if len(last) < count or max(gaps) > _NEAR:
        return False
    return _says(", ".join(box_content(box.text) for box in last), gold)


def _length(gold: Reading) -> int:
    """How many values a gold list has; 1 for anything else."""
    if gold.kind == "choice":
        return len(gold.choices)
    if gold.kind != "expression" or not re.search(r",|;|\\pm|\bor\b|\band\b", gold.text):
        return 1
    import sympy

    value = gold_values(gold)[0]
    return len(value.args) if isinstance(value, sympy.FiniteSet) else 1


def _is_in(text: str, gold: Gold) -> bool:
    """True if math-verify finds the answer in a text without a box."""
    if not limits.is_tame(text):
        return False
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse

    targets = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    found = parse(text, targets, fallback_mode="no_fallback", parsing_timeout=None)
    for reading in gold.alternatives:
        values = gold_values(reading)
        if values and found and same_values(values, found):
            return True
    return False
