"""Whether programs can be run here at all: on Linux, unless a container forbids all of it."""

import functools

import pytest

from rljax.rewards.sandbox.sandbox import Sandbox


@functools.cache
def _why_not() -> str:
    try:
        with Sandbox() as sandbox:
            sandbox.start()
    except ValueError as error:
        return str(error)
    return ""


needs_sandbox = pytest.mark.skipif(bool(_why_not()), reason=_why_not())
