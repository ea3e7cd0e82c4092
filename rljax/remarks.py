"""What a user is told in passing: a choice between two truths, something that is not read."""

import functools
import sys


@functools.cache
def say_once(text: str) -> None:
    """Prints one line to standard error; the same text once per process."""
    print(f"note: {text}", file=sys.stderr)
