"""What goes to disk comes back; what cannot be is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rljax.comparison import load, load_all, save
from rljax.comparison.runs import file_stem, find


def test_saved_runs_come_back_bit_by_bit(make_runs, tmp_path):
    entropy = np.full((4, 20), 1 / 3)
    entropy[1, 3] = np.nan
    runs = make_runs(
        "dapo", point={"clip_high": 0.28, "kl": "none"}, metrics={"entropy": entropy}, seconds=1 / 3
    )
    path = save(runs, tmp_path / "methods")
    assert {file.suffix for file in path.parent.iterdir()} == {".json", ".npz"}
    back = load(path)
    assert back.label == runs.label == "dapo clip_high=0.28 kl=none"
    assert back.seconds == 1 / 3 and back.point == {"clip_high": 0.28, "kl": "none"}
    for name in ("seeds", "steps", "accuracy", "tokens", "updates", "metric_steps", "reward"):
        np.testing.assert_array_equal(getattr(back, name), getattr(runs, name))
    np.testing.assert_array_equal(back.metrics["entropy"], entropy)


def test_all_methods_of_a_folder_come_by_label(make_runs, tmp_path):
    for run in (make_runs("rloo"), make_runs("grpo", point={"a": 2}), make_runs("grpo")):
        save(run, tmp_path)
    assert [run.label for run in load_all(tmp_path)] == ["grpo", "grpo a=2", "rloo"]


def test_labels_that_look_alike_as_file_names_stay_apart():
    labels = ["grpo a=1", "grpo,a=1", "grpo/a=1", "grpo a=(1, 2)", "../x"]
    stems = [file_stem(label) for label in labels]
    assert len(set(stems)) == len(labels)
    assert not any("/" in stem or " " in stem for stem in stems)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(accuracy=np.ones((4, 2))), r"accuracy has shape \(4, 2\).*need \(4, 3\)"),
        (dict(accuracy=np.full((4, 3), np.nan)), "accuracy must be within"),
        (dict(accuracy=np.full((4, 3), 1.5)), "accuracy must be within"),
        (dict(tokens=np.tile([3.0, 2.0, 1.0], (4, 1))), "tokens must count up"),
        (dict(updates=[0, 1]), r"updates has shape \(2,\).*need \(3,\)"),
        (dict(steps=[0, 20, 10]), "steps must ascend"),
        (dict(seeds=[0, 1, 1, 2]), "seeds must differ"),
        (dict(seconds=-1.0), "seconds must be 0 or more"),
        (dict(metrics={"kl": np.ones((4, 3))}), r"metrics\['kl'\].*need \(4, 20\)"),
    ],
)
def test_what_cannot_be_is_refused(make_runs, changes, message):
    with pytest.raises(ValueError, match=message):
        make_runs(**changes)


def test_damaged_files_are_named(make_runs, tmp_path):
    path = save(make_runs(), tmp_path)
    path.write_text(json.dumps({"method": "grpo", "metrics": ["kl"]}))
    with pytest.raises(ValueError, match="grpo.json is not complete"):
        load(path)
    path.with_suffix(".npz").unlink()
    with pytest.raises(ValueError, match="both be there"):
        load(path)


def test_a_method_is_found_by_label_or_when_it_has_one_point(make_runs):
    runs = [make_runs("grpo", point={"a": 1}), make_runs("grpo", point={"a": 2}), make_runs("rloo")]
    assert find(runs, "rloo", "baseline") is runs[2]
    assert find(runs, "grpo a=2", "baseline") is runs[1]
    with pytest.raises(ValueError, match="2 settings"):
        find(runs, "grpo", "baseline")
    with pytest.raises(ValueError, match="baseline.*Did you mean 'rloo'"):
        find(runs, "rlo", "baseline")
