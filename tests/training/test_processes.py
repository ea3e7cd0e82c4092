"""The same runs by one process, by two and by four, and continued by another number of them."""

import functools
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rljax.training.ahead.events import EVENTS_FILE
from tests.training.tiny_config import DATA, write_data

ROOT = Path(__file__).parents[2]
STEPS = 20
OVERRIDES = [
    "--config.evaluation.every_steps=0",
    "--config.checkpoint.every_steps=10",
    "--config.checkpoint.keep=2",
]
# The stages of `:many` that are compared over so many steps. Each starts from the warm-up: along a
# chain differences of rounding grow. A stage of pairs of a file follows the one of sampled pairs. A
# reward model is left out: Adam's first steps on gradients near zero make more than 1e-4 of the
# last bits of a sum.
METHODS = ("grpo", "dpo", "jepo", "ppo")
MANY = ("grpo", "dpo", "dpo_file", "jepo", "ppo")
# What is sampled, scored or placed in another way: overrides of the variant grpo, for a few steps.
KINDS = {
    "evolution": (
        *("grpo.method=eggroll", "grpo.objective.sigma=0.02", "grpo.optimizer.name=sgd"),
        *("grpo.optimizer.clip_norm=0.0", "grpo.batch.sequences_per_update=None"),
    ),
    "greedy baseline": ("grpo.method=remax", "grpo.batch.sequences_per_update=None"),
    "windows": ("grpo.method=t_ppo", "grpo.objective.window_tokens=3"),
    "trees": (
        *("grpo.method=spo_tree", "grpo.objective.branching=(2, 2)"),
        *("grpo.objective.segment_tokens=3", "grpo.batch.sequences_per_update=4"),
    ),
    "values of prefixes": ("grpo.method=vineppo",),
    "adapters": ("model.lora.rank=2", "model.lora.kind=lora_sb", "mesh.data=1", "mesh.fsdp=4"),
    "a mesh of the sampler": ("mesh.data=1", "mesh.fsdp=4", "sampler.mesh.tensor=2"),
}
# A sampler ahead: on the trainer's devices in turn, on others of its own, and in pieces.
AHEAD = ("grpo.objective.correction=truncated", "scoring.workers=1")
AHEADS = {
    "in turn": (
        *(*AHEAD, "asynchronous.max_staleness=2", "sampler.mesh.tensor=2"),
        "asynchronous.transfer=storage",
    ),
    "devices of its own": (
        *(*AHEAD, "asynchronous.max_staleness=2", "asynchronous.sampler_devices=2"),
        *("asynchronous.partial_tokens=4", "mesh.data=1", "mesh.fsdp=2", "sampler.mesh.tensor=2"),
    ),
}
# By the newest weights that are there, which timing decides.
LATEST = (
    *(*AHEAD, "asynchronous.max_staleness=1", "asynchronous.schedule=latest"),
    *("asynchronous.sampler_devices=2", "asynchronous.transfer=host", "mesh.data=1", "mesh.fsdp=2"),
    *("asynchronous.partial_tokens=4", "sampler.mesh.data=2"),
)
# Differences of rounding themselves, in nats; nothing is left of them to compare.
OF_ROUNDING = "sampler_trainer_"
# Signed means of differences between numbers of order one. They cancel to a few thousandths, and
# what is left carries the rounding of those numbers: 1e-5 is a tenth of 1e-4 of them.
OF_CANCELLATION = ("kl_to_start_k1", "explained_variance", "reward_chosen", "reward_rejected")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_data(folder)
    return folder


def train(data, workdir, processes, devices, words=(), flags=(), variant="grpo"):
    """Trains by so many processes with so many devices each."""
    overrides = [*OVERRIDES, *(f"--config.{word}" for word in words)]
    hosts = [f"--processes={processes}", f"--devices={devices}", "--"]
    config = f"--config={ROOT / 'tests/training/tiny_config.py'}:{variant}"
    train = ["launch/train.py", config, f"--workdir={workdir}", *overrides, *flags]
    finished = subprocess.run(
        [sys.executable, "launch/hosts.py", *hosts, *train],
        cwd=ROOT,
        env={**os.environ, DATA: str(data), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert finished.returncode == 0, finished.stdout[-3000:] + finished.stderr[-3000:]


def train_many(data, workdir, processes, devices):
    """All of `METHODS`, one after the other."""
    words = [f"{method}.steps={STEPS}" for method in METHODS]
    words += [f"dpo_file.data.reference_cache={cache_of(workdir)}"]
    train(data, workdir, processes, devices, words, variant="many")


def cache_of(workdir):
    """Where a run keeps what the reference says of a file."""
    return workdir.with_name(f"{workdir.name}-cache")


def go_back(workdir, stage, step):
    """Takes the end of the last stage away: the run goes on after the step before."""
    shutil.rmtree(workdir / "checkpoints" / stage / str(step))
    (workdir / "summary.json").unlink()


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def texts(workdir, stages):
    """What was sampled in the recorded steps of some stages, token by token."""
    found = {}
    for path in sorted((workdir / "rollouts").glob("*.json")):
        record = json.loads(path.read_text())
        if record["stage"] in stages:
            found[path.name] = [
                (prompt["prompt"], sample["text"], sample["tokens"])
                for prompt in record["prompts"]
                for sample in prompt["samples"]
            ]
    assert found
    return found


def agree(name, value, other):
    if isinstance(value, str) or name == "step":
        return value == other
    least = 1e-5 if name in OF_CANCELLATION else 1e-6
    return name.startswith(OF_ROUNDING) or math.isclose(value, other, rel_tol=1e-4, abs_tol=least)


def assert_same_run(one, other, stages=("warmup", "grpo")):
    assert texts(one, stages) == texts(other, stages)
    pair = [[row for row in rows(each) if row["stage"] in stages] for each in (one, other)]
    assert pair[0]
    for row, same in zip(*pair, strict=True):
        assert row.keys() == same.keys()
        apart = {
            name: (row[name], same[name]) for name in row if not agree(name, row[name], same[name])
        }
        assert not apart, f"{row['stage']} {row['step']}"


def assert_same_cache(one, other):
    """Written once, by the first process; the model's own bits, and so the address, may differ."""
    (one,), (other,) = list(one.iterdir()), list(other.iterdir())
    names = ["cache.json", "ref_sequence_logprobs.npy", "rows.npy"]
    assert sorted(path.name for path in other.iterdir()) == names
    kept, same = (np.load(folder / "ref_sequence_logprobs.npy") for folder in (one, other))
    assert kept.shape == (55, 2) and (kept < 0).all()  # of all pairs of the file
    np.testing.assert_allclose(same, kept, rtol=1e-4)
    assert (one / "rows.npy").read_bytes() == (other / "rows.npy").read_bytes()


def events_of(workdir):
    """The event log by steps: what is drawn beside an update is written before or after it."""
    events = map(json.loads, (workdir / EVENTS_FILE).read_text().splitlines())
    return sorted(events, key=lambda row: (row["stage"], row["step"], row["event"]))


def order_of(workdir):
    """The events without digests, which see the last bits of log-probabilities."""
    return [
        {name: value for name, value in row.items() if name != "samples"}
        for row in events_of(workdir)
    ]


@pytest.fixture(scope="module")
def many(data, tmp_path_factory):
    """many(processes, devices): the workdir of a run of all methods."""

    @functools.cache
    def run(processes, devices):
        workdir = tmp_path_factory.mktemp("many") / f"{processes}x{devices}"
        train_many(data, workdir, processes, devices)
        return workdir

    return run


@pytest.mark.slow
def test_two_processes_change_nothing(many):
    alone, two = many(1, 4), many(2, 2)
    stages = {row["stage"]: row["step"] for row in rows(alone)}
    assert stages == {"warmup": 12, **dict.fromkeys(METHODS, STEPS), "dpo_file": 5}
    assert_same_run(alone, two, stages)
    assert_same_cache(cache_of(alone), cache_of(two))


@pytest.fixture(scope="module")
def four(data, tmp_path_factory):
    """The workdir of a run of GRPO alone by four processes."""
    workdir = tmp_path_factory.mktemp("four") / "run"
    train(data, workdir, 4, 1, [f"grpo.steps={STEPS}"])
    return workdir


@pytest.mark.slow
def test_four_processes_change_nothing(many, four):
    assert_same_run(many(1, 4), four)


@pytest.mark.long
def test_four_processes_change_nothing_whatever_the_method(many):
    assert_same_run(many(1, 4), many(4, 1), ("warmup", *MANY))
    assert_same_cache(cache_of(many(1, 4)), cache_of(many(4, 1)))


@pytest.mark.parametrize(
    "processes, devices",
    [
        pytest.param(1, 4, marks=pytest.mark.long),
        pytest.param(2, 1, marks=pytest.mark.slow),
    ],
)
def test_others_continue(data, many, four, tmp_path, processes, devices):
    """From the checkpoint in the middle, by another number of processes, or on fewer devices."""
    part = tmp_path / "part"
    shutil.copytree(four, part)
    go_back(part, "grpo", STEPS)
    train(data, part, processes, devices, [f"grpo.steps={STEPS}"])
    assert (part / "summary.json").exists()
    assert_same_run(many(1, 4), part)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_do_the_same_whatever_a_step_is_made_of(data, tmp_path, kind):
    for name, processes, devices in (("alone", 1, 4), ("two", 2, 2)):
        train(data, tmp_path / name, processes, devices, ("grpo.steps=4", *KINDS[kind]))
    assert_same_run(tmp_path / "alone", tmp_path / "two")


# Who goes on: a process with fewer devices, and one with all of them.
@pytest.mark.slow
@pytest.mark.parametrize("kind, devices", [("in turn", 2), ("devices of its own", 4)])
def test_two_processes_sample_ahead_as_one_does(data, tmp_path, kind, devices):
    """The same samples of the same weights; and continued with its queue by one process alone."""
    whole, two = tmp_path / "alone", tmp_path / "two"
    words = (*AHEADS[kind], "checkpoint.every_steps=3", "grpo.steps=6")
    train(data, whole, 1, 4, words)
    train(data, two, 2, 2, words)
    assert order_of(two) == order_of(whole)
    assert_same_run(whole, two)
    assert not (two / "weights").exists()  # of transfer=storage
    go_back(two, "grpo", 6)
    train(data, two, 1, devices, words)
    assert order_of(two) == order_of(whole)
    assert_same_run(whole, two)


@pytest.mark.slow
def test_two_processes_agree_on_the_newest_weights(data, tmp_path):
    train(data, tmp_path / "two", 2, 2, ("grpo.steps=6", *LATEST))
    trained = [row for row in rows(tmp_path / "two") if row["stage"] == "grpo" and "loss" in row]
    assert len(trained) == 6 and max(row["staleness_max"] for row in trained) <= 1
    drawn = [row for row in order_of(tmp_path / "two") if row["event"] == "drawn"]
    assert [row["step"] for row in drawn] == [1, 2, 3, 4, 5, 6]
    weights = [step for row in drawn for step in row["weights"]]
    assert weights == sorted(weights) and max(weights) >= 4


@pytest.mark.long
def test_two_processes_replay_what_timing_decided(data, tmp_path):
    """The same samples of the same weights, and the same parameters, or the run refuses."""
    for name, more in (("first", ()), ("again", (f"--replay={tmp_path / 'first'}",))):
        train(data, tmp_path / name, 2, 2, ("grpo.steps=6", *LATEST), more)
    assert order_of(tmp_path / "first") == order_of(tmp_path / "again")
