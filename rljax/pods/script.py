"""What every host runs: the preflight, then the training, by the same words.

The text is for any POSIX shell. Nothing in it is a secret: of these it names the variables only.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from rljax.errors import shown
from rljax.pods.names import check_variable
from rljax.pods.secrets import check_variables, check_words

TRAIN = "launch/train.py"
CONNECT = "--config.processes.connect_seconds"
FIELD = "the words after --"


def train_words(command: Sequence[str], *, connect_seconds: float | None = None) -> list[str]:
    """The command of one process, checked and completed.

    Args:
        command: launch/train.py and its flags, without Python.
        connect_seconds: how long the processes wait for each other, unless the command says so
            itself: as long as a machine needs that is being replaced. None for one process.

    Raises:
        ValueError: for another command, one without config or workdir, or with a secret.
    """
    if not command:
        raise ValueError(f"The command is missing: ... -- {TRAIN} --config=FILE ... ({FIELD}).")
    if command[0] != TRAIN:
        raise ValueError(
            f"Hosts run {TRAIN}, which has a preflight, got {shown(command[0])} ({FIELD})."
        )
    for flag in ("--config", "--workdir"):
        if not _value(command, flag):
            raise ValueError(f"{TRAIN} needs {flag}=VALUE on the hosts ({FIELD}).")
    if "--preflight" in command:
        raise ValueError(f"--preflight is run first by itself: leave it out ({FIELD}).")
    check_words(command, FIELD)
    words = list(command)
    if connect_seconds is not None and not _value(words, CONNECT):
        words.append(f"{CONNECT}={connect_seconds:g}")
    return words


def workdir_of(command: Sequence[str]) -> PurePosixPath:
    """The folder that a command names."""
    return PurePosixPath(_value(command, "--workdir"))


def host_script(
    command: Sequence[str],
    *,
    processes: int,
    connect_seconds: float,
    directory: str,
    python: str = "python",
    variables: Mapping[str, str] | None = None,
    needed: Iterable[str] = (),
    who: Sequence[str] = (),
) -> str:
    """The shell script of one process.

    Args:
        command: launch/train.py and its flags, without Python.
        processes: of the run; one waits for nobody.
        connect_seconds: as in `train_words`.
        directory: on the host, with the code of rljax.
        python: the interpreter there.
        variables: that are set.
        needed: variables that the host has already: secrets. One that is missing ends the script.
        who: lines that say which process this is.

    Raises:
        ValueError: for a command that `train_words` refuses, a variable with a bad name, or one
            with a secret in its value.
    """
    words = train_words(command, connect_seconds=connect_seconds if processes > 1 else None)
    variables = dict(variables or {})
    for name in (*variables, *needed):
        check_variable(name, "--env" if name in variables else "--secret")
    check_variables(variables, "--env")
    run = shlex.join([python, *words])
    lines = [
        "set -e",
        f"cd {shlex.quote(directory)}",
        *(f': "${{{name}:?is a secret that this host must have}}"' for name in needed),
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        *who,
        "export PYTHONUNBUFFERED=1",
        f"{run} --preflight",
        f"exec {run}",
    ]
    return "\n".join(lines) + "\n"


def identity_lines(processes: int, index: str, coordinator: str) -> list[str]:
    """Lines that tell a process who it is (rljax/processes/environments.py, `launcher`).

    Args:
        processes: of the run.
        index: of this one, as the shell reckons it.
        coordinator: HOST:PORT of process 0.
    """
    return [
        f"export RLJAX_PROCESSES={processes}",
        f"export RLJAX_PROCESS_ID={index}",
        f"export RLJAX_COORDINATOR={shlex.quote(coordinator)}",
    ]


def _value(words: Sequence[str], flag: str) -> str:
    """The value of --flag=VALUE or --flag VALUE; "" without one."""
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == flag.replace("_", "-"):
            return value if equals else "".join(words[number + 1 : number + 2])
    return ""
