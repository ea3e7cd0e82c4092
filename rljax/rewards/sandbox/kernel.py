"""System calls of Linux that Python has no function for."""

import ctypes
import functools
import os
import signal
import sys

LINUX = sys.platform == "linux"

# prctl(2)
_PDEATHSIG, _DUMPABLE, _CHILD_SUBREAPER, _NO_NEW_PRIVS = 1, 4, 36, 38
# unshare(2)
NEW_MOUNTS, NEW_USERS, NEW_PROCESSES, NEW_NETWORK, NEW_IPC = (
    0x00020000,
    0x10000000,
    0x20000000,
    0x40000000,
    0x08000000,
)
# mount(2)
NO_SETUID, NO_DEVICES, BIND, RECURSIVE, PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: int | bytes | None) -> int:
    """Calls a function of the C library.

    Raises:
        OSError: it returns -1.
    """
    words = [
        ctypes.c_ulong(value & (2**64 - 1)) if isinstance(value, int) else value
        for value in arguments
    ]
    result = getattr(_library(), name)(*words)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def end_with_parent() -> None:
    """This process is killed when its parent ends; nothing off Linux.

    A change of the user id takes it back.
    """
    if LINUX:
        call("prctl", _PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of this process; nothing off Linux.

    So none escapes by `fork` twice or by a session of its own.
    """
    if LINUX:
        call("prctl", _CHILD_SUBREAPER, 1, 0, 0, 0)


def hide_from_others(hidden: bool = True) -> None:
    """Processes of the same user can neither trace this one nor read its memory; or can again."""
    if LINUX:
        call("prctl", _DUMPABLE, int(not hidden), 0, 0, 0)


def give_up_new_privileges() -> None:
    """No program that this process starts gains rights by its file, such as `sudo`."""
    call("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)


def unshare(flags: int) -> None:
    """This process, or its next child, gets namespaces of its own.

    Raises:
        OSError: the kernel does not allow it.
    """
    call("unshare", flags)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """mount(2).

    Raises:
        OSError: the kernel does not allow it.
    """
    call("mount", *(text.encode() for text in (source, target, kind)), flags, options.encode())
