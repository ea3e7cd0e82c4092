"""Runs of made-up methods whose curves are known."""

from __future__ import annotations

import numpy as np
import pytest

from rljax.comparison import MethodRuns


def build(method: str = "grpo", final=(0.5, 0.6, 0.7, 0.8), *, seeds=None, **changes) -> MethodRuns:
    """Accuracy rises on a line from 0 to `final` over steps 0, 10, 20; 100 tokens a step."""
    final = np.asarray(final, np.float64)
    seeds = np.arange(len(final)) if seeds is None else np.asarray(seeds)
    steps = np.array([0, 10, 20])
    logged = np.arange(1, 21)
    fields = dict(
        method=method,
        seeds=seeds,
        steps=steps,
        accuracy=final[:, None] * steps / 20,
        tokens=np.tile(100.0 * steps, (len(final), 1)),
        updates=2 * steps,
        metric_steps=logged,
        reward=final[:, None] * logged / 20,
        seconds=12.0,
        seconds_per_step=0.5,
        metrics={"entropy": np.tile(2.0 - logged / 20, (len(final), 1))},
    )
    return MethodRuns(**(fields | changes))


@pytest.fixture
def make_runs():
    return build
