"""What a judge's answer says."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rljax.rewards.judges.client import SHOWN, JudgeError

_NUMBER = re.compile(r"(?<![\d.])-?\d+(?![\d.]*\d)")


def last_score(text: str, lowest: int, highest: int) -> int:
    """The last whole number of a text.

    Raises:
        JudgeError: if there is none, or it is out of the range.
    """
    numbers = _NUMBER.findall(text)
    if not numbers or not lowest <= int(numbers[-1]) <= highest:
        raise _no_score(text, lowest, highest)
    return int(numbers[-1])


def expected_score(choice: Mapping[str, Any], lowest: int, highest: int) -> float:
    """The mean of the scores that the judge might have written, at the last one that it wrote.

        sum of x p(x), with p renormalised over the tokens that are scores      (arXiv:2603.12246)

    Args:
        choice: of an answer with log-probabilities.
        lowest: score.
        highest: score; each is one token.

    Raises:
        JudgeError: without log-probabilities, or where no token of the answer is a score.
    """
    tokens = (choice.get("logprobs") or {}).get("content")
    if not tokens:
        raise JudgeError(
            "The judge gives no log-probabilities, which an expected score is made of: set "
            "expected=False (options.expected)."
        )
    scores = {str(score): score for score in range(lowest, highest + 1)}
    at = next((one for one in reversed(tokens) if one["token"].strip() in scores), None)
    if at is None:
        raise _no_score(choice["message"]["content"], lowest, highest)
    weights: dict[int, float] = {}
    for one in at.get("top_logprobs") or [at]:
        score = scores.get(one["token"].strip())
        if score is not None:  # " 7" and "7" are the same score
            weights[score] = weights.get(score, 0.0) + math.exp(one["logprob"])
    total = sum(weights.values())
    if not total > 0:
        raise _no_score(choice["message"]["content"], lowest, highest)
    return sum(score * weight for score, weight in weights.items()) / total


def verdict(text: str, answers: Sequence[str]) -> int:
    """Which of the answers a text begins with.

    Raises:
        JudgeError: if it begins with none of them.
    """
    words = text.split()
    first = words[0].strip(".,:;()[]*\"'") if words else ""
    if first not in answers:
        raise JudgeError(
            f"The judge answered {text[:SHOWN]!r}, which begins with none of {', '.join(answers)}."
        )
    return list(answers).index(first)


def _no_score(text: str, lowest: int, highest: int) -> JudgeError:
    return JudgeError(
        f"The judge answered {text[:SHOWN]!r}, which has no score from {lowest} to {highest}."
    )
