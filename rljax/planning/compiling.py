"""Compiles the programs of a run, each in a process of its own with a limit on its memory."""

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rljax.planning.chips import Topology

# A process that compiles for TPUs on a machine without one.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",  # no TPU is looked for; the topology alone loads libtpu
    "TPU_SKIP_MDS_QUERY": "1",  # no metadata server is asked where there is none
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# Flags of XLA for CPUs end libtpu, and no device here loads what is compiled.
FOR_CPUS = ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")


@dataclasses.dataclass(frozen=True)
class Compiler:
    """Asks worker processes about a run.

    Attributes:
        config: FILE[:ARG].
        overrides: words --config.a.b=value.
        topology: the slice.
        cache: folder of what was compiled before.
        memory_gb: that a process may take; 0: any.
        stage: that is planned; "": programs.py chooses.
    """

    config: str
    overrides: tuple[str, ...]
    topology: Topology
    cache: Path
    memory_gb: int = 0
    stage: str = ""

    def with_overrides(self, words: Sequence[str]) -> "Compiler":
        """The same run with further overrides, which go before its own of the same fields."""
        names = {word.partition("=")[0] for word in words}
        kept = [word for word in self.overrides if word.partition("=")[0] not in names]
        return dataclasses.replace(self, overrides=(*kept, *words))

    def describe(self) -> dict[str, Any]:
        """The run, its programs and what it holds (worker.py)."""
        return self._ask(None)

    def compile(self, program: str) -> dict[str, Any]:
        """Memory and costs of a program (worker.py)."""
        return self._ask(program)

    def _ask(self, program: str | None) -> dict[str, Any]:
        check_compiler()
        request = {
            "config": self.config,
            "overrides": list(self.overrides),
            "topology": str(self.topology),
            "program": program,
            "stage": self.stage,
            "cache": str(self.cache),
            "memory_gb": self.memory_gb,
        }
        kept = {name: value for name, value in os.environ.items() if name not in FOR_CPUS}
        done = subprocess.run(
            [sys.executable, "-m", "rljax.planning.worker", json.dumps(request)],
            env=kept | ENVIRONMENT,
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            return json.loads(done.stdout.splitlines()[-1])
        raise ValueError(self._why(program, done))

    def _why(self, program: str | None, done: subprocess.CompletedProcess) -> str:
        said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        if said:
            return said[-1].removeprefix("error: ")
        what = f"{program} of {self.config} for {self.topology}"
        if done.returncode < 0 and self.memory_gb:
            name = signal.Signals(-done.returncode).name
            return (
                f"The process that compiles {what} ended by {name}, as it does where "
                f"{self.memory_gb} GB are too few: allow more (--memory-gb)."
            )
        last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        return f"The process that compiles {what} ended with {done.returncode}: {last[0][:400]}"


def check_compiler() -> None:
    """Raises ValueError where the compiler for TPUs is not installed."""
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(
            "The compiler for TPUs, libtpu, is not installed: pip install 'rljax[plan]' "
            "(--topology)."
        )
