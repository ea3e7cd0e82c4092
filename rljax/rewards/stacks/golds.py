"""Gold answers of the rewards of other stacks."""

import re
from typing import Any

from rljax.rewards.answers import box_content, last_boxed
from rljax.rewards.references import gold_texts

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)")


def number_golds(reference: Any) -> list[str]:
    """Texts as the stacks prepare GSM8K: what follows the last "####", without commas and "$"."""
    tails = (text.rpartition("####")[2] for text in gold_texts(reference))
    return [re.sub(r"[,$]", "", tail).strip() for tail in tails]


def check_number(gold: str) -> None:
    """Raises ValueError for a gold that no rule about numbers could ever find."""
    if not _NUMBER.fullmatch(gold):
        raise ValueError(f"this reward compares numbers, and {gold!r} is none")


def latex_golds(reference: Any) -> list[str]:
    """LaTeX; of whole solutions what stands in the last box."""
    boxes = [(text, last_boxed(text)) for text in gold_texts(reference)]
    return [text if box is None else box_content(box) for text, box in boxes]


def check_text(gold: str) -> None:
    """Raises ValueError for an empty gold."""
    if not gold.strip():
        raise ValueError("it is empty")
