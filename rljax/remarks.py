"""What a user is told in passing: a choice between two truths, something that is not read."""

import functools
import logging

LOGGER = logging.getLogger("rljax")


@functools.cache
def say_once(text: str) -> None:
    """Writes one line to the log, which goes to standard error; the same text once per process."""
    LOGGER.warning("note: %s", text)
