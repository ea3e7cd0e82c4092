"""The reward "python_tests"."""

import functools
import shutil
from collections.abc import Sequence
from typing import Any

from rljax.remarks import say_once
from rljax.rewards.code.extraction import code_of
from rljax.rewards.code.golds import read_tests
from rljax.rewards.code.running import Rules, run_tests
from rljax.rewards.sandbox.layers import CHOICES
from rljax.rewards.sandbox.limits import Limits, checked_limits
from rljax.rewards.sandbox.sandbox import Sandbox
from rljax.rewards.user_rewards import FIELD

# What a sample takes besides its tests: starting and ending of processes.
_REST_SECONDS = 2.0


def python_tests(
    prompt: str,
    completion: str,
    reference: Any,
    *,
    partial: bool = False,
    language: str = "python",
    command: Sequence[str] = (),
    sandbox: str = "auto",
    test_seconds: float = 2.0,
    total_seconds: float = 3.0,
    most_tests: int = 16,
    memory_mb: int = 512,
    feedback: bool = False,
) -> float | tuple[float, str | None]:
    """1.0 if the completion's code passes all tests of the reference, which run in a sandbox.

    Args:
        prompt: not read.
        completion: the model's text; its code is the last fenced block, or all of it.
        reference: the tests, see `rljax.rewards.code.golds`.
        partial: the share of tests passed instead.
        language: the tag of fenced blocks.
        command: runs a program of another language, such as ("node", "{file}").
        sandbox: the means of isolation, see `rljax/rewards/sandbox/README.md`.
        test_seconds: wall time of one test.
        total_seconds: wall time of all tests; 2 s less than config.scoring.timeout_seconds at most.
        most_tests: of a problem with more tests, those with the longest inputs; 0: all.
        memory_mb: of a program.
        feedback: also return what went wrong in words; None where all tests pass.

    Raises:
        ValueError: an option is out of range, or the tests cannot be read.
        SandboxError: the sandbox failed.
    """
    rules = _rules(
        partial=partial,
        command=tuple(command),
        test_seconds=test_seconds,
        total_seconds=total_seconds,
        most_tests=most_tests,
        memory_mb=memory_mb,
    )
    tests = read_tests(reference)
    result = run_tests(code_of(completion, language), tests, rules, _sandbox(sandbox))
    value = result.passed / result.count if partial else float(result.passed == result.count)
    if not feedback:
        return value
    failed = result.passed < result.count
    return value, f"A test of {result.count} failed: {result.why}." if failed else None


def prepare(**options: Any) -> None:
    """Starts the sandbox, so that no sample's time pays for it.

    Raises:
        ValueError: the sandbox that was asked for does not work here.
    """
    _sandbox(options.get("sandbox", "auto")).start()


def check_options(timeout_seconds: float, **options: Any) -> None:
    """Checks the options before anything runs, and says what the sandbox cannot promise.

    Args:
        timeout_seconds: of a sample with all its rewards.
        options: as given in the config.

    Raises:
        ValueError: for the first that is not allowed, or a sandbox that does not work here.
    """
    given = dict(python_tests.__kwdefaults__) | options
    if given["sandbox"] not in CHOICES:
        raise ValueError(
            f"sandbox must be one of {', '.join(CHOICES)}, got {given['sandbox']!r} "
            f"({_option('sandbox')})."
        )
    if not isinstance(given["language"], str) or not given["language"]:
        raise ValueError(
            f"language must be a text, got {given['language']!r} ({_option('language')})."
        )
    rules = _rules(
        partial=given["partial"],
        command=given["command"],
        test_seconds=given["test_seconds"],
        total_seconds=given["total_seconds"],
        most_tests=given["most_tests"],
        memory_mb=given["memory_mb"],
    )
    if rules.total_seconds + _REST_SECONDS > timeout_seconds:
        raise ValueError(
            f"python_tests: total_seconds must be at most {timeout_seconds - _REST_SECONDS:g}, "
            f"{_REST_SECONDS:g} s less than config.scoring.timeout_seconds={timeout_seconds:g}, "
            f"got {rules.total_seconds:g}: a program that hangs is wrong, not a failed sample "
            f"({_option('total_seconds')})."
        )
    with Sandbox(given["sandbox"], field=_option("sandbox")) as sandbox:
        say_once(sandbox.describe())


def _option(name: str) -> str:
    """An option of this reward, as errors name it."""
    return f"{FIELD}[python_tests].options.{name}"


def _rules(
    *,
    partial: bool,
    command: Sequence[str],
    test_seconds: float,
    total_seconds: float,
    most_tests: int,
    memory_mb: int,
) -> Rules:
    limits = Limits(seconds=test_seconds, memory_mb=memory_mb)
    limits = checked_limits(limits, lambda name: _option(name.replace("seconds", "test_seconds")))
    checked_limits(Limits(seconds=total_seconds), lambda _: _option("total_seconds"))
    if isinstance(most_tests, bool) or not isinstance(most_tests, int) or most_tests < 0:
        raise ValueError(
            f"most_tests must be a whole number from 0 on (0: all), got {most_tests!r} "
            f"({_option('most_tests')})."
        )
    return Rules(
        limits=limits,
        total_seconds=float(total_seconds),
        most_tests=most_tests,
        stop=not partial,
        command=_found(command),
    )


@functools.cache
def _found_path(word: str) -> str | None:
    return shutil.which(word)


def _found(command: Sequence[str]) -> tuple[str, ...]:
    """The command with the absolute path of its first word.

    Raises:
        ValueError: it is no command, or is not installed.
    """
    if isinstance(command, str) or not all(isinstance(word, str) for word in command):
        raise ValueError(
            f"command must be a list of words, got {command!r} ({_option('command')})."
        )
    if not command:
        return ()
    if "{file}" not in command:
        raise ValueError(
            f"command must hold the word '{{file}}', the program's file, got {tuple(command)!r} "
            f"({_option('command')})."
        )
    path = _found_path(command[0])
    if path is None:
        raise ValueError(f"command: no program {command[0]!r} in PATH ({_option('command')}).")
    return (path, *command[1:])


@functools.cache
def _sandbox(means: str) -> Sandbox:
    """One for the process; its warden ends with it."""
    return Sandbox(means, field=_option("sandbox"))
