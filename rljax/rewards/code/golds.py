"""Tests of programs as data sets write them.

| form | as in |
| --- | --- |
| a list of assert statements | MBPP |
| a mapping with `test_list`, and `test_setup_code` or `test_imports` | MBPP |
| a mapping with `test`, which defines `check(candidate)`, `entry_point`, and `prompt` | HumanEval |
| a mapping with `inputs` and `outputs`, and `fn_name` where a function is called | APPS, TACO |
| a list of mappings with `input`, `output` and `testtype` | LiveCodeBench |
| Python code: assert statements and functions `test_...` | KodCode |

Each may also be the JSON text of it, or stand under `answer` or `ground_truth`.
"""

import ast
import builtins
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rljax.rewards.code.inside.judge import module_name
from rljax.rewards.references import GOLD_KEYS

ALLOWED = (
    "assert statements, or mappings with test_list, test and entry_point, or inputs and outputs; "
    "or that as JSON text"
)


class Tests(NamedTuple):
    """The tests of one problem.

    Attributes:
        rule: how they were read, in a few words.
        pairs: (standard input, expected output) of whole programs; else empty.
        before: code of the tests that runs first.
        prompt: the beginning of the program, which a completion may continue; else "".
        entry: names that the program must define.
        tests: of functions, as `rljax.rewards.code.inside.judge.run_test` takes them.
    """

    rule: str
    pairs: tuple[tuple[str, str], ...] = ()
    before: tuple[str, ...] = ()
    prompt: str = ""
    entry: tuple[str, ...] = ()
    tests: tuple[dict[str, Any], ...] = ()

    __test__ = False

    @property
    def count(self) -> int:
        return len(self.pairs) + len(self.tests)

    @property
    def shown(self) -> str:
        """How many tests of what, in a few words."""
        names = dict.fromkeys((*self.entry, *self.asked_of_program()))
        what = ", ".join(names) or "a program"
        return f"{self.count} {'test' if self.count == 1 else 'tests'} of {what}"

    def asked_of_program(self) -> tuple[str, ...]:
        """Names that the tests use and do not define: what the program can influence."""
        codes = [*self.before, *(test.get("code", "") for test in self.tests)]
        trees = [node for code in codes for node in ast.walk(ast.parse(code))]
        used = [n.id for n in trees if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
        own, called = _defined(trees), _called(trees)
        return tuple(
            name
            for name in dict.fromkeys(used)
            if name not in own
            and not hasattr(builtins, name)
            and (name in called or not module_name(name))
        )


def read_tests(reference: Any) -> Tests:
    """The tests of a reference.

    Raises:
        ValueError: says what is wrong.
    """
    if isinstance(reference, str):
        try:
            reference = json.loads(reference)
        except RecursionError:
            raise ValueError("the JSON text is nested too deeply") from None
        except ValueError:
            return _of_code(reference)
        if isinstance(reference, str):
            return _of_code(reference)
    if hasattr(reference, "tolist"):  # numpy, from Parquet
        reference = reference.tolist()
    if isinstance(reference, Mapping):
        return _of_mapping(reference)
    if isinstance(reference, list | tuple) and reference:
        if all(isinstance(one, str) for one in reference):
            return _of_asserts(reference, ())
        if all(isinstance(one, Mapping) for one in reference):
            return _of_cases(reference, None)
    raise ValueError(f"no tests: {type(reference).__name__}")


def _of_mapping(found: Mapping[str, Any]) -> Tests:
    if found.get("test_list") is not None:
        setup = found.get("test_setup_code") or ""
        imports = found.get("test_imports")
        before = [*_texts("test_imports", [] if imports is None else imports), setup]
        return _of_asserts(_texts("test_list", found["test_list"]), before)
    if found.get("test") is not None:
        return _of_check(found)
    if found.get("inputs") is not None or found.get("outputs") is not None:
        return _of_pairs(found)
    if isinstance(found.get("tests"), list | tuple):
        return _of_cases(found["tests"], found.get("fn_name"))
    for key in GOLD_KEYS:
        if found.get(key) is not None:
            return read_tests(found[key])
    raise ValueError(f"no tests under the keys {', '.join(map(repr, found)) or '(none)'}")


def _of_asserts(texts: Sequence[str], before: Sequence[str]) -> Tests:
    before = tuple(code for code in before if code.strip())
    for index, code in enumerate(before):
        _checked(code, f"setup {index}")
    for index, code in enumerate(texts):
        _checked(code, f"test {index}")
        if not any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(code))):
            raise ValueError(f"test {index} asserts nothing: {code[:80]!r}")
    if not texts:
        raise ValueError("the list of tests is empty")
    tests = tuple({"code": code} for code in texts)
    return _with_entry(Tests("assert statements", before=before, tests=tests))


def _with_entry(tests: Tests) -> Tests:
    """The tests, with functions of the program that are called like something else.

    In the tests built-in functions and known modules keep their meaning. But a module cannot be
    called; and tests that name nothing else must mean the program's own `sum`.
    """
    called = _called(node for test in tests.tests for node in ast.walk(ast.parse(test["code"])))
    asked = tests.asked_of_program()
    entry = [name for name in dict.fromkeys(called) if name in asked and module_name(name)]
    if not asked:
        defined = _defined(node for code in tests.before for node in ast.walk(ast.parse(code)))
        entry = [name for name in called if name not in defined][:1]
        if not entry and not defined:
            raise ValueError("the tests call no function of the program")
    return tests._replace(entry=tuple(entry))


def _of_check(found: Mapping[str, Any]) -> Tests:
    code, entry = found["test"], found.get("entry_point")
    prompt = found.get("prompt") or ""
    if not isinstance(code, str) or not isinstance(entry, str) or not entry.isidentifier():
        raise ValueError(f"'test' must be code and 'entry_point' a name, got {entry!r}")
    _checked(code, "'test'")
    if not isinstance(prompt, str):
        raise ValueError("'prompt' must be text")
    if "check" not in _defined(ast.walk(ast.parse(code))):
        raise ValueError("'test' must define check(candidate)")
    if prompt:
        _checked(_as_module(prompt), "'prompt'")
    return Tests(
        "check(candidate)",
        before=(*((_as_module(prompt),) if prompt else ()), code),
        prompt=prompt,
        entry=(entry,),
        tests=({"code": "", "function": "check", "given": [entry]},),
    )


def _of_pairs(found: Mapping[str, Any]) -> Tests:
    inputs, outputs = (found.get(name) for name in ("inputs", "outputs"))
    if hasattr(inputs, "tolist"):
        inputs = inputs.tolist()
    if hasattr(outputs, "tolist"):
        outputs = outputs.tolist()
    if not isinstance(inputs, list | tuple) or not isinstance(outputs, list | tuple):
        raise ValueError("'inputs' and 'outputs' must be lists")
    if len(inputs) != len(outputs) or not inputs:
        raise ValueError(f"{len(inputs)} inputs and {len(outputs)} outputs")
    name, cases = found.get("fn_name"), list(zip(inputs, outputs, strict=True))
    if name:
        return _of_calls(name, [(_arguments(i), _results(o)) for i, o in cases])
    return Tests("input and output", pairs=tuple((_lines(i), _lines(o)) for i, o in cases))


def _of_cases(cases: Sequence[Any], name: Any) -> Tests:
    for index, case in enumerate(cases):
        if not isinstance(case, Mapping) or case.get("output") is None or "input" not in case:
            raise ValueError(f"test {index} needs 'input' and 'output'")
    functional = any(case.get("testtype") == "functional" for case in cases)
    metadata = [case.get("metadata") for case in cases]
    named = [one.get("func_name") for one in metadata if isinstance(one, Mapping)]
    name = name or next(filter(None, named), None)
    if functional and not name:
        raise ValueError("tests of a function need its name, 'fn_name'")
    if functional:
        return _of_calls(name, [(_json_lines(c["input"]), [_json(c["output"])]) for c in cases])
    return Tests(
        "input and output",
        pairs=tuple((_lines(case["input"]), _lines(case["output"])) for case in cases),
    )


def _of_calls(name: Any, calls: Sequence[tuple[list[Any], list[Any]]]) -> Tests:
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(f"'fn_name' must be the name of a function, got {name!r}")
    tests = tuple({"call": name, "arguments": a, "expected": e} for a, e in calls)
    try:
        json.dumps(tests)
    except (TypeError, ValueError) as error:
        raise ValueError(f"arguments and results must be JSON: {error}") from None
    return Tests("calls", entry=(name,), tests=tests)


def _of_code(code: str) -> Tests:
    """Each assert at the top is a test, and so is each function test_...; the rest is setup."""
    _checked(code, "the code")
    before, tests = [], []
    for node in ast.parse(code).body:
        text = ast.unparse(node)
        if isinstance(node, ast.Assert):
            tests.append({"code": text})
            continue
        before.append(text)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
            tests.append({"code": f"{node.name}()"})
    if not tests:
        raise ValueError("the code has no assert statement at its top, and no function test_...")
    return Tests("code", before=tuple(before), tests=tuple(tests))


def _defined(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that code defines, anywhere in it."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names


def _called(nodes: Iterable[ast.AST]) -> list[str]:
    """Names that are called, in order; a module cannot be."""
    return [n.func.id for n in nodes if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]


def _as_module(prompt: str) -> str:
    """The prompt of HumanEval ends within a function: with a body it is code by itself."""
    try:
        ast.parse(prompt)
    except SyntaxError:
        return prompt.rstrip() + "\n    pass\n"
    return prompt


def _checked(code: Any, what: str) -> None:
    if not isinstance(code, str):
        raise ValueError(f"{what} must be code, got {type(code).__name__}")
    try:
        ast.parse(code)
    except SyntaxError as error:
        raise ValueError(f"{what} is no Python: {error.msg} (line {error.lineno})") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{what} is no Python: {error or 'nested too deeply'}") from None


def _texts(name: str, found: Any) -> list[str]:
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except ValueError:
            found = None
    if hasattr(found, "tolist"):
        found = found.tolist()
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"{name!r} must be a list of texts")
    return list(found)


def _lines(found: Any) -> str:
    """Input or output of a program: a text, or a list of lines."""
    if isinstance(found, list | tuple) and all(isinstance(line, str) for line in found):
        return "\n".join(found)
    if isinstance(found, bool | int | float):
        return str(found)
    if not isinstance(found, str):
        raise ValueError(f"inputs and outputs must be texts, got {type(found).__name__}")
    return found


def _arguments(found: Any) -> list[Any]:
    if isinstance(found, str):
        return _json_lines(found)
    if not isinstance(found, list | tuple):
        raise ValueError(f"the inputs of a call must be a list, got {type(found).__name__}")
    return list(found)


def _results(found: Any) -> list[Any]:
    """What a call may return: APPS has the result in a list of one, LiveCodeBench as JSON text."""
    if isinstance(found, str):
        return [found] if _json(found) == found else [_json(found), found]
    if isinstance(found, list) and len(found) == 1:
        return [found, found[0]]
    return [found]


def _json_lines(found: Any) -> list[Any]:
    """A JSON value on each line."""
    if not isinstance(found, str):
        raise ValueError(f"the input of a call must be text, got {type(found).__name__}")
    return [_json(line) for line in found.splitlines() if line.strip()]


def _json(found: Any) -> Any:
    """What a JSON text says; any other text as it is."""
    try:
        return json.loads(found)
    except (TypeError, ValueError, RecursionError):
        return found
