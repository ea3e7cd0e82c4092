"""Damage between two processes of a run."""

import random
from pathlib import Path

from rljax.training.run.digests import WRITTEN_LAST


def flip_bit(workdir: Path, chosen: random.Random) -> Path | None:
    """Flips a bit of the newest checkpoint, if the one before it can take its place.

    Args:
        workdir: of a run that no process is in.
        chosen: draws the file, the byte and the bit.

    Returns:
        The file; None where there are no two checkpoints of the stage that the run is in.
    """
    stages = [folder for folder in (workdir / "checkpoints").glob("*") if _steps(folder)]
    if not stages:
        return None
    newest = max(stages, key=lambda folder: max(_steps(folder).values()))
    steps = _steps(newest)
    if len(steps) < 2:
        return None
    step = newest / str(max(steps))
    files = sorted(path for path in step.rglob("*") if path.is_file() and path.stat().st_size)
    path = chosen.choice([path for path in files if path.name not in WRITTEN_LAST])
    content = bytearray(path.read_bytes())
    content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
    path.write_bytes(content)
    return path


def _steps(folder: Path) -> dict[int, float]:
    """The checkpoints of a stage, and when each was written."""
    found = [path for path in folder.glob("*") if path.name.isdigit()]
    return {int(path.name): (path / "_CHECKPOINT_METADATA").stat().st_mtime for path in found}
