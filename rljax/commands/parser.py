"""Flags of a command: --like-this=VALUE; underscores are read as dashes, --config.a.b stays."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from rljax.errors import shown, unknown_name

CONFIG = "--config."
INT32 = 2**31 - 1  # counts and sizes on the device


class Parser(argparse.ArgumentParser):
    """Errors are ValueErrors; a flag is given once; what is unknown is answered with the nearest.

    Args:
        description: the docstring of the command.
        overrides: whether words "--config.a.b=VALUE" are taken; they become `overrides`.
    """

    def __init__(self, description: str, *, overrides: bool = False) -> None:
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.takes_overrides = overrides
        for action in (None, "store"):
            self.register("action", action, _Once)
        self.add_argument(
            "--traceback", action="store_true", help="show where an error was raised, too"
        )
        if overrides:
            self.add_argument(
                "--config.a.b",
                dest="overrides",
                metavar="VALUE",
                default=(),
                help="set a field of the config (configs/README.md)",
            )

    def error(self, message: str) -> NoReturn:
        """Raises ValueError, with the flag where other errors name the field."""
        flag, colon, said = message.removeprefix("argument ").partition(": ")
        if message.startswith("argument ") and colon:
            raise ValueError(f"{flag} {said} ({flag}).")
        raise ValueError(f"{message}; see --help.")

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """The options that words stand for.

        Raises:
            ValueError: for an unknown word, or a flag that is missing or cannot be read.
        """
        overrides = tuple(word for word in words if self.takes_overrides and _is_override(word))
        rest = [dashed(word) for word in words if word not in overrides]
        self._check_flags(rest)
        options, unknown = self.parse_known_args(rest)
        for word in unknown:
            raise ValueError(f"Unknown argument {shown(word)}; see --help.")
        if self.takes_overrides:
            options.overrides = overrides
        vars(options).pop("_given", None)
        # Words without a flag, as --help calls them: errors of files name them (run.py).
        options.words = {
            action.dest: str(action.metavar or action.dest)
            for action in self._actions
            if not action.option_strings
        }
        return options

    def _check_flags(self, words: Sequence[str]) -> None:
        """Raises ValueError for the first word that looks like a flag and is none."""
        flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
        for word in words:
            name = word.partition("=")[0]
            if name.startswith("--") and name not in flags:
                raise unknown_name("argument", word, flags, name)


class _Once(argparse.Action):
    """Stores a value; a flag that is given twice is an error, not a silent choice."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        given = vars(namespace).setdefault("_given", set())
        if self.dest in given:
            parser.error(f"{option_string} is given more than once")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


def _is_override(word: str) -> bool:
    return word.startswith(CONFIG)


def dashed(word: str) -> str:
    """A flag in the one style: --max_new_tokens=8 is --max-new-tokens=8."""
    name, equals, value = word.partition("=")
    if not word.startswith("--") or _is_override(word):
        return word
    return name.replace("_", "-") + equals + value


def path(text: str) -> Path:
    """A file or folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("needs the name of a file or folder")
    return Path(text)


def named(text: str) -> str:
    """A name that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("needs a name")
    return text


def words(text: str) -> tuple[str, ...]:
    """Names between commas."""
    found = tuple(text.split(","))
    if not all(found):
        raise argparse.ArgumentTypeError(f"needs names between commas, got {text!r}")
    return found


def numbers(text: str) -> tuple[float, ...]:
    """Numbers between commas."""
    found = []
    for word in text.split(","):
        try:
            found.append(float(word))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"needs numbers between commas, got {shown(word)}"
            ) from None
    return tuple(found)


def whole(minimum: int, maximum: int = INT32) -> Callable[[str], int]:
    """Reads a whole number of a range."""

    def read(text: str) -> int:
        number = int(text) if text.lstrip("-").isdecimal() and len(text) < 20 else None
        if number is None or not minimum <= number <= maximum:
            allowed = f">= {minimum}" if maximum == INT32 else f"in {minimum}..{maximum}"
            raise argparse.ArgumentTypeError(f"must be a whole number {allowed}, got {shown(text)}")
        return number

    return read


def number(minimum: float, maximum: float) -> Callable[[str], float]:
    """Reads a number of a range."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(
                f"must be a number in {minimum:g}..{maximum:g}, got {shown(text)}"
            )
        return value

    return read
