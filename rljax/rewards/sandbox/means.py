"""Which means of isolation work here: each is tried with a program that does nothing."""

import os
import shutil
import sys
from collections.abc import Sequence

from rljax.rewards.sandbox import kernel, landlock, seccomp
from rljax.rewards.sandbox.layers import COMMANDS, MEANS, Layers, user_of
from rljax.rewards.sandbox.limits import Limits, Program
from rljax.rewards.sandbox.programs import Failed, run
from rljax.rewards.sandbox.visible import closed_folders, readable

# Imports something, so that the interpreter's libraries are read.
_NOTHING = Program((sys.executable, "-P", "-c", "import json"), {})
_LIMITS = Limits(seconds=60.0)


class Missing(ValueError):
    """A means that does not work here, and why."""


def choose(wanted: str, without: Sequence[str], base: str) -> Layers | Missing:
    """The layers that will be used.

    Args:
        wanted: of `layers.CHOICES`.
        without: layers of `layers.OPTIONAL` that are left out, for tests.
        base: folder in which programs get their own.
    """
    problems = []
    for means in MEANS if wanted == "auto" else (wanted,):
        found = _tried(means, frozenset(without), base)
        if isinstance(found, Layers):
            return found
        problems.append(f"{means}: {found}")
    return Missing("; ".join(problems))


def _tried(means: str, without: frozenset[str], base: str) -> Layers | str:
    """The layers of one means, or why it does not work."""
    if not kernel.LINUX:
        return f"programs are run on Linux only, this is {sys.platform}"
    command = ""
    if means in COMMANDS:
        command = shutil.which(COMMANDS[means]) or ""
        if not command:
            return f"no {COMMANDS[means]!r} in PATH"
    root = os.geteuid() == 0
    if root and user_of(0) is None:
        return "there is no user but root (/proc/self/uid_map), and programs never run as root"
    layers = Layers(
        means=means,
        command=command,
        own_user=root and "own_user" not in without,
        namespaces="namespaces" not in without,
        landlock=means == "process" and "landlock" not in without and landlock.version() > 0,
        seccomp="seccomp" not in without and seccomp.available(),
    )
    seen = (*readable(_NOTHING.argv[0]), *filter(None, (command,)), base)
    if layers.own_user:
        layers = layers._replace(open_way=bool(closed_folders(seen)))
    problem = _problem(layers, base)
    if problem and means == "process" and layers.namespaces:
        layers = layers._replace(namespaces=False)
        problem = _problem(layers, base)
    if problem and layers.open_way:
        problem += (
            f"; {closed_folders(seen)[0]!r} is closed to the unprivileged user that programs run "
            "as: give them Python, and a TMPDIR, where every user may read"
        )
    return problem or layers


def _problem(layers: Layers, base: str) -> str:
    """Why a program that does nothing does not end well; "" if it does."""
    try:
        found = run([_NOTHING], _LIMITS, layers, base, None)
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    if isinstance(found, Failed):
        return found.reason
    ended = found[-1]
    if ended.reason == "ok":
        return ""
    said = ended.stderr.decode(errors="replace").strip().splitlines()
    return f"{ended.reason}, exit code {ended.exit_code}" + (f": {said[-1][:300]}" if said else "")
