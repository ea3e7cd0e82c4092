"""How many tests a program passes.

Whole programs run once for each input, and their output is compared out here. For tests of
functions the program and the tests run in two sandboxes, connected by pipes.
"""

import functools
import json
import re
import sys
import time
from importlib import resources
from typing import Any, NamedTuple

from rljax.rewards.code.golds import Tests
from rljax.rewards.code.inside.judge import NOTHING_RAN, TESTS
from rljax.rewards.code.inside.serve import PROGRAM
from rljax.rewards.code.outputs import same_output
from rljax.rewards.sandbox.limits import Ended, Limits, Program
from rljax.rewards.sandbox.sandbox import Sandbox

# The name of `inside/` in a sandbox.
_PACKAGE = "rljax_inside"
_START_SECONDS = 1.0  # of an interpreter; it is no test's
_FILE = "{file}"


class Rules(NamedTuple):
    """How tests are run.

    Attributes:
        limits: of each run; `seconds` is that of one test.
        total_seconds: of all tests together; those that are not reached do not count as passed.
        most_tests: of a problem that has more, those with the longest inputs; 0: all.
        stop: at the first test that is not passed.
        command: of programs in another language, with "{file}"; empty: this Python.
    """

    limits: Limits
    total_seconds: float
    most_tests: int = 0
    stop: bool = True
    command: tuple[str, ...] = ()


class Result(NamedTuple):
    """Tests passed, out of how many, and why the first one was not."""

    passed: int
    count: int
    why: str = ""
    last: Ended | None = None


def run_tests(code: str, tests: Tests, rules: Rules, sandbox: Sandbox) -> Result:
    """Runs a program's tests.

    Raises:
        ValueError: tests of functions for a program that is not Python.
        SandboxError: the sandbox failed.
    """
    if tests.pairs:
        return _run_pairs(code, tests, rules, sandbox)
    if rules.command:
        raise ValueError(
            f"Tests of functions are Python; with command={rules.command!r} only inputs and "
            "outputs can be tested (config.scoring.rewards)."
        )
    return _run_functions(code, tests, rules, sandbox)


def program_text(code: str, tests: Tests) -> str:
    """The whole program: a completion may continue the prompt of HumanEval, or repeat it."""
    if not tests.prompt:
        return code
    defines = re.search(rf"^(async\s+)?def\s+{tests.entry[0]}\b", code, re.M)
    return f"{tests.prompt}\n{code}" if defines else tests.prompt + code


def _run_pairs(code: str, tests: Tests, rules: Rules, sandbox: Sandbox) -> Result:
    pairs = _longest(tests.pairs, rules.most_tests, lambda pair: len(pair[0]))
    deadline = time.monotonic() + rules.total_seconds
    passed, why, ended = 0, "", None
    for given, expected in pairs:
        left = deadline - time.monotonic()
        if left <= 0:
            why = why or "the time of all tests is up"
            break
        limits = rules.limits._replace(seconds=min(rules.limits.seconds, left))
        (ended,) = sandbox.run(whole_program(code, given, rules), limits=limits)
        problem = _problem(ended, expected)
        passed += not problem
        why = why or problem
        if problem and rules.stop:
            break
    return Result(passed, len(pairs), why, ended)


def whole_program(code: str, given: str, rules: Rules) -> Program:
    """A program that reads its standard input."""
    path = f"{{folder}}/{PROGRAM}"
    argv = (sys.executable, "-P", path)
    if rules.command:
        argv = tuple(path if word == _FILE else word for word in rules.command)
    return Program(argv, {PROGRAM: _bytes(code)}, stdin=_bytes(given), reserves=bool(rules.command))


def _problem(ended: Ended, expected: str) -> str:
    if ended.reason != "ok":
        return ended.reason
    written = ended.stdout.decode(errors="replace")
    return "" if same_output(written, expected) else "wrong output"


def _run_functions(code: str, tests: Tests, rules: Rules, sandbox: Sandbox) -> Result:
    """Tests after one that the program did not survive get a fresh program."""
    text = program_text(code, tests)
    left = _longest(tests.tests, rules.most_tests, lambda test: len(json.dumps(test)))
    count, passed, why, ended = len(left), 0, "", None
    deadline = time.monotonic() + rules.total_seconds
    while left:
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            why = why or "the time of all tests is up"
            break
        ended, verdicts = _ask(text, tests, left, seconds, rules, sandbox)
        passed += sum(not said for _, said in verdicts)
        why = why or next((said for _, said in verdicts if said), "")
        last, said = verdicts[-1] if verdicts else (NOTHING_RAN, "")
        if last == NOTHING_RAN and said:
            break
        if not said and last + 1 < len(left):  # the run was ended within the next test
            why, last = why or ended.reason, last + 1
        if rules.stop and why:
            break
        left = left[last + 1 :]
    return Result(passed, count, why, ended)


def _ask(
    text: str,
    tests: Tests,
    left: tuple[dict[str, Any], ...],
    seconds: float,
    rules: Rules,
    sandbox: Sandbox,
) -> tuple[Ended, list[tuple[int, str]]]:
    """Runs program and tests; returns how the program ended, and a verdict for each test."""
    plan = {
        "before": tests.before,
        "entry": tests.entry,
        "tests": left,
        "seconds": rules.limits.seconds,
        "stop": rules.stop,
    }
    limits = rules.limits._replace(seconds=seconds + _START_SECONDS)
    program, judge = sandbox.run(
        _inside("serve", {PROGRAM: _bytes(text)}),
        _inside("judge", {TESTS: json.dumps(plan).encode()}),
        limits=limits,
    )
    return program, _verdicts(judge.report, len(left))


def _verdicts(report: bytes, count: int) -> list[tuple[int, str]]:
    """The judge's lines, in order; a line that was cut off is none."""
    found = [tuple(json.loads(line)) for line in report.split(b"\n")[:-1]]
    return [(place, why) for place, why in found if place < count]


def _inside(name: str, files: dict[str, bytes]) -> Program:
    """A program of `inside/`, in its own folder."""
    code = (
        f"import sys; sys.path.append({{folder!r}}); from {_PACKAGE}.{name} import main; main()"
    ).replace("{folder!r}", '"{folder}"')
    return Program((sys.executable, "-P", "-c", code), {**_inside_files(), **files})


@functools.cache
def _inside_files() -> dict[str, bytes]:
    folder = resources.files("rljax.rewards.code.inside")
    return {
        f"{_PACKAGE}/{entry.name}": entry.read_bytes()
        for entry in folder.iterdir()
        if entry.name.endswith(".py")
    }


def _longest(tests: tuple[Any, ...], most: int, length: Any) -> tuple[Any, ...]:
    """The tests with the longest inputs, in their order."""
    if not most or len(tests) <= most:
        return tests
    places = sorted(range(len(tests)), key=lambda place: (-length(tests[place]), place))[:most]
    return tuple(tests[place] for place in sorted(places))


def _bytes(text: str) -> bytes:
    """A sampled text may hold half of a surrogate pair."""
    return text.encode("utf-8", errors="replace")
