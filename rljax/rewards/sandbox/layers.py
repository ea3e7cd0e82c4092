"""The means of isolation: what one consists of, and what it promises."""

import os
from typing import NamedTuple

from rljax.rewards.sandbox import seccomp

# "auto" takes the first that works.
MEANS = ("bubblewrap", "nsjail", "process")
CHOICES = ("auto", *MEANS)
COMMANDS = {"bubblewrap": "bwrap", "nsjail": "nsjail"}

# Layers of "process" that a kernel may refuse; the rest is always there.
OPTIONAL = ("namespaces", "landlock", "seccomp", "own_user")

# Users that systemd's table of ids leaves unused, 1879048192 to 2147483647. One for each program.
_FIRST_USER, _USERS = 0x70000000, 2**22
_NOBODY = 65534


class Layers(NamedTuple):
    """What stands between a program and the machine.

    Attributes:
        means: of `MEANS`.
        command: the path of bwrap or nsjail; "" for "process".
        own_user: the program runs as a user of its own; only root can do so.
        namespaces: own processes, network and IPC; of bubblewrap and nsjail always.
        landlock: the kernel hides files.
        seccomp: the kernel refuses system calls.
        open_way: the interpreter lies in a folder that only root may enter, such as /root; a mount
            namespace opens the way to it.
    """

    means: str
    command: str = ""
    own_user: bool = False
    namespaces: bool = False
    landlock: bool = False
    seccomp: bool = False
    open_way: bool = False

    @property
    def helpers(self) -> int:
        """Processes in a line above the program: the keeper, and of each means its own."""
        if self.means == "process":
            return 2 if self.namespaces else 1
        return 3 if self.means == "bubblewrap" else 2

    @property
    def files_hidden(self) -> bool:
        """The program sees only its folder and what it runs on."""
        return self.means != "process" or self.landlock

    @property
    def network_closed(self) -> bool:
        """There is no way to another machine, nor to a port of this one."""
        return self.means != "process" or self.namespaces or self.seccomp

    @property
    def others_out_of_reach(self) -> bool:
        """Processes of the same user cannot be signalled or traced."""
        return self.means != "process" or self.namespaces or self.own_user or self.seccomp


def describe(layers: Layers) -> str:
    """What is used, and what it cannot promise, in one line."""
    parts = [layers.command] if layers.command else []
    parts += [name.replace("_", " ") for name in OPTIONAL if getattr(layers, name)]
    used = ", ".join(["resource limits", *parts])
    return f"sandbox {layers.means!r} ({used}); not promised: {'; '.join(not_promised(layers))}"


def not_promised(layers: Layers) -> list[str]:
    """What a program may still do."""
    missing = [
        what
        for promised, what in (
            (layers.files_hidden, "files that its user may read can be read"),
            (layers.network_closed, "the network is open"),
            (layers.others_out_of_reach, "processes of this user can be signalled"),
        )
        if not promised
    ]
    missing.append("memory and files of the whole tree are measured, not capped by the kernel")
    if os.geteuid() != 0 and layers.means == "process" and not layers.namespaces:
        missing.append("the limit of processes counts all of this user's")
    return missing


def user_of(number: int) -> int | None:
    """The user id of a program, where this process is root.

    Args:
        number: differs between programs that run at the same time.

    Returns:
        An id that nobody has, or that of "nobody" where this user namespace has no such ids. None
        where it has only root.
    """
    with open("/proc/self/uid_map") as table:
        ranges = [tuple(map(int, line.split())) for line in table]
    for user in (_FIRST_USER + number % _USERS, _NOBODY):
        if any(first <= user < first + count for first, _, count in ranges):
            return user
    return None


def wrapped(
    layers: Layers,
    argv: tuple[str, ...],
    *,
    readable: tuple[str, ...],
    folder: str,
    environment: dict[str, str],
    devices: tuple[str, ...],
    descriptors: tuple[int, ...],
    filter_descriptor: int,
) -> tuple[str, ...]:
    """The command line that runs `argv` in bubblewrap or nsjail; of "process" `argv` itself.

    Args:
        layers: what is used.
        argv: the program's command line.
        readable: files and folders that it sees.
        folder: its own, which it may change.
        environment: its variables.
        devices: that it sees.
        descriptors: that it inherits, besides the first three.
        filter_descriptor: where bubblewrap reads the filter of system calls; -1: none.
    """
    if layers.means == "bubblewrap":
        words = [layers.command, "--unshare-all", "--die-with-parent"]
        for path in readable:
            words += ["--ro-bind", path, path]
        for path in devices:
            words += ["--dev-bind", path, path]
        words += ["--bind", folder, folder, "--remount-ro", "/", "--chdir", folder]
        if filter_descriptor >= 0:
            words += ["--seccomp", str(filter_descriptor)]
        return (*words, "--", *argv)
    if layers.means == "nsjail":
        words = [
            layers.command,
            "-Mo",
            "-Q",
            "--disable_proc",
            "--iface_no_lo",
            "--disable_rlimits",
        ]
        words += ["--time_limit", "0", "--nice_level", "0", "--cwd", folder]
        for path in readable:
            words += ["-R", path]
        for path in (*devices, folder):
            words += ["-B", path]
        for name, value in environment.items():
            words += ["-E", f"{name}={value}"]
        for descriptor in descriptors:
            words += ["--pass_fd", str(descriptor)]
        if layers.seccomp:
            words += ["--seccomp_string", seccomp.kafel_policy()]
        return (*words, "--", *argv)
    return argv
