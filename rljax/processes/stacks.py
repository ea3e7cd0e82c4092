"""The stacks of all threads of this process, where one can find them."""

import faulthandler
import os
from pathlib import Path

FOLDER = "stacks"  # in the workdir


def write_stacks(title: str, file: Path | None) -> None:
    """Writes what every thread is doing to standard error, and to a file if that is possible.

    Args:
        title: the line above.
        file: such as WORKDIR/stacks/process-1.txt; None for none.
    """
    _write(2, title)
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        _write(handle, title)
        os.close(handle)
    except OSError as error:  # a full or vanished disk must not keep the process
        os.write(2, f"{file} cannot be written: {error.strerror}\n".encode())


def _write(handle: int, title: str) -> None:
    os.write(handle, f"{title}\n".encode())
    faulthandler.dump_traceback(handle, all_threads=True)
