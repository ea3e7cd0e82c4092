"""What a launcher does, step by step: shown by a dry run, done by --run.

A step is one command, or one for each host, all at the same time. Lines come with the name of their
host, and are kept in a file for each.
"""

import shlex
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from rljax.commands.statuses import Status
from rljax.processes.local import status_of_all

SSH_FAILED = 255  # the exit status of ssh itself: the host or the network failed


class Command(NamedTuple):
    """A command of this machine; `host` names whom it reaches, `text` is what it reads."""

    words: tuple[str, ...]
    host: str = ""
    text: str = ""


class Step(NamedTuple):
    """Commands that run at the same time, and what they are for."""

    title: str
    commands: tuple[Command, ...]


def flags_of(values: Mapping[str, object]) -> list[str]:
    """--NAME=VALUE of each value that is given: not of "" and 0, which stand for a default."""
    return [f"--{name}={value}" for name, value in values.items() if value]


def as_shell(steps: Sequence[Step]) -> str:
    """The steps as a shell script that does the same."""
    lines = []
    for number, step in enumerate(steps, 1):
        lines.append(f"# {number}. {step.title}")
        beside = len(step.commands) > 1
        for command in step.commands:
            line = shlex.join(command.words)
            line += " <<'END'" if command.text else ""
            lines.append(line + (" &" if beside else ""))
            lines += [command.text.rstrip("\n"), "END"] if command.text else []
        if beside:
            lines.append("wait")
    return "\n".join(lines) + "\n"


def run_steps(steps: Sequence[Step], logs: Path) -> int:
    """Does one step after the other, until one fails.

    Args:
        steps: to do.
        logs: folder for the lines of each host; it is made.

    Returns:
        The exit status of the step that failed, of all its commands together
        (rljax/processes/local.py), or 0.

    Raises:
        ValueError: for a program that is not installed.
    """
    logs.mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(steps, 1):
        print(f"{number}. {step.title}", file=sys.stderr)
        if status := _run(step, logs):
            print(f"{step.title}: exit status {status}", file=sys.stderr)
            return status
    return Status.DONE


def _run(step: Step, logs: Path) -> int:
    children: list[subprocess.Popen] = []
    readers: list[threading.Thread] = []
    try:
        for command in step.commands:
            children.append(_start(command))
        for command, child in zip(step.commands, children, strict=True):
            arguments = (command, child, logs / f"{command.host or 'launch'}.log")
            readers.append(threading.Thread(target=_follow, args=arguments, daemon=True))
            readers[-1].start()
        codes = [child.wait() for child in children]
        for reader in readers:
            reader.join()
    finally:
        for child in children:
            if child.poll() is None:
                child.terminate()
    return status_of_all([Status.RESTART if code == SSH_FAILED else code for code in codes])


def _start(command: Command) -> subprocess.Popen:
    try:
        return subprocess.Popen(
            command.words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except FileNotFoundError as error:
        raise ValueError(
            f"{command.words[0]} is not installed here; without --run the command is shown, to be "
            "run where it is."
        ) from error


def _follow(command: Command, child: subprocess.Popen, log: Path) -> None:
    """Gives a command its input; keeps and shows its lines."""
    threading.Thread(target=_give, args=(child.stdin, command.text), daemon=True).start()
    with open(log, "ab") as file:
        for line in child.stdout:
            file.write(line)
            file.flush()
            text = line.decode(errors="replace").rstrip("\r\n")
            print(f"[{command.host}] {text}" if command.host else text, flush=True)


def _give(stream: IO[bytes], text: str) -> None:
    """Writes the input of a command; whether one that ended early failed, its status says."""
    try:
        stream.write(text.encode())
        stream.close()
    except BrokenPipeError:
        pass
