"""The reward on right and wrong programs, and on programs that want to be called right."""

import shutil
import tempfile
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from rljax.errors import StoppedError
from rljax.rewards.code.extraction import code_of
from rljax.rewards.code.inside.judge import Remote, proxies, used_modules
from rljax.rewards.code.inside.values import decode, encode
from rljax.rewards.code.outputs import same_output
from rljax.rewards.code.reward import check_options, python_tests
from rljax.rewards.code.running import Result
from rljax.rewards.compose import Composition
from rljax.rewards.pool import Scorer
from tests.rewards.sandboxes import needs_sandbox

ADD = ["assert add(1, 2) == 3", "assert add(2, 2) == 4", "assert math.isclose(add(0.5, 1), 1.5)"]
HUMANEVAL = {
    "prompt": "def twice(x):\n    return 2 * x\n\ndef f(x):\n    '''x + 1'''\n",
    "test": "def check(candidate):\n    assert candidate(2) == 3\n    assert twice(2) == 4\n",
    "entry_point": "f",
}
STDIN = {"inputs": ["1 2\n", "3 4\n"], "outputs": ["3\n", "7.0\n"]}


def reward(code, tests, **options):
    return python_tests("", code, tests, **{"test_seconds": 5.0, "total_seconds": 20.0, **options})


def fenced(code, tag="python"):
    return f"Some words.\n```{tag}\n{code}\n```\nMore."


def test_the_code_of_a_completion():
    assert code_of(fenced("x = 1") + fenced("y = 2")) == "y = 2\n"
    assert code_of(fenced("x = 1") + fenced("ls", "bash")) == "x = 1\n"
    assert code_of(fenced("x = 1", "")) == "x = 1\n"
    assert code_of("x = 1") == "x = 1"
    assert code_of(fenced("f()", "js"), "js") == "f()\n"
    assert code_of("```python\nx = 1") == "```python\nx = 1"  # cut off
    for text in ("```" + "a" * 10**6, "```\n" * 10**5 + "`", " " * 10**6, "```" * 10**5):
        code_of(text)  # in linear time


@pytest.mark.parametrize(
    "written, expected, same",
    [
        ("1 2\n", "1 2", True),
        ("1  2 \n3", "1 2\n3\n", True),
        ("1.0", "1", True),
        ("0.1", "0.10000000000000001", False),
        ("1\n2", "1 2", False),
        ("", "", True),
        ("a", "A", False),
        ("1e999999999", "1", False),
        ("9" * 5000, "9" * 5000, True),
        ("9" * 5000 + ".0", "9" * 5000, False),
        ("NaN", "nan", False),
    ],
)
def test_outputs(written, expected, same):
    assert same_output(written, expected) == same


def test_plain_values_travel():
    values = [
        *(None, True, 1, -(10**5000), 0.1, float("inf"), "ü\ud800", b"\0", 1 + 2j, Decimal("0.10")),
        *(Fraction(1, 3), [1, (2, {3}), frozenset([4])], {"a": {(1, 2): None}, 2: []}),
    ]
    for value in values:
        back = decode(encode(value, None), None)
        assert back == value and type(back) is type(value)
    held = []
    thing = encode([object()], lambda value: held.append(value) or 7)
    assert decode(thing, lambda number: ("held", number)) == [("held", 7)]
    for bad in (["eval", "1"], {"a": 1}, [1], ["list", 3], ["handle", "x"]):
        with pytest.raises((ValueError, TypeError)):
            decode(bad, lambda number: number)


def test_an_object_of_the_program_gives_no_verdict():
    thing = Remote(None, 0)
    assert thing != 5 and not thing == 5 and thing == Remote(None, 0)
    with pytest.raises(TypeError, match="neither true nor false"):
        bool(thing)
    names = {"abs": ["handle", 0], "math": ["handle", 1], "np": ["handle", 2], "f": ["handle", 3]}
    assert set(proxies(names, None, [])) == {"f"}
    assert set(proxies(names, None, ["abs"])) == {"f", "abs"}
    assert set(used_modules(["assert math.floor(f(1)) == abs(x)"])) == {"math"}


@needs_sandbox
@pytest.mark.parametrize(
    "code, tests, share",
    [
        (fenced("def add(a, b): return a + b"), ADD, 1.0),
        (fenced("def add(a, b): return a * b"), ADD, 1 / 3),
        (fenced("def plus(a, b): return a + b"), ADD, 0.0),
        (fenced("def add(a, b) return"), ADD, 0.0),
        ("", ADD, 0.0),
        ("def sum(a, b): return a - b", ["assert sum(3, 1) == 2", "assert sum(1, 1) == 0"], 1.0),
        ("def calendar(n): return [n]", ["assert sorted(calendar(3)) == [3]"], 1.0),
        ("    return x + 1\n", HUMANEVAL, 1.0),
        (fenced("def f(x):\n    return x + 1"), HUMANEVAL, 1.0),
        (fenced("def f(x):\n    return twice(x) - 1"), HUMANEVAL, 1.0),
        ("    return x\n", HUMANEVAL, 0.0),
        (fenced("a, b = map(int, input().split())\nprint(a + b)"), STDIN, 1.0),
        (fenced("input()\nprint(7)"), STDIN, 0.5),
        (
            fenced("class Solution:\n    def go(self, x): return (x, [1])"),
            {"fn_name": "go", "inputs": [[1]], "outputs": [[1, [1]]]},
            1.0,
        ),
        (
            fenced("class Stack:\n    def __init__(self): self.x = []\n    def push(self, v): "
            "self.x.append(v)\n    def pop(self): return self.x.pop()"),
            "s = Stack()\ns.push(3)\nassert s.pop() == 3\ndef test_error():\n    try: s.pop()\n"
            "    except IndexError: return\n    assert False\n",
            1.0,
        ),
        (
            fenced("def squares(n):\n    for i in range(n): yield i * i"),
            ["assert list(squares(3)) == [0, 1, 4]", "assert sum(squares(3)) == 5"],
            1.0,
        ),
    ],
)  # fmt: skip
def test_programs(code, tests, share):
    assert reward(code, tests, partial=True) == pytest.approx(share)
    assert reward(code, tests) == float(share == 1.0)


# Each wants `assert add(...) == ...` to pass, or to look as if it had.
FORGERIES = {
    "os._exit(0) at once": """
import os
os._exit(0)
""",
    "os._exit(0) in the function": """
import os
def add(a, b): os._exit(0)
""",
    "sys.exit(0)": """
import sys
sys.exit(0)
""",
    "sys.exit(0) in the function": """
import sys
def add(a, b): sys.exit(0)
""",
    "exit in atexit": """
import atexit, os
atexit.register(os._exit, 0)
def add(a, b): return 0
""",
    "a killed process": """
import os
def add(a, b): os.kill(os.getpid(), 9)
""",
    "a verdict on standard output": """
print('{"ok": true, "reason": "ok"}')
print([0, ""])
""",
    "verdicts on all descriptors": """
import os
for n in range(3, 64):
    try: os.write(n, b'[0, ""]\\n[1, ""]\\n[2, ""]\\n')
    except OSError: pass
""",
    "answers before the questions": """
import os
os.write(4, b'["names", {"add": ["handle", 0]}]\\n' + b'["value", true]\\n' * 9)
""",
    "an object equal to everything": """
class All:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    __hash__ = None
def add(a, b): return All()
""",
    "a number equal to everything": """
class All(int):
    def __eq__(self, other): return True
    def __sub__(self, other): return 0
def add(a, b): return All(0)
""",
    "a list equal to everything": """
class All(list):
    def __eq__(self, other): return True
def add(a, b): return All()
""",
    "not a number": """
def add(a, b): return float("nan")
""",
    "its own built-in functions": """
import builtins
builtins.isinstance = builtins.all = lambda *x: True
def abs(x): return 0
def add(a, b): return 9
""",
    "its own math": """
class math:
    isclose = staticmethod(lambda *x: True)
def add(a, b): return 9
""",
    "its own AssertionError": """
import builtins
builtins.AssertionError = ValueError
def add(a, b): return 0
""",
    "a patched unittest and pytest": """
import sys, types, unittest
unittest.TestCase.assertEqual = lambda *x: None
sys.modules["pytest"] = types.ModuleType("pytest")
def add(a, b): return 0
""",
    "the frames of its caller": """
import sys
def add(a, b):
    frame = sys._getframe()
    while frame:
        for name in list(frame.f_locals):
            if "expected" in name: return frame.f_locals[name]
        frame = frame.f_back
""",
    "objects of the garbage collector": """
import gc
def add(a, b):
    for x in gc.get_objects():
        for y in gc.get_referents(x):
            if isinstance(y, str) and y.startswith("assert add"): return eval(y.split("==")[1])
""",
    "the file of the tests": """
import glob
def add(a, b):
    for name in glob.glob("../*/tests.json") + glob.glob("**/*.json"):
        return eval(open(name).read().split("==")[1][:2])
""",
    "a trace function": """
import sys
sys.settrace(lambda *x: None)
sys.excepthook = lambda *x: None
def add(a, b): return 0
""",
    "an exception that is no error": """
def add(a, b): raise GeneratorExit
""",
    "a child that goes on": """
import os
if os.fork(): os._exit(0)
def add(a, b): return 0
""",
    "a name like a module of ours": """
import sys
sys.modules["json"] = None
def add(a, b): return 0
""",
    "names that hide those of the tests": """
__builtins__ = {}
space = plan = link = None
def check(*x): pass
def add(a, b): return 0
""",
}


@needs_sandbox
@pytest.mark.parametrize("code", FORGERIES.values(), ids=FORGERIES)
def test_a_verdict_cannot_be_forged(code):
    tests = ["assert add(1, 2) == 3", "assert abs(add(2, 2) - 4) < 1e-6", ADD[2]]
    assert reward(fenced(code), tests, partial=True, test_seconds=1.0) == 0.0


@needs_sandbox
def test_a_hanging_test_costs_itself():
    code = "def add(a, b):\n    while (a, b) == (1, 2): pass\n    return a + b"
    assert reward(code, ADD, partial=True, test_seconds=0.5) == pytest.approx(2 / 3)
    code = "def add(a, b):\n    import os\n    if (a, b) == (2, 2): os._exit(0)\n    return a + b"
    assert reward(code, ADD, partial=True) == pytest.approx(2 / 3)


@needs_sandbox
def test_tests_that_are_not_reached_are_not_passed():
    code = "import time\ndef add(a, b):\n    time.sleep(0.4)\n    return a + b"
    assert reward(code, ADD * 9, partial=True, total_seconds=1.0, most_tests=0) < 0.5


@needs_sandbox
def test_another_language():
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    code = "const l = require('fs').readFileSync(0, 'utf8').split(' ').map(Number)\n"
    options = {"language": "js", "command": ("node", "{file}")}
    assert reward(fenced(code + "console.log(l[0] + l[1])", "js"), STDIN, **options) == 1.0
    assert reward(fenced(code + "console.log(l[0])", "js"), STDIN, **options) == 0.0
    with pytest.raises(ValueError, match="only inputs and outputs can be tested"):
        reward("x", ADD, **options)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sandbox": "docker"}, "sandbox must be one of auto, bubblewrap, nsjail, process, got 'd"),
        ({"test_seconds": 0}, r"seconds must be a number in .* got 0 .*options.test_seconds"),
        ({"total_seconds": float("nan")}, "got nan .*options.total_seconds"),
        (
            {"total_seconds": 4.5},
            "at most 3, 2 s less than config.scoring.timeout_seconds=5, got 4",
        ),
        ({"memory_mb": 1}, r"memory_mb must be a whole number in \[64, .* got 1 "),
        ({"most_tests": -1}, "most_tests must be a whole number from 0 on"),
        ({"most_tests": True}, "most_tests must be a whole number"),
        ({"language": 3}, "language must be a text, got 3"),
        ({"command": "node {file}"}, "command must be a list of words, got 'node {file}'"),
        ({"command": ("node",)}, "command must hold the word '{file}'"),
        ({"command": ("no-such-program", "{file}")}, "no program 'no-such-program' in PATH"),
    ],
)
def test_options_are_checked_before_a_run(options, message):
    with pytest.raises(ValueError, match=message):
        check_options(5.0, **options)


@needs_sandbox
def test_a_sandbox_that_does_not_work_is_refused(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    message = "sandbox 'nsjail' does not work here: nsjail: no 'nsjail' in PATH; allowed are auto,"
    with pytest.raises(ValueError, match=message) as caught:
        check_options(5.0, sandbox="nsjail")
    assert not isinstance(caught.value, StoppedError)
    assert "options.sandbox" in str(caught.value)


@needs_sandbox
def test_in_a_pool_of_processes(monkeypatch):
    """A hanging program is wrong, not a failed sample; no folder is left."""
    place = Path(tempfile.mkdtemp(prefix="pool-"))
    place.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr("tempfile.tempdir", None)
    completions = ["def add(a, b): return a + b", "while True: pass", "import os\nos._exit(0)"]
    spec = [{"name": "python_tests", "options": {"test_seconds": 1.0}}]
    with Scorer(spec, workers=2, timeout_seconds=10.0) as pool:
        scores = pool.score([""] * 3, completions, [ADD] * 3)
        assert list(place.iterdir())
    assert scores.total.tolist() == [1.0, 0.0, 0.0] and not scores.failed.any()
    place.rmdir()  # which is empty


@needs_sandbox
def test_a_pool_does_not_start_with_a_sandbox_that_does_not_work(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ValueError, match="'bubblewrap' does not work here: .*no 'bwrap' in PATH"):
        Scorer([{"name": "python_tests", "options": {"sandbox": "bubblewrap"}}])


@needs_sandbox
def test_the_reward_in_a_composition():
    made = Composition([{"name": "python_tests", "options": {"partial": True}}])
    assert made.values("", "def add(a, b): return a * b", ADD, None) == [pytest.approx(1 / 3)]


@pytest.mark.parametrize("passed, said", [(2, None), (1, "A test of 2 failed: wrong output.")])
def test_what_failed_is_said_where_it_is_asked_for(monkeypatch, passed, said):
    result = Result(passed, 2, "" if passed == 2 else "wrong output")
    monkeypatch.setattr("rljax.rewards.code.reward.run_tests", lambda *given: result)
    monkeypatch.setattr("rljax.rewards.code.reward._sandbox", lambda means: None)
    assert reward("x = 1", STDIN, feedback=True, partial=True) == (passed / 2, said)
    assert reward("x = 1", STDIN) == float(passed == 2)
