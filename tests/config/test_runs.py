"""A run's folder, a stage's folder and a step's folder all name a checkpoint."""

import json

import pytest

from rljax.config.runs import find_run, find_step

CONFIG = {"stages": ["warmup", "rl", "last"], "network": {}, "tokenizer": {}, "model": {}}


@pytest.fixture
def workdir(tmp_path):
    """A run whose last stage has not saved anything yet."""
    for step in ("warmup/9", "rl/2", "rl/10"):
        (tmp_path / "checkpoints" / step / "state").mkdir(parents=True)
    (tmp_path / "checkpoints/last").mkdir()
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


@pytest.mark.parametrize(
    "path, step",
    [
        (".", "rl/10"),
        ("checkpoints/rl", "rl/10"),
        ("checkpoints/rl/2", "rl/2"),
        ("checkpoints/warmup", "warmup/9"),
    ],
)
def test_the_last_step_is_found(workdir, path, step):
    assert find_step(workdir / path) == workdir / "checkpoints" / step
    assert find_run(workdir / path, "--checkpoint") == (workdir / "checkpoints" / step, CONFIG)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"stages": 5}', '{"a": 1}'])
def test_a_damaged_config_is_named(workdir, text):
    (workdir / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json is (damaged|not that of a run)") as caught:
        find_run(workdir / "checkpoints/rl", "--checkpoint")
    assert "\n" not in str(caught.value)


def test_a_folder_without_checkpoints_is_named_with_its_flag(tmp_path):
    with pytest.raises(ValueError, match=r"No checkpoint in .*\(--checkpoint\)"):
        find_step(tmp_path, "--checkpoint")
    with pytest.raises(ValueError, match=r"No checkpoint in .*\(config.model.init_from\)"):
        find_step(tmp_path / "nowhere")
