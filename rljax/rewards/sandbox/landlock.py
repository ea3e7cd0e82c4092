"""Landlock: a process gives up all files but some, without any privilege (Linux 5.13 or later).

https://docs.kernel.org/userspace-api/landlock.html
"""

import ctypes
import os
import stat
import struct
from collections.abc import Sequence

from rljax.rewards.sandbox import kernel

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_PATH_BENEATH, _VERSION = 1, 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REFER, _TRUNCATE, _DEVICE_CONTROL = 1 << 13, 1 << 14, 1 << 15
_SCOPE_SOCKETS, _SCOPE_SIGNALS = 1, 2
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _DEVICE_CONTROL


def version() -> int:
    """The kernel's version of Landlock; 0 where there is none."""
    if not kernel.LINUX:
        return 0
    try:
        return kernel.call("syscall", _CREATE, 0, 0, _VERSION)
    except OSError:
        return 0


def restrict(readable: Sequence[str], writable: Sequence[str]) -> None:
    """Gives up all files but these; signals and abstract sockets of others too, where it can.

    Args:
        readable: files and folders that may be read and executed; missing ones are passed over.
        writable: files and folders that may be changed too.

    Raises:
        OSError: the kernel has no Landlock.
    """
    known = version()
    handled = (1 << 13) - 1
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _DEVICE_CONTROL)):
        handled |= right if known >= since else 0
    scope = _SCOPE_SOCKETS | _SCOPE_SIGNALS if known >= 6 else 0
    size = 24 if known >= 6 else 16 if known >= 4 else 8
    ruleset = kernel.call("syscall", _CREATE, struct.pack("QQQ", handled, 0, scope), size, 0)
    for paths, rights in ((readable, _READ), (writable, handled)):
        for path in paths:
            _allow(ruleset, path, rights & handled)
    kernel.give_up_new_privileges()
    kernel.call("syscall", _RESTRICT, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not stat.S_ISDIR(os.fstat(place).st_mode):
        rights &= _OF_FILES
    rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, place), 12)
    kernel.call("syscall", _ADD, ruleset, _PATH_BENEATH, ctypes.addressof(rule), 0)
    os.close(place)
