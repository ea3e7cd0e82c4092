"""The reward "instructions": how many of its instructions a text follows."""

from typing import Any

from rljax.rewards.instructions.table import read_instructions
from rljax.rewards.stacks.extraction import after_thought


def instructions(prompt: str, completion: str, reference: Any, *, every: bool = False) -> float:
    """Share of IFEval's instructions that the text behind the last </think> follows.

    Tags of an answer are left out, and an empty text follows nothing, as in open-instruct.

    Args:
        prompt: not read.
        completion: the model's text.
        reference: see `rljax.rewards.instructions.table.read_instructions`.
        every: 1.0 for a text that follows all of them, else 0.0.
    """
    (text,) = after_thought(completion)
    asked = read_instructions(reference)
    followed = sum(one.followed(text) for one in asked)
    return float(followed == len(asked)) if every else followed / len(asked)
