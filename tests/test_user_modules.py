"""Files of the user are modules: neighbours, dataclasses, pickles, packages; errors with a line."""

import json
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rljax import user_modules
from rljax.config.load import load_config
from rljax.rewards.functions import find_reward
from rljax.rewards.pool import Scorer
from rljax.user_modules import import_file

FIELD = "config.some.field"


@pytest.fixture
def write(tmp_path):
    """write(name, text) -> a file below the test's folder."""

    def made(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return made


def refused(path):
    with pytest.raises(ValueError) as caught:
        import_file(path, field=FIELD)
    text = str(caught.value)
    assert "\n" not in text and text.endswith(f"({FIELD}).")
    return text


def test_a_reward_imports_its_neighbour_from_another_folder(write, tmp_path, monkeypatch):
    """axolotl#2557, verl#2680: in the main process and in a scoring process."""
    write("rew/helper_x.py", "def score(t): return float(len(t))\n")
    path = write(
        "rew/r.py",
        """
        from helper_x import score
        def f(prompt, completion, reference): return score(completion)
        """,
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for workers in (0, 1):
        with Scorer([f"{path}:f"], workers=workers) as scorer:
            assert scorer.score(["", ""], ["abc", ""], [None, None]).total.tolist() == [3.0, 0.0]


MODERN = """
from __future__ import annotations
import dataclasses, enum, pickle, typing
from pathlib import Path

@dataclasses.dataclass
class Point:
    x: float
    y: typing.Optional[float] = None

class Kind(enum.Enum):
    GOOD = 1

DATA = (Path(__file__).parent / "data.txt").read_text()

def f(prompt: str, completion: str, reference: typing.Any) -> float:
    point = pickle.loads(pickle.dumps(Point(1.0)))
    assert typing.get_type_hints(Point)["x"] is float and pickle.loads(pickle.dumps(Kind.GOOD))
    return point.x + float(DATA)

if __name__ == "__main__":
    raise SystemExit("it is no script here")
"""


def test_dataclasses_annotations_pickles_and_data_beside_the_file(write):
    write("modern/data.txt", "0.5")
    path = write("modern/reward_modern.py", MODERN)
    module = import_file(path, field=FIELD)
    assert sys.modules["reward_modern"] is module and module.__file__ == str(path)
    assert pickle.loads(pickle.dumps(module.Point(2.0))) == module.Point(2.0)
    for workers in (0, 1):
        with Scorer([f"{path}:f"], workers=workers) as scorer:
            assert scorer.score([""], [""], [None]).total.tolist() == [1.5]


@pytest.mark.parametrize("stem", ["json", "math", "numpy", "__main__"])
def test_a_file_named_like_another_module_hides_nobody(write, stem):
    path = write(f"{stem}_folder/{stem}.py", "def f(p, c, r): return 7\n")
    before = sys.modules.get(stem)
    assert find_reward(f"{path}:f")("", "", None) == 7
    assert sys.modules.get(stem) is before
    with Scorer([f"{path}:f"], workers=1) as scorer:  # whose process imports json, too
        assert scorer.score([""], ["x"], [{"a": 1}]).total.tolist() == [7.0]


def test_the_same_names_in_two_folders(write):
    for folder, value in (("one", 1), ("two", 2)):
        write(f"{folder}/neighbour_y.py", f"VALUE = {value}\n")
        write(f"{folder}/reward_y.py", "import neighbour_y\ndef f(*_): return neighbour_y.VALUE\n")
    names = [f"{write(f'{f}/x.txt', '').parent}/reward_y.py:f" for f in ("one", "two")]
    assert [find_reward(name)("", "", None) for name in names * 2] == [1, 2, 1, 2]
    spec = [{"name": name, "as": f"r{i}"} for i, name in enumerate(names)]
    with Scorer(spec, workers=1) as scorer:
        assert scorer.score([""], [""], [None]).total.tolist() == [3.0]


def test_packages_and_dotted_names(write, tmp_path, monkeypatch):
    write("top/pack_z/__init__.py", "")
    write("top/pack_z/helper.py", "TEN = 10\n")
    path = write(
        "top/pack_z/reward.py", "from .helper import TEN\ndef f(p, c, r, *, by=1): return TEN * by"
    )
    assert find_reward(f"{path}:f").__module__ == "pack_z.reward"
    write("cwd/pack_w/mod.py", "def f(p, c, r): return 4\n")
    monkeypatch.chdir(tmp_path / "cwd")
    for name in (f"{path}:f", "pack_w.mod:f"):
        with Scorer([name], workers=1) as scorer:
            assert scorer.score([""], [""], [None]).total[0] == find_reward(name)("", "", None)
    with pytest.raises(ValueError, match=r"module 'pack_w.no': ModuleNotFoundError: .*scoring"):
        find_reward("pack_w.no:f")


@pytest.mark.parametrize(
    "text, line, said",
    [
        ("x = 1\nimport nowhere_at_all\n", 2, "ModuleNotFoundError: No module named"),
        ("x = 1\n\ndef f(:\n", 3, "SyntaxError: "),
        ("def g():\n    return 1 / 0\ng()\n", 2, "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", 2, "it calls sys.exit(3)"),
        ("raise ValueError('two\\nlines')\n", 1, "ValueError: two lines"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError: "),
    ],
)
def test_an_error_names_the_line(write, text, line, said):
    path = write("broken/broken_file.py", text)
    got = refused(path)
    assert got.startswith(f"{path}, line {line}: {said}")
    assert "broken_file" not in sys.modules


def test_the_line_may_be_a_neighbours(write):
    neighbour = write("far/neighbour_v.py", "A = 1\nB = A.nothing\n")
    got = refused(write("far/uses_v.py", "import neighbour_v\n"))
    assert got.startswith(f"{neighbour}, line 2: AttributeError: ")


def test_no_file_and_no_python_file(write, tmp_path):
    assert "No file 'nowhere.py'" in refused("nowhere.py")
    assert "is no Python file" in refused(write("notes.txt", "x = 1"))
    assert "No file" in refused(tmp_path)


def test_what_a_file_prints_stays_out_of_the_output(write, capfd):
    import_file(write("loud/loud.py", "print('hello')\n"), field=FIELD)
    out, err = capfd.readouterr()
    assert out == "" and "hello" in err


CONFIG = """
from __future__ import annotations
from ml_collections import ConfigDict
from shared_steps import STEPS

def get_config(arg=""):
    if arg == "bad":
        raise KeyError("no such size")
    if arg == "refused":
        raise ValueError("give a size")
    return ConfigDict(dict(name="case", stages=("rl",), rl=dict(method="rloo", steps=STEPS)))
"""


def test_a_config_imports_its_neighbour_and_is_read_anew(write):
    write("cfg/shared_steps.py", "STEPS = 3\n")
    path = write("cfg/case.py", CONFIG)
    assert load_config(str(path)).rl.steps == 3
    path.write_text(CONFIG.replace("steps=STEPS", "steps=STEPS + 1"))
    assert load_config(str(path)).rl.steps == 4
    with pytest.raises(ValueError, match=rf"{path}, line 8: KeyError: 'no such size' \(--config"):
        load_config(f"{path}:bad")
    with pytest.raises(ValueError, match="^give a size$"):
        load_config(f"{path}:refused")


FUNCTIONS = """
import functools
def three(p, c, r, *, by=1): return 3 * by
part = functools.partial(three, by=2)
shorter = lambda p, c, r: 5
def decorate(f):
    @functools.wraps(f)
    def wrapped(*args, **kwargs): return 10 + f(*args, **kwargs)
    return wrapped
def hide(f): return lambda *args, **kwargs: 20 + f(*args, **kwargs)
decorated, hidden = decorate(three), hide(three)
class Caller:
    def __call__(self, prompt, completion, reference): return 6
instance = Caller()
async def waits(p, c, r): return 1.0
class Waiter:
    async def __call__(self, p, c, r): return 1.0
waiter = Waiter()
def trl(prompts, completions, **kwargs): return [1.0] * len(prompts)
def trl_short(completions, answer, **kwargs): return [1.0]
def verl(data_source, solution_str, ground_truth, extra_info=None): return 1.0
"""


def test_whatever_can_be_called_with_a_sample_is_a_reward(write):
    path = write("kinds/kinds.py", FUNCTIONS)
    names = ("three", "part", "shorter", "decorated", "hidden", "instance")
    got = [find_reward(f"{path}:{name}")("", "", None) for name in names]
    assert got == [3, 6, 5, 13, 23, 6]


@pytest.mark.parametrize(
    "name, said",
    [
        ("waits", "is async, which nothing awaits"),
        ("waiter", "is async"),
        ("Caller", "is a class; name an instance"),
        ("trl", "takes a whole batch, .*as in TRL: here a reward scores one sample"),
        ("trl_short", "takes a whole batch"),
        ("verl", r"must take \(prompt, completion, reference\)"),
    ],
)
def test_what_is_no_reward_is_refused_with_a_hint(write, name, said):
    with pytest.raises(ValueError, match=said):
        find_reward(f"{write('kinds/kinds.py', FUNCTIONS)}:{name}")


def test_launch_says_it_in_one_line(write, tmp_path):
    """The whole way: a config whose reward cannot be imported."""
    write("rows.jsonl", json.dumps({"prompt": "ab", "reference": "x"}) + "\n")
    reward = write("bad_reward.py", "import nowhere_at_all\n")
    config = write(
        "case_bad.py",
        f"""
        from ml_collections import ConfigDict
        def get_config(arg=""):
            return ConfigDict(dict(
                name="case", stages=("rl",), model=dict(layers=1, width=16, heads=2, kv_heads=1),
                data=dict(kind="jsonl", path="rows.jsonl", heldout_path="rows.jsonl"),
                scoring=dict(rewards=(dict(name="{reward}:f"),), workers=0),
                rl=dict(method="rloo", steps=1)))
        """,
    )
    root = Path(user_modules.__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(root), "RLJAX_TRACEBACK": ""}
    words = [sys.executable, str(root / "launch/train.py"), f"--config={config}", "--workdir=w"]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"error: {reward}, line 1: ModuleNotFoundError" in done.stderr
