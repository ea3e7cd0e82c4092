"""A sweep file becomes cells, or one line that says why not."""

from pathlib import Path

import pytest

from rljax.comparison.sweeps import choice, draws, grid, log_uniform, uniform, zipped
from rljax.comparison.sweeps.cells import LONGEST_NAME, expand, name_of

ROOT = Path(__file__).parents[3]
RATE = "grpo.optimizer.learning_rate"
CONFIG = str(ROOT / "configs/quickstart.py:smoke")


def file_with(folder: Path, body: str) -> str:
    path = folder / "sweep.py"
    head = "from rljax.comparison.sweeps import choice, draws, grid, log_uniform, zipped\n"
    path.write_text(f"{head}RATE = {RATE!r}\ndef sweep():\n    {body}\n")
    return str(path)


def test_helpers():
    assert list(grid({"a": (1, 2), "b": (3, 4)})) == [
        *({"a": 1, "b": 3}, {"a": 1, "b": 4}, {"a": 2, "b": 3}, {"a": 2, "b": 4})
    ]
    assert list(zipped({"a": (1, 2), "b": (3, 4)})) == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]
    with pytest.raises(ValueError, match="as many values of each field"):
        list(zipped({"a": (1, 2), "b": (3,)}))
    with pytest.raises(ValueError, match="a=.*needs a list of values"):
        list(grid({"a": ()}))


def test_draws_depend_on_seed_cell_and_field_alone():
    fields = {"a": log_uniform(1e-5, 1e-2), "b": uniform(0.0, 1.0), "c": choice(("x", "y"))}
    few, many = list(draws(4, fields, seed=1)), list(draws(300, fields, seed=1))
    assert many[:4] == few
    assert [cell["a"] for cell in draws(4, {"a": fields["a"]}, seed=1)] == [c["a"] for c in few]
    assert list(draws(4, fields, seed=2)) != few
    rates = [cell["a"] for cell in many]
    assert all(1e-5 <= rate <= 1e-2 and rate == float(f"{rate:.3g}") for rate in rates)
    # A third of the draws in each decade: 100 of 300, with a deviation of 8.
    assert all(70 <= sum(low <= r < 10 * low for r in rates) <= 130 for low in (1e-5, 1e-4, 1e-3))
    assert {cell["c"] for cell in many} == {"x", "y"}


def test_names_and_hashes_stay_when_cells_are_added(tmp_path):
    few = expand(CONFIG, (), file_with(tmp_path, "yield from grid({RATE: (1e-4, 3e-4)})"), seeds=2)
    assert [cell.name for cell in few][:2] == [f"{RATE}=0.0001,seed=0", f"{RATE}=0.0001,seed=1"]
    assert [cell.seed for cell in few] == [0, 1, 0, 1]
    assert few[0].condition == few[1].condition == f"{RATE}=0.0001"
    assert few[0].words == (f"--config.{RATE}=0.0001", "--config.seed=0")
    body = "yield from grid({RATE: (1e-3, 1e-4, 3e-4)})"
    more = {cell.name: cell.hash for cell in expand(CONFIG, (), file_with(tmp_path, body), seeds=2)}
    assert more.items() >= {cell.name: cell.hash for cell in few}.items()
    assert len(set(more.values())) == 6


def test_cells_may_have_names_and_set_the_seed_themselves(tmp_path):
    body = "yield 'slow', {RATE: 1e-4}; yield {}; yield {'seed': 3, RATE: 1e-3}"
    cells = expand(CONFIG, (), file_with(tmp_path, body))
    assert [cell.name for cell in cells] == ["slow", "base", f"{RATE}=0.001,seed=3"]
    # The field of each is there, whether it sets it or not.
    assert [cell.values[RATE] for cell in cells] == [1e-4, 3e-4, 1e-3]


@pytest.mark.parametrize(
    "body, message",
    [
        (
            "yield {'grpo.optimizer.learning_rat': 1e-3}",
            "learning_rat.*Did you mean 'learning_rate'",
        ),
        ("yield {RATE: 'high'}", "learning_rate=high: a number is needed"),
        ("yield {RATE: {}}", "{} is no value of a field"),
        ("yield {'grpo.optimizer': 1}", "is a section"),
        ("yield {'grpo.method': 'grp'}", "Did you mean 'grpo'"),
        ("yield {RATE: 1e-3}; yield {RATE: 0.001}", "Two cells .* are called"),
        ("yield {RATE: 3e-4}; yield {}", "are the same run: their configs do not differ"),
        ("yield 'a', {RATE: 1e-3}; yield 'a', {RATE: 1e-4}", "Two cells .* are called 'a'"),
        ("yield 'a/b', {RATE: 1e-3}", "'a/b' is no name of a cell"),
        ("yield 3", "yields 3: a mapping"),
        ("return []", "yields no cell"),
        ("pass", "yields no cell"),
        ("yield {RATE: nothing}", "sweep.py, line 4: NameError"),
        ("yield from grid({RATE: ()})", "needs a list of values"),
    ],
)
def test_what_cannot_run_is_said_before_anything_starts(tmp_path, body, message):
    with pytest.raises(ValueError, match=message):
        expand(CONFIG, (), file_with(tmp_path, body))


def test_seeds_come_from_one_place(tmp_path):
    with pytest.raises(ValueError, match="sets the seed itself: leave out --seeds"):
        expand(CONFIG, (), file_with(tmp_path, "yield {'seed': 1}"), seeds=2)


def test_long_names_are_cut_and_stay_different():
    one, other = (name_of(f"{'long.field=1 ' * 20}{end}") for end in "ab")
    assert len(one) == len(other) == LONGEST_NAME and one != other
