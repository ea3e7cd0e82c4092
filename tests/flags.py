"""Settings of XLA that only some versions of jaxlib know.

XLA ends the process at a flag that it does not know, without a reason that pytest could show. So
a flag is first tried in a process of its own.
"""

import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

# Without the fusions the CPU's compiler takes a third of the time. jaxlib 0.12 cannot leave them.
FUSIONS = "xla_cpu_use_fusion_emitters"
# With it the devices of one process may start the independent collectives of a program in differing
# orders; on a busy machine they then wait for each other until XLA aborts.
CONCURRENCY = "xla_cpu_enable_concurrency_optimized_scheduler"


@functools.cache
def knows_flag(name: str, value: str) -> bool:
    """Whether `--name=value` may stand in XLA_FLAGS here. Takes a second, once.

    Raises:
        RuntimeError: if jax does not even start without the flag.
    """

    def starts(flags: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
        command = [sys.executable, "-c", "import jax; jax.devices()"]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    if starts(f"--{name}={value}").returncode == 0:
        return True
    plain = starts("")
    if plain.returncode != 0:
        raise RuntimeError(f"jax does not start: {plain.stderr[-2000:]}")
    return False


def with_flags(given: str, wanted: Mapping[str, Any]) -> str:
    """The text of XLA_FLAGS with what is wanted, except where it is given already."""
    added = [f"--{name}={value}" for name, value in wanted.items() if name not in given]
    return " ".join([given, *added]).strip()
