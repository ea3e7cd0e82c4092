"""Runs programs in a sandbox: the owner's side of a warden."""

import contextlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rljax.errors import StoppedError, unknown_name
from rljax.rewards.sandbox.layers import CHOICES, OPTIONAL, Layers, describe
from rljax.rewards.sandbox.limits import Ended, Limits, Program
from rljax.rewards.sandbox.programs import Failed

# Every means is tried, on a machine that may be busy.
_START_SECONDS = 300.0
# A run ends by its own limit first; then its processes are killed, and their files removed.
_GRACE_SECONDS = 30.0
_WARDEN_PROGRAM = """
import sys
sys.path[:] = {path!r}
from rljax.rewards.sandbox.warden import main
main()
"""


class SandboxError(StoppedError):
    """The sandbox itself failed; it says nothing about a program."""


class Sandbox:
    """A sandbox for programs; a context manager.

    Its warden starts with the first run, and again after it was lost.

    Args:
        means: of `CHOICES`; "auto" is the first of the others that works.
        without: layers of `OPTIONAL` that are left out, for tests.
        field: the config field or flag that names the means, for errors.

    Raises:
        ValueError: an unknown means.
    """

    def __init__(
        self, means: str = "auto", *, without: Sequence[str] = (), field: str = "--sandbox"
    ) -> None:
        if means not in CHOICES:
            raise unknown_name("sandbox", means, CHOICES, field)
        for layer in without:
            if layer not in OPTIONAL:
                raise unknown_name("layer", layer, OPTIONAL, "without")
        self.means, self._without, self._field = means, tuple(without), field
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._layers: Layers | None = None

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def start(self) -> Layers:
        """Starts the warden, unless it runs; returns what it uses.

        Raises:
            ValueError: the means that was asked for does not work here.
            SandboxError: the warden does not start.
        """
        if self._layers is None:
            with self._closed_on_error():
                self._popen()
                self._connection.send((self.means, self._without))
                found = self._receive(_START_SECONDS)
                if not isinstance(found, Layers):
                    raise ValueError(
                        f"The sandbox {self.means!r} does not work here: {found}; allowed are "
                        f"{', '.join(CHOICES)} ({self._field})."
                    )
                self._layers = found
        return self._layers

    def describe(self) -> str:
        """What is used, and what it cannot promise, in one line; see `start`."""
        return describe(self.start())

    def run(self, *programs: Program, limits: Limits) -> list[Ended]:
        """Runs one program, or two that are connected; see `rljax.rewards.sandbox.programs`.

        Returns:
            How each ended.

        Raises:
            ValueError: the means that was asked for does not work here.
            SandboxError: the sandbox failed; it starts anew with the next run.
        """
        self.start()
        with self._closed_on_error():
            self._connection.send(([tuple(program) for program in programs], tuple(limits)))
            found = self._receive(limits.seconds + _GRACE_SECONDS)
        if isinstance(found, Failed):
            self.close()
            raise SandboxError(f"A program could not be started: {found.reason}.")
        return found

    def close(self) -> None:
        """Ends what runs; may be called twice."""
        process, connection = self._process, self._connection
        self._process = self._connection = self._layers = None
        if connection is not None:
            connection.close()  # the warden sees it, ends its programs and removes their folders
        if process is not None:
            try:
                process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @contextlib.contextmanager
    def _closed_on_error(self) -> Any:
        """After any exception, also a timer's, replies would no longer belong to their runs."""
        try:
            yield
        except (EOFError, OSError) as error:
            self.close()
            raise SandboxError(f"The sandbox's own process was lost: {error!r}.") from error
        except BaseException:
            self.close()
            raise

    def _receive(self, seconds: float) -> Any:
        if not self._connection.poll(seconds):
            raise TimeoutError(f"no answer in {seconds} s")
        return self._connection.recv()

    def _popen(self) -> None:
        ours, theirs = multiprocessing.Pipe()
        root = str(Path(__file__).resolve().parents[3])
        program = _WARDEN_PROGRAM.format(path=[root, *filter(os.path.isabs, sys.path)])
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"}
                | {k: os.environ[k] for k in ("TMPDIR",) if k in os.environ},
                start_new_session=True,
                restore_signals=True,
            )
        finally:
            theirs.close()
        self._connection = ours
