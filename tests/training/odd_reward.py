"""Rewards that even an untrained model earns, or that go wrong."""

import time


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
