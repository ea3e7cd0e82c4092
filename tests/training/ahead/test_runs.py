"""Whole runs with a sampler ahead: as in turn at lag 0, repeatable, and continued bit for bit."""

import contextlib
import functools
import io
import re
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

from rljax.config.load import load_config
from rljax.errors import StoppedError
from rljax.reporting.files import read_json, read_rows
from rljax.reporting.glossary import METRICS
from rljax.training import loop
from rljax.training.ahead.events import EVENTS_FILE
from rljax.training.collect import sampled
from rljax.training.collect.rollouts import sample_texts
from rljax.training.run.checkpoints import QUEUE, SOURCE, Checkpoints
from tests.once import once
from tests.training.conftest import CONFIG, HERE, on_one_device

COMMON = (
    "--config.reinforce.objective.correction=truncated",
    "--config.scoring.workers=1",
    "--config.evaluation.samples_per_prompt=0",
    "--config.reinforce.steps=6",
)
AHEAD = ("--config.asynchronous.max_staleness=2",)
OWN = ("--config.asynchronous.sampler_devices=1",)


def train(workdir: Path, *overrides: str, **options) -> dict:
    """A run of 6 steps with checkpoints after 2, 4 and 6."""
    config = load_config(f"{CONFIG}:reinforce", (*COMMON, *overrides))
    with on_one_device():
        return loop.run(config, workdir, Console(file=io.StringIO()), **options)


@pytest.fixture(scope="session")
def ahead_run(shared_folder, tiny_folder):
    """ahead_run(name, *overrides) -> the workdir of a finished run, made once."""

    def make(name: str, overrides: tuple[str, ...]) -> Path:
        workdir = shared_folder / f"ahead-{name}"
        train(workdir, *overrides)
        return workdir

    return functools.cache(
        lambda name, *overrides: once(shared_folder, f"ahead-{name}", lambda: make(name, overrides))
    )


@pytest.fixture(scope="session")
def in_turn(ahead_run):
    return ahead_run("in-turn")


@pytest.fixture(scope="session")
def fixed(ahead_run):
    return ahead_run("fixed", *AHEAD, *OWN)


def rows_of(workdir: Path, *, without: str = "staleness") -> list[dict]:
    """The rows of metrics.jsonl without the metrics that only a sampler ahead has."""
    return [
        {name: value for name, value in row.items() if not name.startswith(without)}
        for row in read_rows(workdir / "metrics.jsonl")
    ]


def hash_of(workdir: Path) -> str:
    return read_json(workdir / "summary.json")["parameters_sha256"]


def test_lag_0_on_devices_of_its_own_is_the_synchronous_run(in_turn, ahead_run):
    own = ahead_run("own", *OWN, "--config.asynchronous.transfer=storage")
    assert hash_of(own) == hash_of(in_turn)
    assert rows_of(own) == rows_of(in_turn)
    assert not (own / "weights").exists()


def test_the_fixed_schedule_draws_with_weights_of_so_many_steps_ago(fixed, in_turn):
    events = read_rows(fixed / EVENTS_FILE)
    weights = {row["step"]: row["weights"] for row in events if row["event"] == "drawn"}
    assert weights == {1: [0], 2: [0], 3: [0], 4: [1], 5: [2], 6: [3]}
    trained = [row["step"] for row in events if row["event"] == "trained"]
    assert trained == [1, 2, 3, 4, 5, 6]
    drawn = {row["step"]: row["samples"] for row in events if row["event"] == "drawn"}
    assert all(row["samples"] == drawn[row["step"]] for row in events)
    rows = [row for row in read_rows(fixed / "metrics.jsonl") if row["kind"] == "train"]
    assert [row["staleness_mean"] for row in rows] == [0.0, 1.0, 2.0, 2.0, 2.0, 2.0]
    assert [row["staleness_share/1"] for row in rows] == [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert hash_of(fixed) != hash_of(in_turn)


def test_every_metric_is_explained_and_both_sides_are_timed(fixed):
    rows = read_rows(fixed / "metrics.jsonl")
    logged = {name for row in rows for name in row} - {"stage", "step", "kind"}
    known = re.compile(r"staleness_share/\d+")
    assert all(name in METRICS or known.fullmatch(name) for name in logged)
    timing = [row for row in read_rows(fixed / "timing.jsonl") if "update" in row]
    needed = {"wait_for_rollouts", "transfer", "ahead/wait_for_weights", "ahead/queue_steps"}
    assert all(needed | {"ahead/transfer_bytes", "ahead/sampling"} <= set(row) for row in timing)
    sent = [row["ahead/transfer_bytes"] for row in timing]
    assert sent[0] > 10_000 and sent == [sent[0]] * 4 + [0.0] * 2, "what nobody will use is kept"


class Killed(BaseException):
    """Ends a run as if it was killed after a checkpoint."""


@contextlib.contextmanager
def killed_after(step: int):
    """The run ends when the checkpoint of a step is on the disk."""
    save = Checkpoints.save

    def last(self, number, *args):
        save(self, number, *args)
        if number == step:
            self.wait()
            raise Killed

    Checkpoints.save = last
    try:
        with pytest.raises(Killed):
            yield
    finally:
        Checkpoints.save = save


def queue_of(workdir: Path, step: int) -> np.ndarray:
    folder = workdir / "checkpoints/reinforce" / str(step)
    return np.asarray(ocp.load(folder, checkpointable_name=SOURCE)[QUEUE])


def test_a_killed_run_goes_on_from_its_queue_bit_for_bit(fixed, tmp_path, one_device_runs):
    """On the same devices in turn, through host memory, with the optimizer moved to the host."""
    workdir, changed = tmp_path / "run", list(AHEAD)
    changed.append("--config.asynchronous.transfer=host")
    for step in (2, 4):
        with killed_after(step):
            train(workdir, *changed)
        assert len(queue_of(workdir, step)) > 3000, "two steps of samples"
        changed.append("--config.asynchronous.offload_optimizer=True")
    train(workdir, *changed)
    assert hash_of(workdir) == hash_of(fixed)
    assert (workdir / "metrics.jsonl").read_text() == (fixed / "metrics.jsonl").read_text()
    found = sorted((workdir / EVENTS_FILE).read_text().splitlines())
    assert found == sorted((fixed / EVENTS_FILE).read_text().splitlines())


@pytest.mark.slow
def test_half_drawn_samples_are_part_of_a_checkpoint(tmp_path, one_device_runs):
    """In pieces of 2 of 6 tokens: their second half has the weights of one step later."""
    pieces = (*AHEAD, *OWN, "--config.asynchronous.partial_tokens=2")
    train(tmp_path / "whole", *pieces)
    log = read_rows(tmp_path / "whole" / EVENTS_FILE)
    weights = {row["step"]: row["weights"] for row in log if row["event"] == "drawn"}
    assert weights[5] == [2, 2, 3] and weights[6] == [3, 3, 4]
    rows = [r for r in read_rows(tmp_path / "whole/metrics.jsonl") if r["kind"] == "train"]
    assert 0 < rows[-1]["staleness_share/1"] < rows[-1]["staleness_share/2"] < 1
    with killed_after(4):
        train(tmp_path / "killed", *pieces)
    train(tmp_path / "killed", *pieces)
    assert hash_of(tmp_path / "killed") == hash_of(tmp_path / "whole")
    metrics = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("killed", "whole")]
    assert metrics[0] == metrics[1]


def test_the_newest_weights_are_replayed_in_the_logged_order(
    tmp_path, one_device_runs, monkeypatch
):
    """A sampler that is slow draws with newer weights than its fast replay would by itself."""
    overrides = (*AHEAD, *OWN, "--config.asynchronous.schedule=latest")
    with monkeypatch.context() as patch:

        def slow(*args, **kwargs):
            time.sleep(0.5)
            return sample_texts(*args, **kwargs)

        patch.setattr(sampled, "sample_texts", slow)
        train(tmp_path / "latest", *overrides, "--config.checkpoint.every_steps=10")
    log = read_rows(tmp_path / "latest" / EVENTS_FILE)
    lags = [row["step"] - 1 - row["weights"][0] for row in log if row["event"] == "drawn"]
    assert len(lags) == 6 and all(0 <= lag <= 2 for lag in lags)
    assert sum(lags) < 9, "the lags of a sampler that is always ahead are 0 1 2 2 2 2"
    train(tmp_path / "again", *overrides, replay=tmp_path / "latest")
    assert hash_of(tmp_path / "again") == hash_of(tmp_path / "latest")
    with pytest.raises(ValueError, match=r"seed: 0 -> 1.*\(--replay\)") as error:
        train(tmp_path / "other", *overrides, "--config.seed=1", replay=tmp_path / "latest")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "other").exists()


def test_a_replay_that_draws_other_samples_ends(fixed, tmp_path, one_device_runs):
    changed = tmp_path / "changed"
    shutil.copytree(fixed, changed)
    text = (changed / EVENTS_FILE).read_text()
    first = read_rows(changed / EVENTS_FILE)[0]["samples"]
    (changed / EVENTS_FILE).write_text(text.replace(first, "0" * 16))
    with pytest.raises(StoppedError, match="other samples in step 1"):
        train(tmp_path / "again", *AHEAD, *OWN, replay=changed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "place, count",
    [("drawn", 4), ("publish", 3), ("queue", 2), ("update", 5), ("commit", 4), ("scoring", 2)],
)
def test_killed_anywhere_with_a_sampler_ahead(
    place, count, fixed, tmp_path, subprocess_environment
):
    words = [*COMMON, *AHEAD, *OWN]

    def run(place: str, count: int) -> int:
        command = [sys.executable, HERE / "killed_run.py", place, count, "reinforce"]
        command += [tmp_path / "run", *words]
        done = subprocess.run(
            list(map(str, command)), env=subprocess_environment, capture_output=True, timeout=300
        )
        return done.returncode

    assert run(place, count) == -signal.SIGKILL
    assert run("nowhere", 0) == 0
    assert hash_of(tmp_path / "run") == hash_of(fixed)
    metrics = (tmp_path / "run/metrics.jsonl").read_text()
    assert metrics == (fixed / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_eight_devices_are_split_into_two_meshes(tiny_folder, tmp_path):
    """The trainer splits parameters over four devices, the sampler its rows over the other four."""
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    config = load_config(
        f"{CONFIG}:reinforce",
        (*COMMON, *AHEAD, "--config.asynchronous.sampler_devices=4", "--config.mesh.fsdp=4"),
    )
    config.reinforce.steps = 3
    loop.run(config, tmp_path / "run", Console(file=io.StringIO()))
    rows = [r for r in read_rows(tmp_path / "run/metrics.jsonl") if r["kind"] == "train"]
    assert rows[0]["sampler_trainer_gap"] < 1e-4 < rows[2]["sampler_trainer_gap"]
