"""The files of the machine that a program sees: its interpreter and the system's libraries."""

import os
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rljax.rewards.sandbox import kernel

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SETTINGS = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives")
# Without its settings programs that hold OpenSSL, such as node, do not start.
_SETTINGS += ("/etc/ssl/openssl.cnf",)
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


def readable(executable: str) -> tuple[str, ...]:
    """What a program may read, outermost folders only; each exists.

    Args:
        executable: absolute path of the program's first word.
    """
    real = os.path.realpath(executable)
    places = [*_SYSTEM, *_SETTINGS]
    if real == os.path.realpath(sys.executable):
        # The link, what it points to, and the libraries of both.
        places += [sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)]
        places += [executable, real]
    else:
        for path in (executable, real):
            folder = Path(path).parent
            places.append(str(folder.parent if folder.name == "bin" else folder))
    return outermost(place for place in places if place != "/" and os.path.exists(place))


def outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """The paths that lie in no other one of them, in order."""
    known = list(dict.fromkeys(os.path.normpath(path) for path in paths))
    return tuple(path for path in known if not any(_inside(path, o) for o in known if o != path))


def _inside(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def closed_folders(paths: Sequence[str]) -> tuple[str, ...]:
    """The outermost folders above the paths that only their owner may pass through."""
    closed = [
        str(folder)
        for path in paths
        for folder in Path(path).parents
        if not os.stat(folder).st_mode & stat.S_IXOTH
    ]
    return outermost(closed)


def open_the_way(paths: Sequence[str]) -> None:
    """Replaces closed folders above the paths by empty ones that hold just the paths.

    This process needs a mount namespace of its own, and the right to mount.

    Raises:
        OSError: it may not mount.
    """
    kernel.mount("none", "/", "none", kernel.RECURSIVE | kernel.PRIVATE)
    for folder in closed_folders(paths):
        held = [(path, os.open(path, os.O_PATH)) for path in paths if _inside(path, folder)]
        flags = kernel.NO_SETUID | kernel.NO_DEVICES
        kernel.mount("none", folder, "tmpfs", flags, "mode=0755,size=1m")
        for path, place in held:
            source = f"/proc/self/fd/{place}"
            if stat.S_ISDIR(os.fstat(place).st_mode):
                os.makedirs(path, 0o755)
            else:
                os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
            kernel.mount(source, path, "none", kernel.BIND | kernel.RECURSIVE)
            os.close(place)
