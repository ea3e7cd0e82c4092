"""Two rewards that may be over-optimised, and the score that they stand for.

Each is a share of a text's characters. What is wanted is a certain mixture; more of either is
worse, and the sum of the two rewards only grows.
"""

from typing import Any

# Where the true score has its peak: the thresholds of methods that hold a reward.
DIGITS, LETTERS = 0.5, 0.25


def _share(completion: str, characters: str) -> float:
    return sum(each in characters for each in completion) / max(len(completion), 1)


def digits(prompt: str, completion: str, reference: Any) -> float:
    """The share of digits."""
    return _share(completion, "0123456789")


def letters(prompt: str, completion: str, reference: Any) -> float:
    """The share of the letters a to h."""
    return _share(completion, "abcdefgh")


def within(prompt: str, completion: str, reference: Any, *, slack: float = 0.0625) -> float:
    """1 where neither is more than its threshold and some slack, else 0: a constraint."""
    found = digits(prompt, completion, reference), letters(prompt, completion, reference)
    return float(found[0] <= DIGITS + slack and found[1] <= LETTERS + slack)


def true_score(prompt: str, completion: str, reference: Any) -> float:
    """1 at the wanted mixture, and less by twice the distance of each share from it; never < 0."""
    far = abs(digits(prompt, completion, reference) - DIGITS)
    far += abs(letters(prompt, completion, reference) - LETTERS)
    return max(0.0, 1.0 - 2.0 * far)
