"""A run that was killed and continued equals one that never stopped, bit for bit."""

import io
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp
from rich.console import Console

from rljax.config.runs import find_step
from rljax.reporting.files import read_rows
from rljax.training import loop, step
from rljax.training.run.checkpoints import SOURCE
from tests.training.fake_store import fake_store
from tests.training.killed_run import HALVES, PLACES, owner_of

KILLED_RUN = Path(__file__).parent / "killed_run.py"


def command(place: str, count: int, variant: str, workdir: Path, *overrides: str) -> list[str]:
    words = [sys.executable, KILLED_RUN, place, count, variant, workdir, *overrides]
    return list(map(str, words))


@pytest.fixture
def run_process(subprocess_environment):
    """run_process(place, count, variant, workdir, *overrides) -> its exit status and output."""

    def run(*words):
        return subprocess.run(
            command(*words),
            env=subprocess_environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture
def start_process(subprocess_environment):
    """start_process(place, ...) -> the process, which runs."""

    def start(*words) -> subprocess.Popen:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command(*words), env=subprocess_environment, **quiet)

    return start


def final_state(workdir: Path, stage: str, step: int) -> list[np.ndarray]:
    """Every array of the stage's last checkpoint: the state, and what its source has taken."""
    folder = workdir / "checkpoints" / stage / str(step)
    names = ["state", SOURCE] if (folder / SOURCE).exists() else ["state"]
    found = [ocp.load(folder, checkpointable_name=name) for name in names]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(found)]


def assert_same_run(workdir: Path, expected: Path, stages: dict[str, int]) -> None:
    """Metrics, parameters, optimizer, rollouts and pairs are the same, byte by byte."""
    for pattern in ("metrics.jsonl", "rollouts/*.json", "pairs/*"):
        names = sorted(str(path.relative_to(expected)) for path in expected.glob(pattern))
        assert sorted(str(path.relative_to(workdir)) for path in workdir.glob(pattern)) == names
        for name in names:
            assert (workdir / name).read_text() == (expected / name).read_text(), name
    for stage, last in stages.items():
        ours, theirs = (final_state(folder, stage, last) for folder in (workdir, expected))
        assert len(ours) == len(theirs) > 10
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == b.dtype
            assert a.tobytes() == b.tobytes()
    assert not list(workdir.rglob("*tmp*")), "left-overs of a killed save"


def steps_of(run) -> dict[str, int]:
    """Stage -> its number of steps."""
    return {stage: run.config[stage].steps for stage in run.config.stages}


def kill_and_continue(run_process, variant, kills, workdir, expected) -> None:
    """Kills in each place in turn, continues to the end and compares."""
    kill_in_turn(run_process, variant, kills, workdir)
    assert_same_run(workdir, expected.workdir, steps_of(expected))


def kill_in_turn(run_process, variant, kills, workdir, *overrides) -> None:
    """Kills in each place in turn, and continues to the end."""
    for place, count in kills:
        result = run_process(place, count, variant, workdir, *overrides)
        assert result.returncode == -signal.SIGKILL, (place, count, result.stderr[-2000:])
    result = run_process("nowhere", 0, variant, workdir, *overrides)
    assert result.returncode == 0, result.stderr[-2000:]


def test_every_place_is_a_function():
    """Known in the fast set, since a run that comes to none of them is killed in none."""
    addresses = [*HALVES.values(), *(each for place in PLACES.values() for each in place)]
    for address in addresses:
        owner, name = owner_of(address)
        assert callable(getattr(owner, name)), address


@pytest.mark.contract
def test_killed_in_rollout_update_and_checkpoint_write(tiny_run, run_process, tmp_path):
    """One workdir, killed three times: in each place of the contract."""
    kills = [("commit", 9), ("rollout", 4), ("update", 3)]
    kill_and_continue(run_process, "grpo", kills, tmp_path / "run", tiny_run("grpo"))


@pytest.mark.slow
def test_killed_in_a_graph_of_stages(tiny_run, run_process, tmp_path):
    """In the reward model's stage, and in the one that reads it: frozen models are read again."""
    kills = [("update", 14), ("rollout", 3)]
    kill_and_continue(run_process, "rlhf", kills, tmp_path / "run", tiny_run("rlhf"))


# Variant -> places in the order in which they are reached; each count is of one process, which goes
# on from the last checkpoint. What a kill did wrong is found at the end of its chain.
CHAINS = {
    "grpo, in its first stage": [
        ("save", 1),
        ("writing", 1),
        ("commit", 2),
        ("metrics", 3),
        ("flush", 3),
        ("deletion", 1),
        ("stage", 2),  # the second one begins
    ],
    "grpo, in its second stage": [
        ("update", 14),
        ("scoring", 3),
        ("record", 1),
        ("evaluation", 2),
        ("rollout", 2),
        ("commit", 2),
        ("summary", 1),
    ],
    # The moving baseline is part of the state.
    "reinforce": [("evaluation", 1), ("update", 4), ("rollout", 2), ("commit", 3)],
    "dpo": [("pair_samples", 1), ("pair_file", 1), ("stage", 1), ("update", 4)],
    "tr_dpo": [("update", 15), ("commit", 2)],  # first in the step that moves the reference
    # In the samples of the second round, in their file, and behind it.
    "online": [("pair_samples", 2), ("pair_file", 1), ("update", 1)],
    "jepo": [("rollout", 3), ("update", 1), ("writing", 1)],
    "trice": [("rollout", 4), ("commit", 2)],
}


@pytest.mark.slow
@pytest.mark.parametrize("chain", CHAINS)
def test_killed_in_every_place(chain, tiny_run, run_process, tmp_path):
    """One place after the other, in one workdir."""
    variant = chain.split(",")[0]
    kill_and_continue(run_process, variant, CHAINS[chain], tmp_path / "run", tiny_run(variant))


# Each place in a workdir of its own, so that a difference has one cause.
KILLS = [
    *(("grpo", "rollout", count) for count in (1, 5)),
    ("grpo", "scoring", 3),
    *(("grpo", "update", count) for count in (4, 17)),
    ("grpo", "flush", 15),
    ("grpo", "record", 2),
    *(("grpo", "evaluation", count) for count in (2, 11)),
    ("grpo", "stage", 2),
    ("grpo", "save", 1),
    *(("grpo", "writing", count) for count in (1, 7)),
    *(("grpo", "commit", count) for count in (2, 25)),
    ("grpo", "metrics", 20),
    *(("grpo", "deletion", count) for count in (1, 2)),
    ("grpo", "summary", 1),
    ("reinforce", "rollout", 4),
    ("reinforce", "update", 4),
    ("reinforce", "commit", 3),
    ("reinforce", "evaluation", 1),
    ("dpo", "pair_samples", 1),
    ("dpo", "pair_file", 1),
    ("dpo", "update", 14),
    ("dpo", "stage", 2),
    ("tr_dpo", "update", 15),
    ("tr_dpo", "commit", 12),
    ("online", "pair_samples", 2),
    ("online", "pair_file", 2),
    ("online", "update", 19),
    ("online_kto", "pair_file", 2),
    ("online_kto", "update", 16),
    ("jepo", "rollout", 3),
    ("jepo", "update", 15),
    ("jepo", "writing", 8),
    ("trice", "rollout", 4),
    ("trice", "commit", 9),
]


@pytest.mark.long
@pytest.mark.parametrize("variant, place, count", KILLS)
def test_killed_once(variant, place, count, tiny_run, run_process, tmp_path):
    """The run is killed in one place alone."""
    kill_and_continue(run_process, variant, [(place, count)], tmp_path / "run", tiny_run(variant))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(4))
def test_killed_again_and_again(seed, tiny_run, run_process, tmp_path):
    """Random places, several times in the same workdir."""
    draw = random.Random(seed)
    early = [("update", draw.randint(1, 8)), ("writing", 1), ("metrics", draw.randint(1, 9))]
    late = [("rollout", 1), ("record", 1), ("commit", draw.randint(1, 4)), ("evaluation", 1)]
    kills = draw.sample(early, 2) + draw.sample(late, 2)
    kill_and_continue(run_process, "grpo", kills, tmp_path / "run", tiny_run("grpo"))


@pytest.mark.slow
def test_a_signal_ends_the_step_saves_it_and_the_run_continues_exactly(
    tiny_run, run_process, tmp_path
):
    """SIGTERM in step 3, which no run saves by itself."""
    workdir, expected = tmp_path / "run", tiny_run("reinforce")
    result = run_process("SIGTERM:update", 3, "reinforce", workdir)
    assert result.returncode == 128 + signal.SIGTERM, result.stderr[-2000:]
    assert "SIGTERM: the step ends and is saved" in result.stderr
    assert "Traceback" not in result.stderr
    assert "SIGTERM: reinforce step 3 is saved" in result.stdout
    assert (workdir / "checkpoints/reinforce/3/digests.json").exists()
    assert not (workdir / "lock").exists()
    result = run_process("nowhere", 0, "reinforce", workdir)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "continuing reinforce after step 3" in result.stdout
    assert_same_run(workdir, expected.workdir, steps_of(expected))
    # What was saved because of the signal is not the best checkpoint of the run.
    summary, wanted = (json.loads((w / "summary.json").read_text()) for w in (workdir, expected[0]))
    assert summary["best_checkpoint_value"] == wanted["best_checkpoint_value"]
    assert Path(summary["best_checkpoint"]).name == Path(wanted["best_checkpoint"]).name


@pytest.mark.slow
def test_signals_in_other_moments(tiny_run, run_process, tmp_path):
    """Before the first step, in a held-out evaluation, while sampling, in the last step."""
    stops = [
        ("SIGINT:stage", 1, "warmup has done 0 steps"),
        ("SIGTERM:evaluation", 1, "warmup step 3 is saved"),
        ("SIGINT:rollout", 2, "grpo step 2 is saved"),
        ("SIGTERM:record", 2, "grpo step 5 is saved"),
    ]
    workdir, expected = tmp_path / "run", tiny_run("grpo")
    for place, count, said in stops:
        result = run_process(place, count, "grpo", workdir)
        number = signal.Signals[place.split(":")[0]]
        assert (result.returncode, said in result.stdout) == (128 + number, True), result.stdout
        assert "Traceback" not in result.stderr
    assert run_process("nowhere", 0, "grpo", workdir).returncode == 0
    assert_same_run(workdir, expected.workdir, steps_of(expected))


@pytest.mark.slow
def test_a_damaged_checkpoint_and_lost_files_do_not_change_the_run(tiny_run, run_process, tmp_path):
    """A bit of the last checkpoint flips: the one before it is taken, and said."""
    workdir, expected = tmp_path / "run", tiny_run("reinforce")
    keep = "--config.checkpoint.keep=3"
    assert run_process("summary", 1, "reinforce", workdir, keep).returncode == -signal.SIGKILL
    path = next((workdir / "checkpoints/reinforce/5/state/d").iterdir())
    content = path.read_bytes()
    path.write_bytes(content[:9] + bytes([content[9] ^ 16]) + content[10:])
    result = run_process("nowhere", 0, "reinforce", workdir, keep)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "reinforce/5 is damaged (state/d/" in result.stdout
    assert "the run goes on from step 4" in result.stdout
    assert (workdir / "damaged/reinforce/5").is_dir()
    assert_same_run(workdir, expected.workdir, steps_of(expected))
    (workdir / "run.json").unlink()  # the last checkpoint says that the run is the same
    result = run_process("nowhere", 0, "reinforce", workdir, keep)
    assert "run.json was lost; it is written again" in result.stdout, result.stderr[-2000:]
    assert_same_run(workdir, expected.workdir, steps_of(expected))


@pytest.mark.slow
def test_a_run_whose_machine_is_lost_goes_on_from_its_store(
    tiny_config, tiny_run, one_device_runs, tmp_path, monkeypatch
):
    """Checkpoints and a copy of the small files are in the store; the workdir is gone."""
    config = tiny_config("reinforce", "--config.checkpoint.folder=gs://bucket/run")
    calls = []

    def update(*words, put_rows=step.put_rows):
        calls.append(words)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return put_rows(*words)

    with fake_store(tmp_path / "store"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(step, "put_rows", update)
            loop.run(config, tmp_path / "one", Console(file=io.StringIO()))
        shutil.rmtree(tmp_path / "one")
        text = io.StringIO()
        summary = loop.run(config, tmp_path / "two", Console(file=text, width=200))
        assert "was filled with the" in text.getvalue()
        assert "continuing reinforce after step 2" in text.getvalue()
        assert summary["best_checkpoint"].startswith("gs://bucket/run/reinforce/")
        with pytest.raises(ValueError, match="are in gs://bucket/run: copy the folder of a stage"):
            find_step(tmp_path / "two")
    # As its commands want it: the store's stages in WORKDIR/checkpoints.
    shutil.copytree(tmp_path / "store/bucket/run", tmp_path / "two/checkpoints")
    shutil.rmtree(tmp_path / "two/checkpoints/.workdir")
    assert_same_run(tmp_path / "two", tiny_run("reinforce").workdir, {"reinforce": 5})
    assert find_step(tmp_path / "two").name == "5"


@pytest.mark.slow
def test_two_processes_on_one_workdir(tiny_run, start_process, run_process, tmp_path):
    """The second is refused and names the first, which goes on undisturbed."""
    workdir, expected = tmp_path / "run", tiny_run("reinforce")
    first = start_process("nowhere", 0, "reinforce", workdir)
    while not (workdir / "lock").exists():
        assert first.poll() is None
        time.sleep(0.05)
    result = run_process("nowhere", 0, "reinforce", workdir)
    assert f"is in use by process {first.pid} on" in result.stderr
    assert result.returncode == 1
    assert first.wait(timeout=300) == 0
    assert_same_run(workdir, expected.workdir, steps_of(expected))
    # Started once more, a finished run draws its summary and its report again, and no more.
    assert run_process("nowhere", 0, "reinforce", workdir).returncode == 0
    assert_same_run(workdir, expected.workdir, steps_of(expected))


@pytest.mark.slow
def test_killed_while_prompts_are_sampled_again(run_process, tmp_path):
    """With a filter of groups a step takes the prompts that it needs: the source knows how many."""
    words = ("objective.group_filter=mixed", "objective.filter_rounds=3", "steps=6")
    overrides = [f"--config.reinforce.{word}" for word in words]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    kill_in_turn(run_process, "reinforce", [], whole, *overrides)
    kill_in_turn(run_process, "reinforce", [("update", 4), ("rollout", 4)], killed, *overrides)
    assert_same_run(killed, whole, {"reinforce": 6})
    rows = [row for row in read_rows(whole / "metrics.jsonl") if "sampling_rounds" in row]
    assert max(row["sampling_rounds"] for row in rows) > 1
    taken = ocp.load(whole / "checkpoints/reinforce/6", checkpointable_name=SOURCE)["taken"]
    assert taken == 8 * sum(row["sampling_rounds"] for row in rows)
