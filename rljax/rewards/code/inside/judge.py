"""Holds the tests, and asks the program, which runs in another sandbox, through pipes.

What comes back from the program is data. So it can return what it likes, but it cannot read a test,
end this process, change a built-in function, or say that a test has passed. Verdicts go to
descriptor 5, a line of JSON for each test.
"""

import ast
import builtins
import importlib
import json
import os
import signal
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from .values import decode, encode

TESTS = "tests.json"
_LONGEST_ANSWER = 2**24
_READY_SECONDS = 60.0
# A report of no test: nothing could be run, and why.
NOTHING_RAN = -1
# Modules that tests use without importing them, besides those of the standard library.
_MODULES = {"np": "numpy", "numpy": "numpy", "pd": "pandas", "sympy": "sympy", "scipy": "scipy"}


class TestTimeout(BaseException):
    """The time of a test is up. No Exception, so that tests cannot catch it by accident."""

    __test__ = False


class LinkLost(BaseException):
    """The program has ended, or what it says is no answer."""


class Link:
    """The way to the program."""

    def __init__(self, reader: int, writer: int) -> None:
        self._answers, self._writer = os.fdopen(reader, "rb"), writer

    def read(self) -> Any:
        """The next answer: ["names", ...], ["value", ...] or ["raised", ...].

        Raises:
            LinkLost: there is none.
        """
        line = self._answers.readline(_LONGEST_ANSWER)
        if not line.endswith(b"\n"):
            raise LinkLost("the program ended, or answered too much")
        try:
            kind, content = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            raise LinkLost("the program's answer cannot be read") from None
        return kind, content

    def ask(self, what: str, target: int, *arguments: Any, **named: Any) -> Any:
        """Asks the program for something, and returns the value.

        Raises:
            Exception: the built-in one that the program raised.
            TypeError: an argument that cannot be sent.
            LinkLost: there is no answer.
        """
        sent = [encode(one, _number_of) for one in arguments]
        sent_by_name = {name: encode(one, _number_of) for name, one in named.items()}
        content = json.dumps([what, target, sent, sent_by_name]).encode() + b"\n"
        try:
            while content:
                content = content[os.write(self._writer, content) :]
        except BrokenPipeError:
            raise LinkLost("the program has ended") from None
        kind, answer = self.read()
        try:
            if kind == "raised":
                name, text = answer
                error = _exception(str(name), str(text))
            else:
                return decode(answer, lambda number: Remote(self, number))
        except (ValueError, TypeError, ArithmeticError, RecursionError):
            raise LinkLost("the program's answer cannot be read") from None
        raise error


class Remote:
    """An object of the program that is not plain: a function, a class, an instance.

    It can be called, its attributes read, its items and length asked for: the results are data
    again. It is never equal to anything but itself, and neither true nor false, so that no verdict
    comes from the program.
    """

    def __init__(self, link: Link, number: int) -> None:
        object.__setattr__(self, "_link", link)
        object.__setattr__(self, "_number", number)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._link.ask("call", self._number, *arguments, **named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._link.ask("get", self._number, name)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise TypeError("an object of the program cannot be changed by a test")

    def __len__(self) -> int:
        found = self._link.ask("len", self._number)
        return found if isinstance(found, int) else 0

    def __iter__(self) -> Iterator[Any]:
        found = self._link.ask("list", self._number)
        if type(found) is not list:
            raise TypeError("the program answered a list with something else")
        return iter(found)

    def __getitem__(self, key: Any) -> Any:
        return self._link.ask("item", self._number, key)

    def __str__(self) -> str:
        found = self._link.ask("str", self._number)
        return found if isinstance(found, str) else ""

    def __bool__(self) -> NoReturn:
        raise TypeError("an object of the program is neither true nor false")

    def __eq__(self, other: Any) -> bool:
        return type(other) is Remote and other._number == self._number

    def __hash__(self) -> int:
        return hash(self._number)


def _number_of(value: Any) -> int:
    if type(value) is Remote:
        return value._number
    raise TypeError(f"a test cannot pass {type(value).__name__!r} to the program")


def _exception(name: str, text: str) -> Exception:
    """The built-in exception of that name; of no kind that ends a process."""
    kind = getattr(builtins, name, Exception)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = RuntimeError
    try:
        return kind(text)
    except TypeError:  # some need more arguments
        return RuntimeError(text)


def proxies(names: dict[str, Any], link: Link, entry: list[str]) -> dict[str, Any]:
    """The program's names as tests see them.

    Built-in functions and known modules keep their meaning, whatever the program calls so: one
    that has its own `abs` could say that numbers are equal. What is tested itself, `entry`, is the
    program's.
    """
    return {
        str(name): decode(value, lambda number: Remote(link, number))
        for name, value in names.items()
        if name in entry or not (hasattr(builtins, name) or module_name(name))
    }


def module_name(name: str) -> str | None:
    """The known module that a name stands for in tests, if there is one."""
    return name if name in sys.stdlib_module_names else _MODULES.get(name)


def used_modules(codes: list[str]) -> dict[str, types.ModuleType]:
    """The known modules that tests name; many rely on what the program has imported."""
    names = {
        node.id for code in codes for node in ast.walk(ast.parse(code)) if type(node) is ast.Name
    }
    found = {}
    for name in sorted(names):
        if (module := module_name(name)) is not None:
            try:
                found[name] = importlib.import_module(module)
            except ImportError:  # the test will say so
                continue
    return found


def solution_class_method(names: dict[str, Any], name: str) -> Callable[..., Any]:
    """The function that is called: by its name, or a method of the class `Solution`."""
    if name in names:
        return names[name]
    if "Solution" in names:
        return getattr(names["Solution"](), name)
    raise NameError(f"name {name!r} is not defined")


def equal(value: Any, expected: Any) -> bool:
    """Whether a call returned what it should; tuples count as lists, as JSON has no tuples."""
    return _as_json(value) == expected


def _as_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_json(one) for one in value]
    if isinstance(value, dict):
        return {k if isinstance(k, str) else str(k): _as_json(v) for k, v in value.items()}
    return value


def run_test(test: dict[str, Any], space: dict[str, Any], names: dict[str, Any]) -> None:
    """Runs one test.

    Args:
        test: {"code"}; or {"call", "arguments", "expected": list of what is right}.
        space: where code runs.
        names: the program's.

    Raises:
        BaseException: it does not pass.
    """
    if "call" in test:
        value = solution_class_method(names, test["call"])(*test["arguments"])
        assert any(equal(value, one) for one in test["expected"]), f"returned {value!r:.200}"
    else:
        exec(compile(test["code"], "<test>", "exec"), space)
        if "function" in test:
            space[test["function"]](*(names[name] for name in test["given"]))


def main() -> None:
    """Runs the tests in order, each under its time, and reports."""
    with open(TESTS, encoding="utf-8") as file:
        plan = json.load(file)
    signal.signal(signal.SIGALRM, _on_alarm)
    link, space = Link(3, 4), {"__name__": "tests"}
    place = NOTHING_RAN
    try:
        with _Timer(_READY_SECONDS):
            link.read()
        with _Timer(plan["seconds"]):
            kind, names = link.read()
            if kind != "names":
                raise LinkLost(f"the program does not load: {': '.join(map(str, names))[:500]}")
            names = proxies(names, link, plan["entry"])
        # Names of the tests' own code win over the program's.
        space.update(names)
        codes = [*plan["before"], *(test.get("code", "") for test in plan["tests"])]
        space.update(used_modules(codes))
        sys.modules["solution"] = _as_module(names)
        for code in plan["before"]:
            exec(compile(code, "<setup>", "exec"), space)
        for name in plan["entry"]:
            space[name] = names[name] = solution_class_method(names, name)
        for place, test in enumerate(plan["tests"]):
            why = _why_not(test, space, names, plan["seconds"])
            _report(place, why)
            if why and plan["stop"]:
                return
    except (LinkLost, TestTimeout) as error:
        _report(place, _line(error))  # the first place is that of `NOTHING_RAN`
    except Exception as error:  # setup, or a name that the program does not have
        _report(NOTHING_RAN, _line(error))


def _why_not(
    test: dict[str, Any], space: dict[str, Any], names: dict[str, Any], seconds: float
) -> str:
    """Why a test does not pass; "" if it does."""
    try:
        with _Timer(seconds):
            run_test(test, space, names)
    except (LinkLost, TestTimeout):
        raise
    except BaseException as error:
        return _line(error)
    return ""


class _Timer:
    """Raises `TestTimeout` after some seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self._seconds, 0.1)

    def __exit__(self, *exception: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _on_alarm(signum: int, frame: Any) -> NoReturn:
    raise TestTimeout("the time of the test is up")


def _as_module(names: dict[str, Any]) -> types.ModuleType:
    """For tests that begin with `from solution import f`."""
    module = types.ModuleType("solution")
    module.__dict__.update(names)
    return module


def _line(error: BaseException) -> str:
    lines = traceback.format_exception_only(type(error), error)
    return lines[-1].strip()[:200] or type(error).__name__


def _report(place: int, why: str) -> None:
    """One line: the test's place, and why it did not pass."""
    os.write(5, json.dumps([place, why]).encode() + b"\n")


if __name__ == "__main__":
    main()
