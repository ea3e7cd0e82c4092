"""Whether the workdir is the same folder for all processes, and all may write there."""

import contextlib
import time
from pathlib import Path

from rljax.errors import reason
from rljax.processes.processes import Processes

# Shared file systems show what another machine wrote only after a while.
SHOWN_SECONDS = 10.0
LOOK_SECONDS = 0.1


def check_same_place(processes: Processes, workdir: Path, token: str) -> None:
    """Every process writes a file and is seen by the first one, whose file all see.

    Args:
        processes: of the run.
        workdir: made if needed.
        token: that no other run has; that of process 0 counts.

    Raises:
        ValueError: on every process, naming who cannot write or sees another folder.
    """
    token = processes.gather_json("token of the workdir", token)[0]

    def marker(index: int) -> Path:
        return workdir / f".roll-call-{token}-{index}"

    error = ""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        marker(processes.index).write_text(token)
    except OSError as refused:
        error = f"cannot write there ({reason(refused)})"
    written = processes.gather_json("workdir written", error)
    try:
        unseen = []
        if not any(written):
            expected = range(1, processes.count) if processes.is_first else (0,)
            unseen = [index for index in expected if not _appears(marker(index))]
        seen = processes.gather_json("workdir seen", unseen)
    finally:
        with contextlib.suppress(OSError):
            marker(processes.index).unlink()
    problems = [f"process {index} {said}" for index, said in enumerate(written) if said]
    strangers = sorted({index for index, blind in enumerate(seen) if index and blind} | {*seen[0]})
    if strangers:
        listed = ", ".join(map(str, strangers))
        problems.append(f"process {listed} and process 0 do not see each other's files")
    if problems:
        raise ValueError(
            f"The workdir {str(workdir)!r} is not one folder that all processes can write: "
            f"{'; '.join(problems)}. Give a folder on a file system that all of them share "
            "(--workdir)."
        )


def _appears(path: Path) -> bool:
    until = time.monotonic() + SHOWN_SECONDS
    while not path.exists():
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_SECONDS)
    return True
