"""A run that kills itself: python killed_run.py PLACE COUNT VARIANT WORKDIR [override ...].

The process sends itself SIGKILL when it comes to PLACE for the COUNT-th time, or another signal
with PLACE "SIGTERM:update". PLACE "nowhere" lets the run finish. One fake device, as the runs in
the tests' own process.
"""

import importlib
import os
import shutil
import signal
import sys
from pathlib import Path

import jax

from rljax.config.load import load_config
from rljax.parallel.mesh import make_mesh
from rljax.training import loop
from rljax.training.run import context

CONFIG = Path(__file__).parent / "tiny_config.py"
RENAME = "orbax.checkpoint._src.path.atomicity:AtomicRenameTemporaryPath.finalize"

# Place -> functions; the process dies as one of them is called.
PLACES = {
    "nowhere": [],
    "rollout": ["rljax.training.collect.sampled:sample_texts"],
    "scoring": ["rljax.rewards.pool:Scorer.score"],
    "update": ["rljax.training.step:put_rows"],
    "flush": ["rljax.training.step_log:StepLog.flush"],
    "record": ["rljax.training.stage_run:write_rollout"],
    "evaluation": ["rljax.training.evaluation:drawn_samples"],
    "queue": ["rljax.training.ahead.source:pack"],  # of a checkpoint
    "publish": ["rljax.training.ahead.source:sent"],
    "drawn": ["rljax.training.ahead.events:Events.drawn"],
    "stage": ["rljax.training.stage_run:StageRun.train"],
    "pair_samples": ["rljax.training.collect.sampled_once:drawn_samples"],
    "pair_file": ["rljax.training.collect.sampled_once:os.replace"],
    "save": ["rljax.training.run.checkpoints:Checkpoints.save"],
    "commit": [RENAME],  # of an item, or of the whole checkpoint: everything is written by then
    "summary": ["rljax.training.loop:summarise"],
}
# These do half of their work before the process dies.
HALVES = {
    # It returns while the files are being written.
    "writing": "rljax.training.run.checkpoints:Checkpoints.save",
    "metrics": "rljax.reporting.writers:JsonlWriter.write",
    "deletion": "shutil:rmtree",
}


def send(name: str) -> None:
    """Sends a signal to this process; after SIGKILL nothing is flushed, closed or told."""
    os.kill(os.getpid(), signal.Signals[name])


def owner_of(address: str) -> tuple[object, str]:
    """ "module:a.b" -> the object that holds b, and "b"."""
    module, path = address.split(":")
    owner = importlib.import_module(module)
    *names, last = path.split(".")
    for name in names:
        owner = getattr(owner, name)
    return owner, last


def kill_at(address: str, count: int, half=None, name: str = "SIGKILL") -> None:
    """Replaces the function by one whose COUNT-th call sends a signal, after `half` of its work."""
    owner, last = owner_of(address)
    function = getattr(owner, last)
    calls = 0

    def counted(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == count:
            if half is not None:
                half(function, *args, **kwargs)
            send(name)
        return function(*args, **kwargs)

    setattr(owner, last, counted)


def write_half_a_line(write, writer, row) -> None:
    """The row is cut in its middle."""
    writer._file.write(repr(row)[: len(repr(row)) // 2].replace("'", '"'))
    writer._file.flush()


def delete_half(rmtree, path, *args, **kwargs) -> None:
    """Some of a checkpoint's files are gone, not all."""
    for part in sorted(Path(path).rglob("*"))[::2]:
        if part.is_file():
            part.unlink()


def main(place: str, count: int, variant: str, workdir: str, overrides: list[str]) -> None:
    """Runs until the place is reached."""
    # A test session in the background ignores Ctrl-C, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    context.make_mesh = lambda sizes, devices=None: make_mesh(
        sizes, devices=(devices or jax.devices())[:1]
    )
    if place == "writing":
        kill_at(HALVES[place], count, lambda save, *args, **kwargs: save(*args, **kwargs))
    elif place == "metrics":
        kill_at(HALVES[place], count, write_half_a_line)
    elif place == "deletion":
        kill_at(HALVES[place], count, delete_half)
    *names, place = place.split(":")
    for address in PLACES.get(place, ()):
        kill_at(address, count, name=names[0] if names else "SIGKILL")
    loop.run(load_config(f"{CONFIG}:{variant}", overrides), Path(workdir))


if __name__ == "__main__":
    assert shutil.rmtree  # so that it is imported before it is replaced
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5:])
