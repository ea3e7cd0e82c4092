"""From a fork of the warden to the program: every limit and layer, in the order that works.

Three processes, or two where there are no namespaces. The *keeper* waits for the program, adopts
its orphans and tells the warden how it ended. In namespaces the *first process* stands between
them: when it ends, the kernel ends all others of the namespace. The last one becomes the program.
"""

import contextlib
import fcntl
import os
import platform
import resource
import signal
import struct
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from rljax.rewards.sandbox import kernel, landlock, seccomp
from rljax.rewards.sandbox.layers import Layers, user_of, wrapped
from rljax.rewards.sandbox.limits import Limits, Program
from rljax.rewards.sandbox.visible import DEVICES, open_the_way, readable

# The program's descriptors: standard ones, then what is read from and written to another program
# of the same run, then its report.
INPUT, OUTPUT, ERRORS, FROM_OTHER, TO_OTHER, REPORT = range(6)
_FILTER = 6
_STATUS = "i"  # a wait status, on the warden's pipe


class Start(NamedTuple):
    """All that a program starts with.

    Attributes:
        program: what is run.
        limits: what it may use.
        layers: what stands between it and the machine.
        folder: its own.
        descriptors: number in the program -> number here.
        status: where the keeper writes how it ended.
        number: differs between programs that run at the same time.
    """

    program: Program
    limits: Limits
    layers: Layers
    folder: str
    descriptors: dict[int, int]
    status: int
    number: int


def keep(start: Start) -> NoReturn:
    """What the keeper does, from its fork on."""
    try:
        kernel.end_with_parent()
        kernel.adopt_orphans()
        start = start._replace(status=_above(start.status))
        _close_all_but(start.status, *start.descriptors.values())
        os.setsid()
        os.umask(0o022)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # memory that runs out costs the program, not the trainer
        if start.layers.open_way:
            kernel.unshare(kernel.NEW_MOUNTS)
            open_the_way((*readable(start.program.argv[0]), start.folder))
        if start.layers.means == "process" and start.layers.namespaces:
            _new_namespaces()
            status = _in_child(_first_process, start)
        else:
            status = _in_child(_become, start)
        os.write(start.status, struct.pack(_STATUS, status))
    except BaseException as error:
        _say(start, error)
    os._exit(0)


def read_status(content: bytes) -> int | str | None:
    """What the keeper wrote: a wait status, the reason why nothing ran, or None if it was ended."""
    if content.startswith(b"!"):
        return content[1:].partition(b"\0")[0].decode(errors="replace")
    size = struct.calcsize(_STATUS)
    return struct.unpack(_STATUS, content[:size])[0] if len(content) >= size else None


def _say(start: Start, error: BaseException) -> None:
    os.write(start.status, f"!{type(error).__name__}: {error}".encode()[:1000] + b"\0")


def _in_child(what: Callable[[Start], NoReturn], start: Start) -> int:
    """Runs `what` in a child, and returns its wait status; waits for orphans on the way."""
    child = os.fork()
    if child == 0:
        try:
            what(start)
        except BaseException as error:
            _say(start, error)
        os._exit(127)
    _close_all_but(start.status)  # else nobody would see the end of the program's pipes
    while True:
        process, status = os.wait()
        if process == child:
            return status


def _new_namespaces() -> None:
    flags = kernel.NEW_PROCESSES | kernel.NEW_NETWORK | kernel.NEW_IPC
    user, group = os.geteuid(), os.getegid()
    if user == 0:
        kernel.unshare(flags)
        return
    kernel.unshare(flags | kernel.NEW_USERS)
    kernel.hide_from_others(False)  # else these files are root's
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)
    kernel.hide_from_others()


def _first_process(start: Start) -> NoReturn:
    kernel.end_with_parent()
    status = _in_child(_become, start)
    # The keeper waits for this process; the program's own end is what it must hear of.
    os.write(start.status, struct.pack(_STATUS, status))
    os._exit(0)


def _become(start: Start) -> NoReturn:
    """Becomes the program."""
    layers, folder = start.layers, start.folder
    os.setsid()
    os.chdir(folder)
    os.umask(0o077)
    _take_descriptors(start)
    for number in range(1, signal.NSIG):
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _set_limits(start)
    if layers.own_user:
        _become_user(user_of(start.number))
    kernel.end_with_parent()
    kernel.give_up_new_privileges()
    argv = tuple(word.replace("{folder}", folder) for word in start.program.argv)
    os.stat(argv[0])  # a launcher would end as a program does
    seen, environment = readable(argv[0]), _environment(folder)
    if layers.means == "process":
        if layers.landlock:
            landlock.restrict([*seen, *DEVICES], [folder, "/dev/null"])
        if layers.seccomp:
            alone = layers.namespaces or layers.own_user
            seccomp.install(None if alone else os.getpid())
    command = wrapped(
        layers,
        argv,
        readable=seen,
        folder=folder,
        environment=environment,
        devices=DEVICES,
        descriptors=tuple(number for number in start.descriptors if number > ERRORS),
        filter_descriptor=_FILTER if _passes_filter(layers) else -1,
    )
    os.execve(command[0], command, environment)


def _become_user(user: int) -> None:
    try:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    except OSError as error:
        raise OSError(error.errno, f"root may not become another user: {error.strerror}") from None


def _passes_filter(layers: Layers) -> bool:
    return layers.means == "bubblewrap" and layers.seccomp


def _take_descriptors(start: Start) -> None:
    """The program's descriptors get their numbers; the status pipe stays open until it starts."""
    wanted = dict(start.descriptors)
    if _passes_filter(start.layers):
        wanted[_FILTER] = _filter_file()
    # First out of the way of each other, then to their places.
    high = {number: _above(held) for number, held in wanted.items()}
    for number in range(_FILTER + 1):
        if number in high:
            os.dup2(high[number], number, inheritable=True)
        else:
            with contextlib.suppress(OSError):
                os.close(number)
    _close_all_but(start.status, *range(_FILTER + 1))


def _close_all_but(*kept: int) -> None:
    first = 0
    for descriptor in (*sorted(set(kept)), os.sysconf("SC_OPEN_MAX")):
        if first < descriptor:  # an empty range from 0 on would close all
            os.closerange(first, descriptor)
        first = descriptor + 1


def _above(descriptor: int) -> int:
    """A copy whose number no program uses."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 64)


def _filter_file() -> int:
    """The filter of system calls as a file that bubblewrap reads."""
    content = seccomp.filter_program(seccomp.MACHINES[platform.machine()], None)
    file = os.memfd_create("filter")
    os.write(file, content)
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _set_limits(start: Start) -> None:
    limits, mebi = start.limits, 2**20
    seconds = int(limits.seconds) + 2
    values = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: limits.files_mb * mebi,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_NPROC: limits.processes + _others(start.layers),
        resource.RLIMIT_DATA: limits.memory_mb * mebi,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    values[resource.RLIMIT_AS] = limits.memory_mb * mebi
    if start.program.reserves:
        values[resource.RLIMIT_AS] = resource.getrlimit(resource.RLIMIT_AS)[1]
    for what, value in values.items():
        hard = resource.getrlimit(what)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))


def _others(layers: Layers) -> int:
    """Tasks of this user that the kernel counts too; with a user of its own there are none."""
    launcher = 2 if layers.command else 0
    if layers.own_user or (layers.means == "process" and layers.namespaces):
        return launcher
    user, count = os.getuid(), launcher
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == user:
                    count += len(os.listdir(f"/proc/{name}/task"))
    return count


def _environment(folder: str) -> dict[str, str]:
    """All that a program finds in its environment."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": folder,
        "TMPDIR": folder,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",  # the order of a set of strings is part of an output
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
