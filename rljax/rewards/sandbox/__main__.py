"""Runs one program in a sandbox and prints a verdict, one object of JSON on standard output.

    python -m rljax.rewards.sandbox program.py
    python -m rljax.rewards.sandbox program.py --tests=tests.py --timeout=2
    python -m rljax.rewards.sandbox program.js --command="node {file}" --stdin=input.txt

`--tests` is a file of Python with assert statements or functions test_..., or of JSON with the
tests of one problem; `--timeout` is then the time of each test. The reason is "ok", "wrong" (a test
is not passed), "error", "timeout", "memory", "output", "files", "processes" or "killed".

Exit status: 0 the program ended well, and passes all tests; 1 nothing was run, and standard error
says why; 2 the program did not end well, or does not pass. 70 is a fault of rljax.
"""

import argparse
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from rljax.commands.parser import Parser
from rljax.commands.run import run
from rljax.commands.statuses import Status
from rljax.rewards.code.golds import Tests, read_tests
from rljax.rewards.code.running import Result, Rules, run_tests, whole_program
from rljax.rewards.sandbox.layers import CHOICES, OPTIONAL, not_promised
from rljax.rewards.sandbox.limits import Ended, Limits, checked_limits
from rljax.rewards.sandbox.sandbox import Sandbox

NOT_OK = 2
_FILE = "{file}"
_SHOWN = 20_000  # characters of an output
_NO_TESTS = Tests("none")


def parser() -> Parser:
    """The parser of all flags."""
    made, usual = Parser(__doc__), Limits()
    made.prog = "python -m rljax.rewards.sandbox"
    add = made.add_argument
    add("file", type=Path, metavar="FILE", help="the program")
    add("--tests", type=Path, metavar="FILE", help="of the program: Python or JSON")
    add("--stdin", type=Path, metavar="FILE", help="its standard input, where there are no tests")
    add("--command", default="", metavar="WORDS", help='of another language: "node {file}"')
    add("--sandbox", default="auto", metavar="NAME", help=", ".join(CHOICES))
    add("--timeout", type=float, default=usual.seconds, metavar="S", help="seconds (10)")
    add("--memory-mb", type=int, default=usual.memory_mb, metavar="N", help="memory (512)")
    add("--output-kb", type=int, default=usual.output_kb, metavar="N", help="output (1024)")
    add("--files-mb", type=int, default=usual.files_mb, metavar="N", help="files (64)")
    add("--processes", type=int, default=usual.processes, metavar="N", help="processes (32)")
    return made


def show(options: argparse.Namespace) -> int:
    """Runs the program and prints the verdict."""
    limits = Limits(
        seconds=options.timeout,
        memory_mb=options.memory_mb,
        output_kb=options.output_kb,
        files_mb=options.files_mb,
        processes=options.processes,
    )
    limits = checked_limits(limits, _flag)
    code = options.file.read_text(encoding="utf-8", errors="surrogateescape")
    tests = _tests(options)
    with Sandbox(options.sandbox) as sandbox:
        sandbox.start()
        rules = Rules(limits, 86_400.0, stop=False, command=_command(options.command))
        if tests.count:
            result = run_tests(code, tests, rules, sandbox)
        else:
            given = options.stdin.read_text(encoding="utf-8") if options.stdin else ""
            (ended,) = sandbox.run(whole_program(code, given, rules), limits=limits)
            result = Result(0, 0, last=ended)
        layers = sandbox.start()
    verdict = verdict_of(result) | {
        "sandbox": layers.means,
        "layers": [name for name in OPTIONAL if getattr(layers, name)],
        "not_promised": not_promised(layers),
    }
    print(json.dumps(verdict))
    return Status.DONE if verdict["ok"] else NOT_OK


def verdict_of(result: Result) -> dict[str, Any]:
    """What is printed of a program: whether it is right, and how it ended."""
    ended, right = result.last, result.passed == result.count
    reason = ended.reason
    if result.count:
        wrong = reason if reason not in ("ok", "stopped") else "wrong"
        reason = "ok" if right else wrong
    verdict = {
        "ok": reason == "ok",
        "reason": reason,
        "exit_code": ended.exit_code,
        "seconds": round(ended.seconds, 3),
        **_outputs(ended),
    }
    if result.count:
        verdict["tests"] = {"passed": result.passed, "count": result.count, "why": result.why}
    return verdict


def _outputs(ended: Ended) -> dict[str, Any]:
    texts = {
        name: getattr(ended, name).decode(errors="backslashreplace")
        for name in ("stdout", "stderr")
    }
    cut = any(len(text) > _SHOWN for text in texts.values()) or ended.reason == "output"
    return {**{name: text[:_SHOWN] for name, text in texts.items()}, "cut": cut}


def _flag(limit: str) -> str:
    return "--timeout" if limit == "seconds" else f"--{limit.replace('_', '-')}"


def _tests(options: argparse.Namespace) -> Tests:
    if options.tests is None:
        return _NO_TESTS
    if options.stdin is not None:
        raise ValueError("Tests bring their own input: give one of --tests and --stdin (--stdin).")
    try:
        return read_tests(options.tests.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{options.tests}: {error} (--tests).") from error


def _command(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(
            f"The command {text!r} is no list of words: {error} (--command)."
        ) from None
    path = shutil.which(words[0]) if words else None
    if path is None or _FILE not in words:
        raise ValueError(
            f"A command is a program of PATH and a word {_FILE}, got {text!r} (--command)."
        )
    return (path, *words[1:])


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py, and 2)."""
    return run(parser(), show, arguments)


if __name__ == "__main__":
    sys.exit(main())
