"""How near a judge that is trained comes to the score of a gold judge (arXiv:2603.12246)."""

from typing import Any

from rljax.rewards.judges.answers import last_score
from rljax.rewards.judges.client import JudgeError
from rljax.rewards.references import gold_text
from rljax.rewards.stacks.extraction import after_thought


def score_agreement(
    prompt: str, completion: str, reference: Any, *, lowest: int = 0, highest: int = 9
) -> float:
    """(M - (score - gold)^2) / M with M = (highest - lowest)^2; -1.0 for a text without a score.

    It is 1.0 for the gold score, 0.0 for the farthest one. The score is the last whole number
    behind the last </think>.

    Args:
        prompt: not read.
        completion: the judge's text.
        reference: the score of the gold judge.
        lowest: score.
        highest: score.
    """
    gold = read_score(reference, lowest, highest)
    (answer,) = after_thought(completion)
    try:
        score = last_score(answer, lowest, highest)
    except JudgeError:
        return -1.0
    largest = (highest - lowest) ** 2
    return (largest - (score - gold) ** 2) / largest


def read_score(reference: Any, lowest: int, highest: int) -> int:
    """The gold score.

    Raises:
        ValueError: unless it is a whole number in the range.
    """
    text = gold_text(reference).strip()
    if not text.lstrip("-").isdigit() or not lowest <= int(text) <= highest:
        raise ValueError(f"a gold score is a whole number from {lowest} to {highest}, got {text!r}")
    return int(text)
