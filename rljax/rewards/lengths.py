"""Rewards of how long a completion is, and of what stands before its end of thinking."""

import math
from typing import Any

from rljax.rewards.answers import box_content, last_boxed
from rljax.rewards.user_rewards import FIELD

UNITS = ("tokens", "characters")


def length(
    prompt: str,
    completion: str,
    reference: Any,
    *,
    completion_tokens: int,
    max_tokens: int,
    cache_tokens: int,
) -> float:
    """Soft over-long penalty of DAPO (Yu et al. 2025, arXiv:2503.14476, eq. 13), in tokens.

        0                                       if n <= max_tokens - cache_tokens
        (max_tokens - cache_tokens - n) / cache_tokens     up to max_tokens
        -1                                      beyond

    Args:
        prompt: not read.
        completion: not read.
        reference: not read.
        completion_tokens: n, sampled tokens including eos; filled in by the scorer.
        max_tokens: length from which the penalty is full.
        cache_tokens: width of the ramp before it.

    Raises:
        ValueError: unless 0 < cache_tokens <= max_tokens.
    """
    if not 0 < cache_tokens <= max_tokens:
        raise ValueError(
            f"The length reward needs 0 < cache_tokens <= max_tokens, got {cache_tokens=}, "
            f"{max_tokens=} ({FIELD})."
        )
    over = completion_tokens - (max_tokens - cache_tokens)
    return -min(max(over, 0) / cache_tokens, 1.0)


def cosine_length(
    prompt: str,
    completion: str,
    reference: Any,
    *,
    right: bool,
    completion_tokens: int,
    max_length: int,
    unit: str = "tokens",
    right_short: float = 1.0,
    right_long: float = 0.1,
    wrong_short: float = -1.0,
    wrong_long: float = -0.1,
) -> float:
    """1.0 falling to 0.1 with the length of a right sample, -1.0 rising to -0.1 of a wrong one.

        long + (short - long) (1 + cos(pi min(L, max_length) / max_length)) / 2

    Short wrong answers are punished most, long right ones are paid least (arXiv:2507.08267).

    Args:
        prompt: not read.
        completion: the model's text.
        reference: not read.
        right: what the rewards before this one say; filled in by the scorer.
        completion_tokens: sampled tokens including eos; filled in by the scorer.
        max_length: length from which the value is that of a long one.
        unit: "tokens", or "characters" as in the paper, whose `max_length` is 30000.
        right_short: value of a right sample of no length.
        right_long: of a right one of `max_length`.
        wrong_short: of a wrong sample of no length.
        wrong_long: of a wrong one of `max_length`.

    Raises:
        ValueError: for a `max_length` below 1, or another unit.
    """
    if max_length < 1 or unit not in UNITS:
        raise ValueError(
            f"cosine_length needs max_length >= 1 and a unit of {', '.join(UNITS)}, got "
            f"{max_length=}, {unit=} ({FIELD})."
        )
    spent = min(completion_tokens if unit == "tokens" else len(completion), max_length)
    short, long = (right_short, right_long) if right else (wrong_short, wrong_long)
    return long + (short - long) * (1 + math.cos(math.pi * spent / max_length)) / 2


def boxed_in_thinking(prompt: str, completion: str, reference: Any, *, tag: str = "think") -> float:
    r"""1.0 if a \boxed{} that holds something stands before the first </think> (2507.08267).

    What stands behind the tag need not be sampled then.

    Args:
        prompt: not read.
        completion: the model's text.
        reference: not read.
        tag: name of the tag that ends the thinking.
    """
    thinking, closed, _ = completion.partition(f"</{tag}>")
    box = last_boxed(thinking) if closed else None
    return float(box is not None and bool(box_content(box).strip()))
