"""Metric files: exact bytes after a resume, half-written lines, TensorBoard, names."""

from __future__ import annotations

import builtins
import json
import math
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from rljax.reporting import files
from rljax.reporting.writers import (
    GlobalStep,
    JsonlWriter,
    TensorBoardWriter,
    WandbWriter,
    open_writers,
)


def row(stage: str, step: int, **metrics: float) -> dict:
    return {"stage": stage, "step": step, "kind": "train", **metrics}


def write_all(path: Path, rows: list[dict], resume_from=None) -> None:
    writer = JsonlWriter(path, resume_from)
    for entry in rows:
        writer.write(entry)
    writer.close()


def read_events(folder: Path) -> list[event_pb2.Event]:
    """Parses TFRecords: length (u64), its checksum (u32), the event, its checksum (u32)."""
    events = []
    for path in sorted(folder.glob("events.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            events.append(event_pb2.Event.FromString(data[at + 12 : at + 12 + length]))
            at += length + 16
    return events


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    return [
        (value.tag, event.step, value.simple_value)
        for event in read_events(folder)
        for value in event.summary.value
    ]


def test_jsonl_round_trips_every_float_exactly(tmp_path):
    values = [0.1, 1 / 3, 1e-310, 2.0**70, -0.0, float(np.float32(0.7)), math.pi]
    path = tmp_path / "metrics.jsonl"
    write_all(path, [row("grpo", i + 1, loss=value) for i, value in enumerate(values)])
    found = [entry["loss"] for entry in files.read_rows(path)]
    assert [v.hex() for v in found] == [v.hex() for v in values]


def test_jsonl_takes_array_scalars_and_keeps_the_file_valid_json(tmp_path):
    path = tmp_path / "metrics.jsonl"
    numbers = {"a": np.float32(0.5), "b": np.int64(3), "c": np.array(2.5), "d": np.float64("nan")}
    write_all(path, [row("grpo", 1, **numbers, e=float("-inf"))])

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads(path.read_text(), parse_constant=refuse)
    assert [found[name] for name in "abcde"] == [0.5, 3, 2.5, "nan", "-inf"]
    assert math.isnan(files.number(found["d"])) and files.number(found["e"]) == -math.inf


def test_jsonl_refuses_what_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="object"):
        JsonlWriter(tmp_path / "metrics.jsonl").write(row("grpo", 1, loss=object()))


ROWS = [row("warmup", 1, loss=0.1), row("warmup", 2, loss=0.2)] + [
    row("grpo", step, loss=step / 7) for step in (1, 2, 3, 4)
]


@pytest.mark.parametrize(
    "resume_from, kept",
    [
        ({"warmup": 2, "grpo": 2}, 4),
        ({"warmup": 1}, 1),
        ({}, 0),
        (None, 6),
        (lambda entry: entry["stage"] == "warmup" or entry["step"] < 4, 5),
    ],
)
def test_resume_cuts_the_rows_after_the_checkpoint(tmp_path, resume_from, kept):
    path = tmp_path / "metrics.jsonl"
    write_all(path, ROWS)
    whole = path.read_bytes()
    JsonlWriter(path, resume_from).close()
    assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:kept])
    write_all(path, ROWS[kept:])
    assert path.read_bytes() == whole


def test_resume_never_leaves_a_shorter_file_when_it_is_killed_while_cutting(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    write_all(path, ROWS)
    whole = path.read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        JsonlWriter(path, {"warmup": 1})
    assert path.read_bytes() == whole
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_half_written_last_line_is_dropped_and_the_rest_continues(tmp_path, cut):
    path = tmp_path / "metrics.jsonl"
    write_all(path, ROWS)
    whole = path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    path.write_bytes(whole[: max(len(whole) - cut, len(whole) - last)])
    complete = [entry["step"] for entry in files.read_rows(path)]
    assert complete in ([1, 2, 1, 2, 3], [1, 2, 1, 2, 3, 4])  # only the line end may be missing
    write_all(path, ROWS[len(complete) :])
    assert path.read_bytes() == whole


def test_a_damaged_line_in_the_middle_is_an_error_with_its_number(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"stage": "grpo", "step": 1}\n{"stage": "gr\n{"stage": "grpo", "step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2 is not valid JSON"):
        files.read_rows(path)


def test_timing_goes_to_its_own_file_and_all_to_tensorboard(tmp_path):
    with open_writers(tmp_path) as writer:
        writer.write(row("grpo", 1, reward=0.25))
        writer.write({"stage": "grpo", "step": 1, "kind": "timing", "sampling": 1.5})
        writer.write({"stage": "grpo", "step": 1, "kind": "heldout", "pass@1": 0.75})
    assert [r["kind"] for r in files.read_rows(tmp_path / "metrics.jsonl")] == ["train", "heldout"]
    assert [r["sampling"] for r in files.read_rows(tmp_path / "timing.jsonl")] == [1.5]
    assert [(tag, value) for tag, _, value in scalars(tmp_path / "tensorboard")] == [
        ("grpo/reward", 0.25),
        ("grpo/timing/sampling", 1.5),
        ("grpo/heldout/pass_1", 0.75),  # TensorBoard knows no "@" in a tag
    ]


def test_tensorboard_steps_grow_across_stages_also_after_a_resume(tmp_path):
    with open_writers(tmp_path) as writer:
        for entry in ROWS:
            writer.write(entry)
    assert [step for _, step, _ in scalars(tmp_path / "tensorboard")] == [1, 2, 3, 4, 5, 6]
    with open_writers(tmp_path, resume_from={"warmup": 2, "grpo": 2}) as writer:
        for entry in ROWS[4:]:
            writer.write(entry)
    events = read_events(tmp_path / "tensorboard")
    starts = [e.step for e in events if e.session_log.status == event_pb2.SessionLog.START]
    assert starts == [5]  # TensorBoard discards what the first process wrote from here on
    assert sorted(s for _, s, _ in scalars(tmp_path / "tensorboard")) == [1, 2, 3, 4, 5, 5, 6, 6]


def live(folder: Path) -> list[tuple[str, int, float]]:
    """The scalars that TensorBoard shows: a START event voids earlier ones from its step on."""
    shown: list[tuple[str, int, float]] = []
    for event in read_events(folder):
        if event.session_log.status == event_pb2.SessionLog.START:
            shown = [scalar for scalar in shown if scalar[1] < event.step]
        shown += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
    return shown


@pytest.mark.parametrize("kept", [{}, {"warmup": 0}, {"warmup": 1}, {"warmup": 2, "grpo": 2}])
def test_tensorboard_shows_no_step_twice_wherever_the_run_was_killed(tmp_path, kept):
    start = {"stage": "warmup", "step": 0, "kind": "heldout", "accuracy_greedy": 0.25}
    rows = [start, *ROWS]
    if kept == {"warmup": 0}:  # nothing is kept but the evaluation before the first step
        rows = rows[:4]
    with open_writers(tmp_path, resume_from={}) as writer:
        for entry in rows:
            writer.write(entry)
    whole = live(tmp_path / "tensorboard")
    assert len(whole) == len(rows)
    with open_writers(tmp_path, resume_from=kept) as writer:
        done = files.read_rows(tmp_path / files.METRICS_FILE)
        for entry in rows[len(done) :]:
            writer.write(entry)
    assert live(tmp_path / "tensorboard") == whole


def test_global_step_of_an_evaluation_before_the_first_step():
    number = GlobalStep()
    assert [number(row("a", 3)), number(row("b", 0)), number(row("b", 1))] == [3, 3, 4]


def test_tensorboard_writer_alone(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    writer.write(row("dpo", 1, loss=0.5, note="text is no scalar"))
    writer.close()
    assert scalars(tmp_path) == [("dpo/loss", 1, 0.5)]


def test_unknown_writer_names_the_field_and_the_nearest_spelling(tmp_path):
    with pytest.raises(ValueError, match=r"'tensorbord'.*config\.reporting.*mean 'tensorboard'"):
        open_writers(tmp_path / "new", ("jsonl", "tensorbord"))
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="lack 'jsonl'"):
        open_writers(tmp_path, ("tensorboard",))


def test_open_writers_hands_the_project_to_wandb(tmp_path, monkeypatch):
    calls = []

    class Run:
        def define_metric(self, *args, **kwargs): ...

        def finish(self): ...

    class Module:
        @staticmethod
        def init(**kwargs):
            calls.append(kwargs)
            return Run()

    monkeypatch.setitem(__import__("sys").modules, "wandb", Module)
    open_writers(tmp_path, ("jsonl", "wandb"), config={"seed": 1}, project="sums").close()
    open_writers(tmp_path, ("jsonl", "wandb")).close()
    assert [call["project"] for call in calls] == ["sums", "rljax"]
    assert calls[0]["config"] == {"seed": 1}


def test_missing_wandb_says_how_to_get_it(tmp_path, monkeypatch):
    load = builtins.__import__

    def without_wandb(name, *rest):
        if name == "wandb":
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_wandb)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[wandb\]'"):
        WandbWriter(tmp_path)


def test_wandb_resumes_under_the_same_id(tmp_path, monkeypatch):
    calls, logged = [], []

    class Run:
        def define_metric(self, *args, **kwargs): ...

        def log(self, values):
            logged.append(values)

        def finish(self): ...

    class Module:
        @staticmethod
        def init(**kwargs):
            calls.append(kwargs)
            return Run()

    monkeypatch.setitem(__import__("sys").modules, "wandb", Module)
    for kept in ((), [row("warmup", 2)]):
        writer = WandbWriter(tmp_path, kept)
        writer.write(row("grpo", 1, loss=0.5))
        writer.close()
    assert calls[0]["id"] == calls[1]["id"] and calls[1]["resume"] == "allow"
    assert logged == [{"global_step": 1, "grpo/loss": 0.5}, {"global_step": 3, "grpo/loss": 0.5}]


def test_a_file_that_appears_whole_has_the_permissions_of_any_other(tmp_path, monkeypatch):
    """And the process keeps its umask meanwhile: other threads make files, too."""
    (tmp_path / "plain").write_text("")
    monkeypatch.setattr(os, "umask", None)
    files.write_json_atomic(tmp_path / "whole", {})
    modes = {(tmp_path / name).stat().st_mode for name in ("plain", "whole")}
    assert len(modes) == 1
