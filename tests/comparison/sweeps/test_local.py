"""Cells beside each other on this machine: failures, going on, adding, halving, the tables."""

import csv
import dataclasses
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from rljax.comparison.sweeps import halving
from rljax.comparison.sweeps.cells import Cell
from rljax.comparison.sweeps.effects import effect_chart, effects
from rljax.comparison.sweeps.fields import scale_of
from rljax.comparison.sweeps.folder import End, Plan, merged, read_plan, states, write_plan
from rljax.comparison.sweeps.local import Halving, LocalSweep
from rljax.comparison.sweeps.population import Rule
from rljax.comparison.sweeps.scores import Condition
from rljax.comparison.sweeps.side_by_side import python
from rljax.comparison.sweeps.slots import Slot, slots
from rljax.comparison.sweeps.write import write_sweep
from rljax.reporting.run_data import Curve

FIELD = "grpo.optimizer.learning_rate"
CORES = sorted(os.sched_getaffinity(0))


def plan_of(*rates: float, seeds: int = 1) -> Plan:
    cells = [
        Cell(
            f"rate={rate},seed={seed}",
            f"rate={rate}",
            seed,
            {FIELD: rate},
            (f"--config.{FIELD}={rate}", f"--config.seed={seed}"),
            f"hash-{rate}-{seed}",
        )
        for rate in rates
        for seed in range(seeds)
    ]
    return Plan("configs/quickstart.py", (), "grpo", "train/reward", tuple(cells))


@pytest.fixture
def train(tmp_path) -> Path:
    """The command that stands for launch/train.py, in a folder of its own."""
    return Path(shutil.copy(Path(__file__).parent / "small_train.py", tmp_path / "train.py"))


def run(folder: Path, plan: Plan, train: Path, rule: Halving | None = None):
    said: list[str] = []
    plan = merged(folder, plan)
    write_plan(folder, plan)
    local = LocalSweep(folder, plan, slots(2, CORES, (), 0), python(train), said.append)
    assert local.run(rule) is None
    return local, said, {name: end.state for name, end in states(folder, plan.cells).items()}


def starts(folder: Path, name: str) -> int:
    return len((folder / "cells" / name / "starts").read_text().splitlines())


def test_a_failed_cell_is_said_and_tried_again_and_cells_can_be_added(tmp_path, train):
    folder = tmp_path / "sweep"
    local, said, found = run(folder, plan_of(0.5, 0.1), train)
    assert found == {"rate=0.5,seed=0": "failed", "rate=0.1,seed=0": "done"}
    assert list(local.failed) == ["rate=0.5,seed=0"]
    assert any("failed (ended with 1): error: this rate is too high" in line for line in said)
    # While it was so, the tables say it.
    write_sweep(folder)
    table = (folder / "table.md").read_text()
    assert "| rate=0.5 | 0 | failed | ended with 1: error: this rate is too high |" in table
    assert "Best cell so far: rate=0.1" in table
    (tmp_path / "mended").touch()
    local, said, found = run(folder, plan_of(0.5, 0.2), train)
    assert not local.failed and set(found.values()) == {"done"} and len(found) == 3
    assert starts(folder, "rate=0.5,seed=0") == 2 and starts(folder, "rate=0.1,seed=0") == 1
    assert read_plan(folder).cells[0].name == "rate=0.1,seed=0"  # no longer in the sweep file
    best = write_sweep(folder)[0]
    assert best.name == "rate=0.5" and best.estimate("train/reward").value == pytest.approx(4.0)


def test_a_folder_is_of_one_config_and_a_name_of_one_run(tmp_path):
    write_plan(tmp_path, plan_of(0.1))
    with pytest.raises(ValueError, match="holds a sweep with config='configs/quickstart.py'"):
        merged(tmp_path, Plan("other.py", (), "grpo", "train/reward", plan_of(0.1).cells))
    (cell,) = plan_of(0.1).cells
    one = Plan("configs/quickstart.py", (), "grpo", "train/reward", (cell,), population=Rule(1))
    (tmp_path / "population").mkdir()
    write_plan(tmp_path / "population", one)
    with pytest.raises(ValueError, match="with metric='train/reward'.*--metric"):
        merged(tmp_path / "population", dataclasses.replace(one, metric="train/loss"))
    changed = Cell(**{**vars(cell), "hash": "another"})
    with pytest.raises(ValueError, match="was another run: its config has the hash another"):
        merged(tmp_path, Plan("configs/quickstart.py", (), "grpo", "train/reward", (changed,)))
    renamed = Cell(**{**vars(cell), "name": "new"})
    with pytest.raises(ValueError, match="is the same run as 'rate=0.1,seed=0'"):
        merged(tmp_path, Plan("configs/quickstart.py", (), "grpo", "train/reward", (renamed,)))


def test_halving_stops_the_worse_conditions_at_the_rungs(tmp_path, train):
    folder, plan = tmp_path / "sweep", plan_of(0.1, 0.2, 0.3, 0.4, seeds=2)
    (tmp_path / "patient").touch()
    local, said, found = run(folder, plan, train, Halving((2, 4), 2))
    assert not local.failed
    best = [name for name, state in found.items() if state == "done"]
    assert best == ["rate=0.4,seed=0", "rate=0.4,seed=1"]
    conditions = {each.name: each for each in write_sweep(folder)}
    assert next(iter(conditions)) == "rate=0.4"
    why = {name: conditions[name].ends[0].why for name in ("rate=0.1", "rate=0.2", "rate=0.3")}
    assert why["rate=0.1"].endswith("at step 2") and why["rate=0.2"].endswith("at step 2")
    assert why["rate=0.3"].endswith("at step 4")
    # Nothing that is decided is run again.
    before = {name: starts(folder, name) for name in found}
    run(folder, plan, train, Halving((2, 4), 2))
    assert {name: starts(folder, name) for name in found} == before


def test_a_signal_ends_all_cells_and_the_same_command_goes_on(tmp_path, train):
    folder, plan = tmp_path / "sweep", plan_of(0.1, 0.2, 0.3)
    (tmp_path / "patient").touch()
    folder.mkdir()
    write_plan(folder, plan)
    local = LocalSweep(folder, plan, slots(2, CORES, (), 0), python(train), lambda line: None)
    began = folder / "cells/rate=0.2,seed=0/metrics.jsonl"

    def end_it() -> None:
        while not (began.exists() and began.read_text().count("\n") >= 2):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_it, daemon=True).start()
    assert local.run() == signal.SIGTERM and not local.failed
    found = {name: end.state for name, end in states(folder, plan.cells).items()}
    assert list(found.values()) == ["begun", "begun", "not begun"]
    (tmp_path / "patient").unlink()
    _, _, found = run(folder, plan, train)
    assert set(found.values()) == {"done"} and starts(folder, "rate=0.2,seed=0") == 2


def test_the_tables_hold_every_metric_and_every_cell(tmp_path, train):
    folder = tmp_path / "sweep"
    run(folder, plan_of(0.1, 0.2, seeds=2), train)
    conditions = write_sweep(folder)
    assert [each.name for each in conditions] == ["rate=0.2", "rate=0.1"]
    rows = list(csv.DictReader((folder / "table.csv").open()))
    assert [row["cell"] for row in rows] == ["rate=0.2", "rate=0.1"]
    assert float(rows[0]["train/reward"]) == pytest.approx((1.6 + 1.601) / 2)
    cells = list(csv.DictReader((folder / "cells.csv").open()))
    assert [(row["cell"], row["seed"]) for row in cells][:2] == [
        ("rate=0.2", "0"),
        ("rate=0.2", "1"),
    ]
    page = (folder / "report.html").read_text()
    for anchor in ("results", "coordinates", "effects", "curves", "metrics"):
        assert f'<section id="{anchor}">' in page
    assert page.count('<path class="line c0"') >= 1 and "http" not in page.replace("http-equiv", "")


def test_cores_and_gpus_are_shared_out(tmp_path, train):
    assert slots(2, (0, 1, 2, 3, 4), ("0", "1", "2"), 0) == (
        *(Slot((0, 2, 4), ("0", "2")), Slot((1, 3), ("1",))),
    )
    assert slots(3, (0, 1), (), 0) == (Slot((0,)), Slot((1,)), Slot((0,)))
    assert Slot((0,), ("3", "5")).environment({"A": "b"}) == {
        "A": "b",
        "CUDA_VISIBLE_DEVICES": "3,5",
    }
    with pytest.raises(ValueError, match="need as many GPUs, got 1: 0"):
        slots(2, (0,), ("0",), 0)
    with pytest.raises(ValueError, match="takes all 4 TPU chips"):
        slots(2, (0,), (), 4)
    run(tmp_path / "sweep", plan_of(0.1, 0.2), train)
    seen = {
        (tmp_path / "sweep/cells" / name / "starts").read_text().strip()
        for name in ("rate=0.1,seed=0", "rate=0.2,seed=0")
    }
    assert seen == {str(CORES[0::2]), str(CORES[1::2] or CORES[:1])}


def test_labels_of_an_axis_are_short():
    few, many = [0.1, 0.1 * 1.2 * 0.8], [1e-4 * 1.2**power for power in range(20)]
    assert [text for _, text in scale_of(few).marks] == ["0.096", "0.1"]
    scale = scale_of([8.96e-05 * 1.0000000000000002, *many])
    assert scale.marks[0] == (0.0, "8.96e-05") and scale.place(many[-1]) == 1.0
    assert all(len(text) <= 11 for _, text in scale.marks)


def test_rungs_and_survivors():
    assert halving.rungs(conditions=9, steps=90, every=10, factor=3) == (10, 30)
    assert halving.rungs(conditions=8, steps=60, every=10, factor=2) == (10, 20, 30)
    with pytest.raises(ValueError, match="finds no rung"):
        halving.rungs(conditions=2, steps=90, every=10, factor=3)
    with pytest.raises(ValueError, match="finds no rung"):
        halving.rungs(conditions=9, steps=10, every=10, factor=3)
    scores = {"a": 0.1, "b": float("nan"), "c": 0.3, "d": 0.3}
    assert halving.survivors(scores, 2) == ("c", "d")
    assert halving.survivors(scores, 4) == ("c",)
    assert halving.survivors({"b": float("nan")}, 3) == ("b",)


def test_the_effect_of_a_field():
    def condition(rate: float, kind: str, reward: float) -> Condition:
        curve = Curve(np.array([1]), np.array([reward]))
        curves = {"train/reward": (curve,)}
        return Condition(f"{rate} {kind}", {"a": rate, "b": kind}, (0,), (End("done"),), curves)

    four = [condition(r, k, r + (k == "y")) for r in (1.0, 2.0) for k in "xy"]
    by_size = effects(four, ["a", "b"], "train/reward")
    assert by_size[0].medians == {"1": 1.5, "2": 2.5} and by_size[0].spread == 1.0
    assert [each.explained for each in by_size] == pytest.approx([0.5, 0.5])
    # 16 different numbers that do nothing: each by itself would explain everything.
    many = [condition(float(i), "x", float(i % 2)) for i in range(16)]
    (found,) = effects(many, ["a"], "train/reward")
    assert list(found.medians) == ["0 to 3", "4 to 7", "8 to 11", "12 to 15"]
    assert found.explained == 0.0 and found.spread == 0.0
    assert "<svg" in effect_chart(many, found, "train/reward")
