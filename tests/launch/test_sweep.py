"""launch/sweep.py: what it refuses, before anything is written; cells of its sweep files."""

import importlib.util
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("launch_sweep", ROOT / "launch/sweep.py")
COMMAND = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(COMMAND)

QUICK = ["--config=configs/quickstart.py:smoke", "--sweep=configs/sweeps/quickstart.py"]
SORT = ["--config=configs/compare.py:sort/grpo,smoke", "--sweep=configs/sweeps/learning_rate.py"]
EVERY = "--config.evaluation.every_steps=1"
PBT = [*SORT, "--vmapped", EVERY, "--rule=pbt", "--ready=1"]
HERE = "--workdir=somewhere"
SWEEPS = {
    "LONE": "yield {'rl.optimizer.learning_rate': 1e-3}",
    "TEXTS": "yield from ({'rl.optimizer.schedule': name} for name in ('linear', 'cosine'))",
}


@pytest.mark.parametrize(
    "words, message",
    [
        (QUICK, "--workdir is missing"),
        ([*QUICK, HERE, "--metric=accuracy"], "heldout/NAME or train/NAME is needed"),
        ([*QUICK, HERE, "--rule=halvin"], "Did you mean 'halving'?"),
        ([*QUICK, HERE, "--render=slurmm"], "Did you mean 'slurm'?"),
        ([*QUICK, HERE, "--render=slurm"], "--render needs --settings=FILE"),
        ([*QUICK, HERE, "--remote=there"], "--remote is of --render alone"),
        (
            [*QUICK, HERE, "--render=slurm", "--settings=x.py", "--rule=halving"],
            "leave out --rule, or --render",
        ),
        ([*QUICK, HERE, "--rule=halving"], "config.evaluation.every_steps, --rule"),
        (
            [*QUICK, HERE, "--rule=halving", "--metric=train/reward", "--factor=9"],
            "Halving by 9 finds no rung: 8 conditions of 2 steps",
        ),
        ([*QUICK, HERE, "--parallel=0"], "--parallel"),
        ([*QUICK[:1], HERE, "--sweep=nowhere.py"], "No sweep file 'nowhere.py'"),
        ([*QUICK, HERE, "--config.grpo.step=3"], "Did you mean 'steps'?"),
        ([*QUICK, HERE, "--vmapped"], "--vmapped"),
        ([*SORT, HERE, "--vmapped", "--rule=halving"], "leave out --rule, or --vmapped"),
        ([*SORT, HERE, "--vmapped", "--parallel=2"], "leave out --parallel, or --vmapped"),
        ([*QUICK, HERE, "--rule=halving", "--ready=2"], "--ready is of --rule=pbt alone"),
        ([*SORT, HERE, "--rule-seed=1"], "--rule-seed is of --rule=pbt alone"),
        ([*PBT, HERE, "--factor=2"], "--factor is of --rule=halving alone"),
        ([*PBT[:-1], HERE], "--ready=STEPS (--ready)"),
        ([word for word in PBT if word != "--vmapped"] + [HERE], "add --vmapped, or take"),
        ([*PBT, HERE, "--exploit=t-test"], "Did you mean 't_test'?"),
        ([*PBT, HERE, "--explore=rl.optimizer.rate"], "Unknown field of the sweep"),
        ([*PBT, HERE, "--resample=2"], "must be a number in 0..1"),
        ([*PBT[:-1], HERE, "--ready=2"], "are never judged before their end"),
        ([*PBT, HERE, "--sweep=LONE"], "needs 2 members or more, and the sweep has 1"),
        ([*PBT, HERE, "--sweep=TEXTS"], "rl.optimizer.schedule='linear' is no number"),
    ],
)
def test_bad_words_are_one_line_and_write_nothing(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    words = [word.replace("somewhere", str(tmp_path / "out")) for word in words]
    for name, body in SWEEPS.items():
        (tmp_path / name).with_suffix(".py").write_text(f"def sweep():\n    {body}\n")
        words = [word.replace(f"={name}", f"={tmp_path / name}.py") for word in words]
    if any(word.startswith("--sweep=/") for word in words):
        words.remove(SORT[1])
    assert COMMAND.main(words) == 1
    text = capsys.readouterr().err
    assert message in text and text.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_cells_are_listed_with_their_hashes(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert COMMAND.main([*QUICK, "--seeds=2", "--list"]) == 0
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 16 and len({digest for digest, _ in lines}) == 16
    assert lines[0][1].endswith("kl_placement=none,grpo.optimizer.learning_rate=0.0001,seed=0")


def test_methods_against_rewards_that_can_be_hacked(capsys, monkeypatch):
    """Every cell is a config that is accepted, and what they are judged by can be hacked."""
    monkeypatch.chdir(ROOT)
    words = ["--config=configs/hackable.py", "--sweep=configs/sweeps/hackable.py", "--list"]
    assert COMMAND.main(words) == 0
    names = [line.split("  ")[1] for line in capsys.readouterr().out.splitlines()]
    assert names == ["ppo", "crpg", "crraft", "mu_ppo", "xi_ppo"]
    found = runpy.run_path("configs/examples/hackable_rewards.py")

    def said(text):
        names = ("digits", "letters", "true_score", "within")
        first, second, *judged = (found[name]("", text, None) for name in names)
        return (first + second, *judged)

    assert said("01234567abcd====") == (0.75, 1.0, 1.0)
    assert said("01234567abcdefgh") == (1.0, 0.5, 0.0)
    assert said("0123456789012345") == (1.0, 0.0, 0.0)
    assert said("") == (0.0, 0.0, 1.0)


def test_a_job_for_each_cell(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (tmp_path / "nodes.py").write_text(
        "from rljax.pods.slurm import SlurmSettings\n\n\ndef settings():\n"
        "    return SlurmSettings(nodes=2, gpus=8, directory='/code', logs='/logs')\n"
    )
    words = [*QUICK, "--render=slurm", f"--settings={tmp_path / 'nodes.py'}"]
    assert COMMAND.main([*words, "--remote=/data/sweep", f"--workdir={tmp_path / 'sweep'}"]) == 0
    assert "8 jobs in" in capsys.readouterr().out
    jobs = sorted((tmp_path / "sweep/jobs").glob("*.sh"))
    assert len(jobs) == 8
    name = "grpo.objective.kl_placement=none,grpo.optimizer.learning_rate=0.0001"
    text = (tmp_path / f"sweep/jobs/{name}.sh").read_text()
    assert "#SBATCH --job-name=cell-" in text and "#SBATCH --nodes=2" in text
    assert f"--workdir=/data/sweep/cells/{name}" in text
    (tmp_path / "nodes.py").write_text("def settings():\n    return {'nodes': 2}\n")
    assert COMMAND.main([*words, f"--workdir={tmp_path / 'other'}"]) == 1
    assert (
        "must return rljax.pods.slurm.SlurmSettings for --render=slurm" in capsys.readouterr().err
    )


@pytest.mark.slow
def test_all_cells_as_one_program(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    words = [*SORT, "--vmapped", "--seeds=2", f"--workdir={tmp_path / 'sweep'}"]
    assert COMMAND.main(words) == 0
    table = (tmp_path / "sweep/table.md").read_text()
    assert table.count("| 2 of 2 | done |") == 3
    capsys.readouterr()
    assert COMMAND.main(words) == 0
    assert "step 2 of 2" not in capsys.readouterr().out  # all of it was read


@pytest.mark.long
def test_a_population_as_one_program(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=8")
    words = [*PBT, "--seeds=2", f"--workdir={tmp_path / 'sweep'}"]
    assert COMMAND.main(words) == 0
    table = (tmp_path / "sweep/table.md").read_text()
    assert "learning_rate at step 0" in table and "## Copies" in table
    lineage = (tmp_path / "sweep/lineage.json").read_text()
    page = (tmp_path / "sweep/report.html").read_text()
    assert '<section id="population">' in page and '<section id="effects">' not in page
    capsys.readouterr()
    assert COMMAND.main(words) == 0
    assert "step 2 of 2" not in capsys.readouterr().out  # all of it was read
    assert (tmp_path / "sweep/lineage.json").read_text() == lineage
    assert COMMAND.main([*words, "--exploit=t_test"]) == 1
    assert "holds a sweep with population=" in capsys.readouterr().err
