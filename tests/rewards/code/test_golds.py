import json

import pytest

from rljax.rewards.code.golds import read_tests
from rljax.rewards.golds import check_golds

MBPP = {
    "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
    "test_setup_code": "LIMIT = 3",
    "challenge_test_list": [],
}
HUMANEVAL = {
    "prompt": 'import math\n\ndef root(x):\n    """The root of x."""\n',
    "test": "def check(candidate):\n    assert candidate(4) == 2\n",
    "entry_point": "root",
}
STDIN = {"inputs": ["1 2\n", ["3", "4"]], "outputs": ["3\n", 7]}
CALLS = {"fn_name": "add", "inputs": [[1, 2], [3, 4]], "outputs": [[3], 7]}
LIVECODE = [
    {"input": '[1, 2]\n"x"', "output": "3", "testtype": "functional"},
    {"input": "[]\n4", "output": '"y"', "testtype": "functional"},
]


@pytest.mark.parametrize(
    "reference, rule, count, shown",
    [
        (MBPP["test_list"], "assert statements", 2, "2 tests of add"),
        (MBPP, "assert statements", 2, "2 tests of add"),
        (["assert sum(10, 15) == 6"], "assert statements", 1, "1 test of sum"),
        (["assert set(calendar(3)) == {1}"], "assert statements", 1, "1 test of calendar"),
        (["assert math.isclose(area(1), math.pi)"], "assert statements", 1, "1 test of area"),
        (HUMANEVAL, "check(candidate)", 1, "1 test of root"),
        (STDIN, "input and output", 2, "2 tests of a program"),
        (CALLS, "calls", 2, "2 tests of add"),
        ({"tests": LIVECODE, "fn_name": "f"}, "calls", 2, "2 tests of f"),
        ([{"input": "1", "output": "2", "testtype": "stdin"}], "input and output", 1, "1 test of"),
        ("from solution import f\ndef test_f():\n    assert f() == 1\n", "code", 1, "1 test of"),
        ("x = 3\nassert f(x)\nassert g(x)", "code", 2, "2 tests of f, g"),
        ({"ground_truth": json.dumps(STDIN)}, "input and output", 2, "2 tests of a program"),
    ],
)
def test_forms_of_data_sets(reference, rule, count, shown):
    for form in (reference, json.dumps(reference)):
        tests = read_tests(form)
        assert (tests.rule, tests.count) == (rule, count)
        assert tests.shown.startswith(shown)


def test_arguments_and_results():
    calls = read_tests(CALLS).tests
    assert calls[0] == {"call": "add", "arguments": [1, 2], "expected": [[3], 3]}
    assert calls[1] == {"call": "add", "arguments": [3, 4], "expected": [7]}
    calls = read_tests({"tests": LIVECODE, "fn_name": "f"}).tests
    assert calls[0] == {"call": "f", "arguments": [[1, 2], "x"], "expected": [3]}
    assert calls[1]["expected"] == ["y"]
    assert read_tests(STDIN).pairs == (("1 2\n", "3\n"), ("3\n4", "7"))


def test_a_prompt_is_code_by_itself():
    before = read_tests(HUMANEVAL).before
    assert len(before) == 2
    space = {}
    exec(before[0], space)
    assert "root" in space and "math" in space


@pytest.mark.parametrize(
    "reference, reason",
    [
        (None, "no tests: NoneType"),
        (3, "no tests: int"),
        ([], "no tests: list"),
        ([1, 2], "no tests: list"),
        ({}, r"no tests under the keys \(none\)"),
        ({"code": "x"}, "no tests under the keys 'code'"),
        (["assert f(1) =="], r"test 0 is no Python: invalid syntax \(line 1\)"),
        (["assert f(1)", "f(2)"], r"test 1 asserts nothing: 'f\(2\)'"),
        ({"test_list": []}, "the list of tests is empty"),
        (["assert 1 + 1 == 2"], "the tests call no function of the program"),
        ({"test_list": ["assert 1"], "test_setup_code": "def"}, "setup 0 is no Python"),
        ({"test_list": "assert f(1)"}, "'test_list' must be a list of texts"),
        ({"test": "def check(c): pass"}, "'entry_point' a name, got None"),
        ({"test": "def check(c): pass", "entry_point": "f()"}, "'entry_point' a name"),
        ({"test": "assert f(1)", "entry_point": "f"}, r"must define check\(candidate\)"),
        ({"inputs": ["1"], "outputs": []}, "1 inputs and 0 outputs"),
        ({"inputs": [], "outputs": []}, "0 inputs and 0 outputs"),
        ({"inputs": "1", "outputs": ["1"]}, "must be lists"),
        ({"inputs": [{"a": 1}], "outputs": ["1"]}, "must be texts, got dict"),
        ({"inputs": [[1]], "outputs": [1], "fn_name": "f()"}, "'fn_name' must be the name"),
        ([{"input": "1"}], "test 0 needs 'input' and 'output'"),
        (LIVECODE, "tests of a function need its name, 'fn_name'"),
        ("print(1)", "no assert statement at its top"),
        ("some text", "the code is no Python"),
        ("assert x\0", "the code is no Python"),
        ("[" * 100_000, "nested too deeply|no Python"),
    ],
)
def test_what_is_refused(reference, reason):
    with pytest.raises(ValueError, match=reason):
        read_tests(reference)


def test_the_file_and_row_are_named():
    with pytest.raises(
        ValueError, match=r"tests.jsonl, row 1: the reward 'python_tests' cannot .*"
    ):
        check_golds(["python_tests"], [MBPP, "?"], lambda row: f"tests.jsonl, row {row}")
    counts = check_golds(["python_tests"], [MBPP, HUMANEVAL, MBPP], str)
    assert counts["python_tests"] == {"assert statements": 2, "check(candidate)": 1}
