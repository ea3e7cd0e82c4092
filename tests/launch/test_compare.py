"""The command that compares methods: its words, what it refuses, and a whole small comparison."""

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from rljax.comparison.compare import Comparison, alone, check, check_points, sweep_points
from rljax.config.validate import validate

ROOT = Path(__file__).parents[2]


def load_command():
    spec = importlib.util.spec_from_file_location("compare_command", ROOT / "launch/compare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


COMMAND = load_command()
WORDS = ["--task=sort", "--methods=grpo,rloo", "--workdir=somewhere"]


def test_words_become_options():
    words = [*WORDS, "--seeds=3", "--config.rl.steps=7", "--smoke"]
    options = COMMAND.parser().read(words)
    assert options.methods == ("grpo", "rloo") and options.seeds == 3
    assert options.overrides == ("--config.rl.steps=7",) and options.smoke


@pytest.mark.parametrize(
    "words, message",
    [
        (["--task=sort", "--methods=grpo"], "--workdir is missing"),
        ([*WORDS, "--seed=3"], "Did you mean '--seeds'"),
        ([*WORDS, "--seeds=many"], "--seeds must be a whole number in 1..4096, got 'many'"),
        ([*WORDS[:1], "--methods=grpo,dpo", WORDS[2]], "Unknown method to compare 'dpo'"),
        ([*WORDS[:1], "--methods=gropo", WORDS[2]], "Did you mean 'grpo'"),
        ([*WORDS[:1], "--methods=grpo,,rloo", WORDS[2]], "needs names between commas"),
        ([*WORDS, "--seeds=1"], "at least 2 seeds, got 1 (--seeds)"),
        (["--task=sotr", *WORDS[1:]], "Unknown task 'sotr'"),
        ([*WORDS, "--threshold=2"], "--threshold must be a number in 0..1, got '2'"),
        ([*WORDS, "--threshold=0"], "threshold must be in (0, 1], got 0.0"),
        ([*WORDS, "--sweep=nothing.py"], "No sweep file 'nothing.py'"),
        ([*WORDS, "--baseline=dapo"], "Unknown method 'dapo'"),
        (
            [*WORDS[:1], "--methods=grpo,t_ppo", WORDS[2]],
            "t_ppo: rollouts='windows' needs",
        ),
        ([*WORDS, "--config=configs/quickstart.py"], "Unknown argument of configs/quickstart.py"),
        ([*WORDS, "--config.rl.optimizer.b1=1.0"], "b1 must be < 1"),
        ([*WORDS[:2], "--workdir=/dev/null"], "/dev/null is no folder (--workdir)"),
        ([*WORDS[:1], "--methods=grpo,grpo+bend", WORDS[2]], "Did you mean 'band'"),
        ([*WORDS, "--budget=token"], "Did you mean 'tokens'"),
        ([*WORDS, "--budget=tokens:-1"], "above 0, got '-1' (--budget=tokens:AMOUNT)"),
        ([*WORDS, "--tune=1e-4,high"], "--tune needs numbers between commas, got 'high'"),
        ([*WORDS, "--tune=1e-4,1e-4"], "Rates must differ"),
        ([*WORDS, "--tune=1e-4", "--sweep=a.py"], "leave out --tune, or --sweep"),
        ([*WORDS, "--tune=1e-4", "--tune_seeds=0"], "--tune-seeds must be a whole number"),
        (
            [*WORDS, "--budget=seconds", "--config.rl.optimizer.schedule=linear"],
            "schedule='linear' of grpo needs the number of steps",
        ),
    ],
)
def test_bad_words_end_with_one_line(words, message, tmp_path, monkeypatch, capsys):
    """Before anything is trained or written."""
    monkeypatch.chdir(ROOT)
    words = [word.replace("somewhere", str(tmp_path / "out")) for word in words]
    assert COMMAND.main(words) == 1
    text = capsys.readouterr().err
    assert message in text and text.count("\n") == 1
    assert not (tmp_path / "out").exists()


def asked(**changes):
    fields = dict(
        task="sort", methods=("grpo",), seeds=2, workdir=Path(), config="configs/compare.py"
    )
    return Comparison(**(fields | changes))


def test_the_same_method_twice_is_refused():
    with pytest.raises(ValueError, match="Methods must differ"):
        check(asked(methods=("grpo", "grpo")), 2)


def test_a_method_with_a_curriculum_of_its_own(monkeypatch):
    monkeypatch.chdir(ROOT)
    (stage,) = validate(alone(asked(task="lengths").load("dapo+band")))
    assert stage.objective.method.name == "dapo"
    assert stage.objective.choices["curriculum"] == "band"
    bounds = [stage.objective.values[f"difficulty_{end}"] for end in ("low", "high")]
    assert bounds == [4.0, 7.0] and stage.objective.values["filter_rounds"] == 3
    check(asked(methods=("grpo", "grpo+band")), 2)


def sweep_file(folder, text):
    path = folder / "sweep.py"
    head = "from rljax.comparison.sweeps import grid"
    path.write_text(f"{head}\ndef sweep():\n    yield from grid({text})\n")
    return str(path)


def test_the_cells_of_a_sweep_are_the_points_of_one_program(tmp_path):
    text = '{"rl.objective.clip_low": (0.1, 0.2), "rl.objective.clip_high": (1,)}'
    path = sweep_file(tmp_path, text)
    assert sweep_points(path, "rl") == (
        {"objective.clip_low": 0.1, "objective.clip_high": 1.0},
        {"objective.clip_low": 0.2, "objective.clip_high": 1.0},
    )
    assert sweep_points("", "rl") == ({},)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("objective.clip_lo", 0.1, "Unknown swept field 'objective.clip_lo'"),
        ("batch.prompts_per_step", 4.0, "Unknown swept field"),
        ("objective.clip_low", -1.0, "clip_low .*-1.0"),
        ("objective.ema_decay", 0.5, "never read"),
    ],
)
def test_swept_fields_are_checked_for_every_method(field, value, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    config = alone(asked().load("grpo"))
    with pytest.raises(ValueError, match=message):
        check_points(config, ({field: value},), "grpo")


def test_a_sweep_file_is_a_module_with_neighbours_and_its_errors_have_a_line(tmp_path):
    (tmp_path / "sweep_values.py").write_text("LOW = (0.1, 0.2)\n")
    path = sweep_file(tmp_path, "{'rl.objective.clip_low': LOW}")
    with pytest.raises(ValueError, match="sweep.py, line 3: NameError.*--sweep"):
        sweep_points(path, "rl")
    text = Path(path).read_text()
    Path(path).write_text(f"from sweep_values import LOW\n{text}")
    assert len(sweep_points(path, "rl")) == 2


@pytest.mark.parametrize(
    "text, message",
    [
        ("{'rl.objective.aggregation': ('token_mean',)}", "a sweep side by side is over numbers"),
        ("{'objective.clip_low': (0.1,)}", "differ in fields of rl. alone"),
        ("{'seed': (0, 1)}", "differ in fields of rl. alone"),
        ("{'rl.objective.clip_low': (0.1, 0.1)}", "are the same point"),
        (
            "{'rl.objective.clip_low': (0.1,)}); yield from grid({'rl.objective.clip_high': (1,)}",
            "set different fields",
        ),
    ],
)
def test_what_one_program_cannot_sweep_is_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        sweep_points(sweep_file(tmp_path, text), "rl")


@pytest.mark.slow
def test_a_whole_comparison_resumes_and_is_reused(tmp_path, monkeypatch, capsys):
    """Two methods, then a third; what is finished is read, not run again."""
    monkeypatch.chdir(ROOT)
    workdir = tmp_path / "comparison"
    words = ["--task=sort", f"--workdir={workdir}", "--smoke"]
    assert COMMAND.main([*words, "--methods=rloo,dr_grpo"]) == 0
    table = (workdir / "table.md").read_text()
    assert "| **rloo** (baseline) | 2 |" in table and "dr_grpo" in table
    for name in ("table.csv", "curves.svg", "report.html"):
        assert (workdir / name).stat().st_size > 0
    folders = sorted((workdir / "methods").iterdir())
    before = [(folder / "curves.npz").stat().st_mtime_ns for folder in folders]
    capsys.readouterr()
    COMMAND.main([*words, "--methods=rloo,dr_grpo,opo"])
    shown = capsys.readouterr().out
    assert "opo: step 2 of 2" in shown and "rloo: step" not in shown
    assert [(folder / "curves.npz").stat().st_mtime_ns for folder in folders] == before
    assert "opo" in (workdir / "table.md").read_text()
    stored = json.loads((folders[0] / "config.json").read_text())
    assert stored["seeds"] == [0, 1] and stored["points"] == [{}]


SMALL = ("rl.steps=3", "warmup.steps=2", "evaluation.every_steps=1", "data.heldout_size=8")
SMALL = tuple(f"--config.{word}" for word in (*SMALL, "data.train_size=64"))


@pytest.mark.slow
def test_a_budget_of_tokens_with_rates_of_their_own(tmp_path, monkeypatch, capsys):
    """The baseline's three steps are the budget; dapo, which samples again, takes fewer."""
    monkeypatch.chdir(ROOT)
    words = ["--task=sort", "--methods=dr_grpo,dapo", "--seeds=2", *SMALL]
    words.append(f"--workdir={tmp_path}")
    COMMAND.main([*words, "--budget=tokens", "--tune=1e-4,3e-4", "--tune_seeds=2"])
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    spent = [float(row["tokens_per_seed [tokens]"]) for row in rows]
    assert spent[0] == pytest.approx(spent[1])
    steps = {row["method"]: int(row["last_step [steps]"]) for row in rows}
    assert steps["dr_grpo"] == 3 and steps["dapo"] < 3
    assert {float(row["learning_rate [1]"]) for row in rows} <= {1e-4, 3e-4}
    notes = (tmp_path / "table.md").read_text()
    assert "is the best of 0.0001, 0.0003 on 2 seeds that are not reported" in notes
    assert "Budget of each seed of every method" in notes
    tuned = json.loads(next((tmp_path / "tuning").glob("dapo-*/config.json")).read_text())
    assert set(tuned["seeds"]).isdisjoint({0, 1}) and len(tuned["points"]) == 2
    capsys.readouterr()
    rates = ["--tune=1e-4,3e-4", "--tune_seeds=2"]
    COMMAND.main([*words, "--budget=tokens", *rates, "--also=updates"])
    rows = list(csv.DictReader((tmp_path / "updates" / "table.csv").open()))
    assert len({row["last_update [updates]"] for row in rows}) == 1
    shown = capsys.readouterr().out
    assert "dr_grpo: step" not in shown and "dapo: step" not in shown  # all of it was read


@pytest.mark.slow
def test_a_killed_campaign_goes_on_where_it_was(tmp_path, monkeypatch):
    """The curves of an interrupted run are those of one that was never interrupted."""
    from rljax.comparison import campaign

    monkeypatch.chdir(ROOT)
    words = ["--task=sort", "--methods=dr_grpo", "--seeds=2"]
    words += [*SMALL, "--config.rl.steps=2"]
    COMMAND.main([*words, f"--workdir={tmp_path / 'whole'}"])
    real, calls = campaign.SideBySide.advance, []

    def dies(self, *args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(campaign.SideBySide, "advance", dies)
    assert COMMAND.main([*words, f"--workdir={tmp_path / 'killed'}"]) == 130
    monkeypatch.setattr(campaign.SideBySide, "advance", real)
    COMMAND.main([*words, f"--workdir={tmp_path / 'killed'}"])
    curves = [
        dict(np.load(next((tmp_path / name / "methods").iterdir()) / "curves.npz"))
        for name in ("whole", "killed")
    ]
    for name in set(curves[0]) - {"seconds"}:
        np.testing.assert_array_equal(curves[0][name], curves[1][name], err_msg=name)
