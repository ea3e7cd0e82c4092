"""One of several processes: python small_run.py WORKDIR FAULT [jax]

Ten steps, and in the fourth one a process does what FAULT says: "kill:1", "stop:1", "hang:1",
"error:0", "fault:1", "sigterm:1", "config:1"; "none" for nothing. With "jax" each step is a sum
over all devices; without it the processes wait for each other as they would in a collective.
"""

import os
import signal
import sys
import time
from pathlib import Path

from rljax.commands.parser import Parser
from rljax.commands.run import run
from rljax.processes import ends, hub, member, start
from rljax.processes.settings import Settings

SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "sigterm": signal.SIGTERM}


def fault(kind: str) -> None:
    """What happens in the fourth step."""
    if kind in SIGNALS:
        os.kill(os.getpid(), SIGNALS[kind])
    elif kind == "hang":
        time.sleep(1000)
    elif kind == "error":
        raise ValueError("bad thing (config.thing)")
    elif kind == "fault":
        raise KeyError("thing")


def summed():
    """A function that adds one number of every device up."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding, PartitionSpec

    mesh = jax.make_mesh((jax.device_count(),), ("x",))
    rows, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("x",), ()))
    ones = jnp.ones(jax.local_device_count())
    numbers = jax.make_array_from_process_local_data(rows, ones)
    add = jax.jit(jnp.sum, out_shardings=whole)
    return lambda: float(add(numbers))


def body(workdir: Path, kind: str, who: str, jax: bool) -> None:
    """The steps."""
    asked: list[int] = []
    me = os.environ["RLJAX_PROCESS_ID"]
    settings = Settings(
        connect_seconds=60.0,
        lost_seconds=2.5 if kind == "stop" else 30.0,
        step_seconds=(5.0 if jax else 2.5) if kind == "hang" else 0.0,
        compile_seconds=60.0,
    )
    facts = {"config": {"seed": int(kind == "config" and me == who)}}
    with start.joined(settings, lambda: facts, workdir) as processes:
        signal.signal(signal.SIGTERM, lambda number, frame: asked.append(number))
        step_of_all = summed() if jax else lambda: processes.barrier("step") or "no device"
        for step in range(10):
            processes.beat(f"step {step}", compiles=step == 0)
            if step == 3 and me == who:
                fault(kind)
            found = step_of_all()
            if processes.agree(asked[0] if asked else None):
                print(f"stopped after step {step}")
                raise SystemExit(143)
        print("note: said by all")
        print(f"process {processes.index} of {processes.count} found {found}")


def main(words: list[str]) -> int:
    """Returns the exit status."""
    workdir, what, *rest = words
    kind, _, who = what.partition(":")
    if "jax" not in rest:
        start.start_jax = lambda *arguments: None
        start.devices = dict
    ends.SETTLE_SECONDS = 0.5
    hub.BEAT_SECONDS = member.BEAT_SECONDS = 0.2
    return run(Parser("A small run."), lambda _: body(Path(workdir), kind, who, "jax" in rest), [])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
