"""What a lag costs on a task that is learned from nothing, with a correction and without one."""

import dataclasses
import statistics

import pytest

from rljax.benchmarks.ahead import copy_config, learned, train
from rljax.benchmarks.workload import Settings

SETTINGS = Settings(prompts=8, samples=8, new_tokens=8, steps=150)
UNCORRECTED = (
    "--config.rl.objective.denominator=old",
    "--config.asynchronous.allow_uncorrected=True",
)


@pytest.mark.long
def test_a_correction_makes_up_for_lags(tmp_path):
    """AIPO (arXiv:2505.24034): lags of 1 and 4 steps reach what lag 0 does; of 16 it costs more
    without the ratio than with it.
    """
    found = {}
    for name, (lag, words) in {
        "0": (0, ()),
        "1": (1, ()),
        "4": (4, ()),
        "16": (16, ()),
        "16 uncorrected": (16, UNCORRECTED),
    }.items():
        settings = dataclasses.replace(SETTINGS, overrides=words)
        workdir = train(tmp_path, name, copy_config(tmp_path, settings, staleness=lag))
        run = learned(workdir)
        found[name] = run["rewards"]
        assert run["staleness"].get(str(lag), 1.0) > 0.85, "the lag is what was asked for"
    last = {name: statistics.fmean(rewards[-20:]) for name, rewards in found.items()}
    assert last["0"] > 0.9
    assert last["1"] > 0.95 * last["0"] and last["4"] > 0.95 * last["0"]
    # Over the whole run: how soon it is learned counts too.
    whole = {name: statistics.fmean(rewards) for name, rewards in found.items()}
    assert whole["16 uncorrected"] < 0.9 * whole["16"] < whole["4"]
