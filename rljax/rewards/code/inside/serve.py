"""Holds the program, and calls its functions for the tests. Nothing here is trusted.

Requests come in lines of JSON on descriptor 3; answers go to descriptor 4.
"""

import builtins
import json
import os
import sys
import types
from typing import Any

from .values import decode, encode

PROGRAM = "program.py"
# What may be asked of an object that is not plain.
_ASKED = {
    "call": lambda target, *args, **kwargs: target(*args, **kwargs),
    "get": getattr,
    "len": len,
    "item": lambda target, key: target[key],
    "list": list,
    "str": str,
}


def main() -> None:
    """Loads the program, then answers until the tests have ended."""
    requests = os.fdopen(3, "r", encoding="utf-8")
    held: list[Any] = []

    def hold(value: Any) -> int:
        for number, known in enumerate(held):
            if known is value:
                return number
        held.append(value)
        return len(held) - 1

    _answer(["ready", None])
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    try:
        with open(PROGRAM, encoding="utf-8") as file:
            exec(compile(file.read(), PROGRAM, "exec"), module.__dict__)
        names = _names(module.__dict__)
        _answer(["names", {name: encode(value, hold) for name, value in names.items()}])
    except BaseException as error:
        _answer(["raised", _said(error)])
        return
    for line in requests:
        try:
            what, target, arguments, named = json.loads(line)
            arguments = [decode(one, held.__getitem__) for one in arguments]
            named = {name: decode(one, held.__getitem__) for name, one in named.items()}
            value = _ASKED[what](held[target], *arguments, **named)
            answer = ["value", encode(value, hold)]
        except BaseException as error:
            answer = ["raised", _said(error)]
        _answer(answer)


def _names(found: dict[str, Any]) -> dict[str, Any]:
    """What tests may use of a program: no modules, which they import themselves."""
    return {
        name: value
        for name, value in found.items()
        if not name.startswith("__") and not isinstance(value, types.ModuleType)
    }


def _said(error: BaseException) -> list[str]:
    """The built-in exception that it is, or is made from, and what it says."""
    kinds = [kind.__name__ for kind in type(error).__mro__ if hasattr(builtins, kind.__name__)]
    try:
        text = str(error)[:1000]
    except BaseException:
        text = ""
    return [kinds[0] if kinds else "Exception", text]


def _answer(answer: list[Any]) -> None:
    content = json.dumps(answer).encode() + b"\n"
    while content:
        content = content[os.write(4, content) :]


if __name__ == "__main__":
    main()
