"""Workloads of xpk."""

import pytest

from rljax.pods.machines import read_slice
from rljax.pods.xpk import XpkSettings, xpk_steps
from rljax.processes.identity import identify
from rljax.processes.settings import Settings
from tests.pods.scripts import TRAIN, environment_after, refused

BIG = "v6e:4x8"


def test_xpk_takes_the_same_script(tmp_path):
    settings = XpkSettings(
        read_slice("v5e:8x8"), "image", "cluster", slices=2, directory=str(tmp_path)
    )
    (step,) = xpk_steps("grpo", TRAIN, settings)
    flags = dict(word[2:].split("=", 1) for word in step.commands[0].words if "=" in word)
    assert flags["tpu-type"] == "v5litepod-64" and flags["num-slices"] == "2"
    assert flags["restart-on-exit-codes"] == "75"
    environ = {
        "TPU_WORKER_ID": "3",
        "TPU_WORKER_HOSTNAMES": ",".join(f"w{i}" for i in range(16)),
        "MEGASCALE_NUM_SLICES": "2",
        "MEGASCALE_SLICE_ID": "1",
        "MEGASCALE_COORDINATOR_ADDRESS": "w0:8080",
    }
    said, inside, _ = environment_after(flags["command"], environ, tmp_path)
    assert identify(Settings(), inside)[:4] == (19, 32, "w0", 8476) and len(said) == 2


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: xpk_steps("a" * 41, TRAIN, XpkSettings(read_slice(BIG), "i", "c")), "may have 40"),
    ],
)
def test_bad_input_is_told_in_one_line(make, message):
    refused(make, message)
