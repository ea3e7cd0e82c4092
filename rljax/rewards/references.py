"""What references hold: gold answers, and the fields of mappings."""

import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

# Where a mapping holds the gold answer; the second is verl's.
GOLD_KEYS = ("answer", "ground_truth")

# Decimals beyond this power of ten are refused.
MAX_EXPONENT = 300


def gold_texts(reference: Any) -> list[str]:
    """The gold answers of a reference as texts; each of them is right.

    Args:
        reference: a text; a number (JSON's, numpy's or a Decimal); a mapping that holds one of
            these under "answer" or "ground_truth"; or a list of alternatives.

    Raises:
        ValueError: for anything else, and for numbers that are not finite or have lost digits.
    """
    if isinstance(reference, Mapping):
        keys = [key for key in GOLD_KEYS if reference.get(key) is not None]
        if not keys:
            raise _no_gold(reference)
        return gold_texts(reference[keys[0]])
    if hasattr(reference, "tolist"):  # numpy
        reference = reference.tolist()
    if isinstance(reference, list | tuple):
        if not reference:
            raise ValueError("A gold answer must not be an empty list (the reference column).")
        return [text for one in reference for text in gold_texts(one)]
    if isinstance(reference, str):
        return [reference]
    if isinstance(reference, bool) or not isinstance(reference, int | float | Decimal):
        raise _no_gold(reference)
    return [_number_text(reference)]


def gold_text(reference: Any) -> str:
    """The one gold answer of a reference as text; see `gold_texts`.

    Raises:
        ValueError: if there is none, or more than one.
    """
    texts = gold_texts(reference)
    if len(texts) > 1:
        raise ValueError(f"One gold answer is compared here, got {len(texts)}: {reference!r}.")
    return texts[0]


def _no_gold(given: Any) -> ValueError:
    return ValueError(
        f"A gold answer must be text or a number, got {given!r} (the reference column of the data)."
    )


def _number_text(number: int | float | Decimal) -> str:
    """A number as people write it: 72.0 is 72, and 0.30000000000000004 is 0.3."""
    if isinstance(number, int):
        return str(number)
    finite = number.is_finite() if isinstance(number, Decimal) else math.isfinite(number)
    if not finite:
        raise ValueError(f"A gold answer must be finite, got {number!r}.")
    if isinstance(number, float) and abs(number) >= 2**53:
        raise ValueError(
            f"The gold answer {number!r} is a float that has lost digits; write it as text."
        )
    if isinstance(number, Decimal) and abs(number.adjusted()) > MAX_EXPONENT:
        raise ValueError(f"The gold answer {number!r} is beyond 10^{MAX_EXPONENT}.")
    if number == int(number):
        return str(int(number))
    exact = Decimal(f"{number:.15g}") if isinstance(number, float) else number
    return f"{exact.normalize():f}"


def reference_fields(reference: Any, names: Sequence[str], reward: str) -> list[Any]:
    """The named fields of a reference.

    Raises:
        ValueError: if it is no mapping, nor the JSON text of one, or lacks a field.
    """
    given = reference
    if isinstance(reference, str):
        try:
            reference = json.loads(reference)
        except ValueError:
            reference = None
    if not isinstance(reference, Mapping) or not set(names) <= set(reference):
        listed = " and ".join(map(repr, names))
        raise ValueError(
            f"The reward {reward!r} needs a reference with {listed}, got {given!r} "
            "(config.data.reference_column)."
        )
    return [reference[name] for name in names]
