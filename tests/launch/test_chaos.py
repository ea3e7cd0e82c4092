"""A run that is killed three times is the run that never was; and one that is not is found out."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rljax.chaos.attempt import Outcome, attempt
from rljax.chaos.campaign import Campaign
from rljax.chaos.compare import differences
from rljax.chaos.plan import Kill
from rljax.chaos.table import verdict_line
from rljax.errors import StoppedError
from rljax.training.run.phases import MARKS_VARIABLE

ROOT = Path(__file__).parents[2]
SEED = 149  # draws both faults and a signal among three kills
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}


@pytest.fixture
def chaos():
    """launch/chaos.py as a module."""
    spec = importlib.util.spec_from_file_location("chaos_command", ROOT / "launch/chaos.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "words, said",
    [
        ([], "the following arguments are required: --config"),
        (["--config=configs/chaos.py", "--kills=0"], "--kills must be"),
        (["--config=nowhere.py"], "No config file 'nowhere.py'"),
        (["--config=configs/chaos.py", "--jsn=x"], "Did you mean '--json'"),
        (["--config=configs/chaos.py", "--json=/nowhere/x"], "--json"),
        (["--config=configs/chaos.py", "--config.grpo.stepz=1"], "Did you mean 'steps'"),
    ],
)
def test_bad_arguments_give_one_line(chaos, capsys, monkeypatch, words, said):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("JAX_PLATFORMS", os.environ["JAX_PLATFORMS"])
    assert chaos.main(words) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: ") and said in text and text.count("\n") == 1


# A program that marks two phases, and may leave a child behind.
PROGRAM = f"""
import os, signal, subprocess, sys, time
from pathlib import Path
marks = Path(os.environ["{MARKS_VARIABLE}"])
def mark(name):
    with open(marks, "a") as file:
        file.write(f"{{time.time():.6f}} {{os.getpid()}} {{name}}\\n")
if "child" in sys.argv:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
for _ in range(3):
    mark("work"); time.sleep(0.2); mark("-work")
    mark("save"); time.sleep(0.2); mark("-save")
print("done")
"""


def end(*words: str, kill: Kill | None = None, timeout: float = 60.0):
    return attempt([sys.executable, "-c", PROGRAM, *words], os.environ, kill=kill, timeout=timeout)


def test_a_process_is_hit_in_the_phase_and_at_the_time_that_was_aimed_at():
    outcome = end()
    assert (outcome.status, outcome.hit, outcome.output) == (0, None, "done\n")
    outcome = end(kill=Kill("save", 2, 0.05, "SIGKILL"))
    assert (outcome.status, outcome.hit, outcome.orphans) == (-9, "save", [])
    assert [mark.name for mark in outcome.marks].count("save") == 2
    assert end(kill=Kill("start", 1, 0.0, "SIGKILL")).hit == "start"
    assert end(kill=Kill("save", 4, 0.0, "SIGKILL")).hit is None


def test_what_is_left_behind_is_found_and_ended(monkeypatch):
    monkeypatch.setattr("rljax.chaos.attempt.ORPHAN_SECONDS", 0.2)
    outcome = end("child", kill=Kill("work", 1, 0.0, "SIGKILL"))
    (orphan,) = outcome.orphans
    assert "time.sleep(60)" in orphan
    command, until = Path(f"/proc/{orphan.split()[0]}/cmdline"), time.monotonic() + 10
    while command.exists() and command.read_bytes() and time.monotonic() < until:
        time.sleep(0.01)
    assert time.monotonic() < until


def test_what_hangs_is_ended():
    outcome = end(timeout=0.3)
    assert outcome.timed_out and outcome.status == -9


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder, the output and the counts of a kill and two faults."""
    folder = tmp_path_factory.mktemp("chaos")
    command = [
        *(sys.executable, ROOT / "launch/chaos.py", f"--config={ROOT / 'configs/chaos.py'}"),
        *("--kills=3", f"--seed={SEED}", "--inject", f"--workdir={folder}"),
        *("--config.warmup.steps=4", "--config.grpo.steps=4", f"--json={folder}/c.json"),
    ]
    done = subprocess.run(
        list(map(str, command)), env=ENVIRONMENT, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder, done.stdout, json.loads((folder / "c.json").read_text())


@pytest.mark.slow
def test_a_killed_run_is_the_run_that_was_never_killed(killed):
    folder, output, found = killed
    assert found["good"] and found["held"] == found["killed"] == 3 and not found["problems"]
    assert sum(sum(counts.values()) for counts in found["by_phase"].values()) == 3
    assert {"FULL", "FLIP"} < set(found["by_signal"])
    assert set(found["state_sha256"]) == {"warmup", "grpo"}
    assert "3 of 3 kills held" in output and "nothing differs" in output
    assert sorted(path.name for path in folder.iterdir()) == ["c.json", "habits.json", "reference"]


@pytest.mark.slow
def test_every_difference_is_found(killed, tmp_path):
    reference = killed[0] / "reference"

    def changed(change) -> list[str]:
        workdir = tmp_path / "copy"
        shutil.rmtree(workdir, ignore_errors=True)
        shutil.copytree(reference, workdir)
        change(workdir)
        return differences(workdir, reference)

    def repeat_row(workdir):
        path = workdir / "metrics.jsonl"
        path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")

    def other_parameters(workdir):
        shutil.rmtree(workdir / "checkpoints/warmup/4")
        shutil.copytree(workdir / "checkpoints/warmup/2", workdir / "checkpoints/warmup/4")

    def other_figures(workdir):
        summary = json.loads((workdir / "summary.json").read_text())
        (workdir / "summary.json").write_text(json.dumps(summary | {"best_checkpoint_value": 7}))

    assert changed(lambda workdir: None) == []
    assert "holds other parameters" in "".join(changed(other_parameters))
    assert "rows of" in "".join(changed(repeat_row))
    assert "differs in best_checkpoint_value" in "".join(changed(other_figures))
    for name, said in {"lock": "lock was left behind", "damaged/x": "nobody has damaged"}.items():

        def leave(workdir, name=name):
            (workdir / name).parent.mkdir(exist_ok=True)
            (workdir / name).write_text("")

        assert said in "".join(changed(leave))
    for name in ("report.html", "examples/grpo.json", "metrics.jsonl"):
        assert f"{name} is missing" in changed(lambda w, name=name: (w / name).unlink())
    gone = changed(lambda workdir: shutil.rmtree(workdir / "checkpoints/grpo/4"))
    assert any("instead of 4" in line for line in gone)


def campaign_of(statuses: list[tuple[int, str | None]], tmp_path, monkeypatch):
    """A campaign on two processes whose attempts end so: (status, the phase that was hit)."""
    ends = iter(statuses)
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference/summary.json").write_text("{}")
    known = {"counts": {"start": 1, "update": 4}, "seconds": {"update": 1.0}}
    (tmp_path / "habits.json").write_text(json.dumps({"command": ["a"], "habits": known}))

    def ended(command, environment, **given):
        status, hit = next(ends)
        return Outcome(status, "", [], 0.0, 0.0, hit, False, [])

    def same(workdir, reference, damaged):
        workdir.mkdir()
        return []

    monkeypatch.setattr("rljax.chaos.campaign.attempt", ended)
    monkeypatch.setattr("rljax.chaos.campaign.differences", same)
    return Campaign(lambda workdir: ["a"], {}, tmp_path, processes=2, say=lambda line: None)


def test_several_processes_that_ask_for_it_are_started_again(tmp_path, monkeypatch):
    ends = [(75, "update"), (75, None), (75, None), (75, "update"), (0, None)]
    found = campaign_of(ends, tmp_path, monkeypatch).run(2, seed=1)
    assert (len(found.killed), found.restarts, found.processes, found.rounds) == (2, 2, 5, 1)
    assert "2 asked for a restart" in verdict_line(found, 2)


@pytest.mark.parametrize("ends", [[(75, None)] * 4, [(70, None)]])
def test_what_fails_again_and_again_or_otherwise_ends_a_campaign(ends, tmp_path, monkeypatch):
    with pytest.raises(StoppedError, match=f"fails with status {ends[0][0]}"):
        campaign_of(ends, tmp_path, monkeypatch).run(2, seed=1)


def test_the_reference_of_another_command_is_refused(tmp_path):
    (tmp_path / "reference").mkdir()
    (tmp_path / "reference/summary.json").write_text("{}")
    (tmp_path / "habits.json").write_text('{"command": ["train", "a"], "habits": {}}')
    campaign = Campaign(lambda workdir: ["train", "b"], {}, tmp_path)
    with pytest.raises(ValueError, match=r"reference of another command, train a: .*--workdir"):
        campaign.learn()
