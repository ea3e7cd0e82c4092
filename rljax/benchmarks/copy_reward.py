"""The reward of `ahead.py`'s task: how much of a completion is the letter of its prompt.

It may wait, as a verifier or an environment does that computes elsewhere.
"""

import time
from typing import Any


def copied(prompt: str, completion: str, reference: Any, *, seconds: float = 0.0) -> float:
    """Share of the completion's characters that are the reference; 0 where there is none."""
    time.sleep(seconds)
    return completion.count(str(reference)) / max(len(completion), 1)
