"""The quickstarts reach the figures that their config files promise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


# test_loop.py runs the long ones in short form in the slow set, and tests of their families learn.
@pytest.mark.parametrize(
    "config, at_most_before, at_least_after",
    [
        pytest.param("quickstart", 0.40, 0.85, marks=pytest.mark.slow),
        pytest.param("quickstart_dpo", 0.40, 0.80, marks=pytest.mark.slow),
        pytest.param("quickstart_jepo", 0.40, 0.80, marks=pytest.mark.long),
        pytest.param("quickstart_diffusion", 0.40, 0.25, marks=pytest.mark.long),
    ],
)
def test_quickstart_reaches_its_figure(tmp_path, config, at_most_before, at_least_after):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment.pop("XLA_FLAGS", None)  # one device, as a user has
    command = [sys.executable, "launch/train.py", f"--config=configs/{config}.py"]
    subprocess.run(
        [*command, f"--workdir={tmp_path}"], cwd=ROOT, env=environment, check=True, timeout=1800
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["heldout_accuracy_before"] <= at_most_before
    assert summary["heldout_accuracy_after"] >= at_least_after
    assert summary["heldout_accuracy_after"] > summary["heldout_accuracy_before"]
    page = (tmp_path / "report.html").read_text()
    assert "Rollouts" in page or config == "quickstart_dpo"


@pytest.mark.slow
def test_the_quickstart_with_a_reward_model_earns_the_gold_reward(tmp_path):
    """PPO never sees the verifier, and gets right by it what its reward model was told of."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment.pop("XLA_FLAGS", None)
    command = [sys.executable, "launch/train.py", "--config=configs/quickstart_rlhf.py"]
    subprocess.run(
        [*command, f"--workdir={tmp_path}"], cwd=ROOT, env=environment, check=True, timeout=1800
    )
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "heldout"]
    last = {row["stage"]: row for row in rows}
    assert last["rm"]["reward_accuracy"] >= 0.97 and last["rm"]["calibration_error"] <= 0.05
    assert last["sft"]["pass@1"] <= 0.55 and last["ppo"]["pass@1"] >= 0.75
