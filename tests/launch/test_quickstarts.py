"""The quickstarts reach the figures that their config files promise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "config, at_most_before, at_least_after",
    [
        ("quickstart", 0.40, 0.85),
        ("quickstart_dpo", 0.40, 0.80),
        ("quickstart_jepo", 0.40, 0.80),
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
    page = (tmp_path / "report.html").read_text()
    assert "Rollouts" in page or config == "quickstart_dpo"
