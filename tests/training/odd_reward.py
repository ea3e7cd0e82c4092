"""Rewards that even an untrained model earns, or that go wrong."""

import time
import zlib


def odd(prompt: str, completion: str, reference: object) -> float:
    """1.0 for an odd number of characters."""
    return float(len(completion) % 2)


def goes_wrong(prompt: str, completion: str, reference: object) -> float:
    """Raises for an odd number of characters, hangs on the sums with the result 7."""
    if len(completion) % 2:
        raise RuntimeError("no verdict on an odd completion")
    if reference == "7":
        time.sleep(60)
    return 1.0


def raises_always(prompt: str, completion: str, reference: object) -> float:
    """Never a verdict."""
    raise RuntimeError("the verifier is broken")


def some(prompt: str, completion: str, reference: object) -> float | None:
    """Nothing for a third of the completions, 1.0 or 2.0 for the others."""
    kind = zlib.crc32(completion.encode()) % 3
    return None if kind == 0 else float(kind)


def two_points(prompt: str, completion: str, reference: object) -> float:
    """2.0 for an odd number of characters."""
    return 2.0 * odd(prompt, completion, reference)
