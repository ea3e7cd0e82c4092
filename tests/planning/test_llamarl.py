"""LlamaRL's theory against its sheet, and against hand counts."""

import dataclasses

import numpy as np
import pytest

from rljax.models.config import ModelConfig
from rljax.planning.llamarl import (
    H100,
    PAPER,
    Setting,
    activation_bytes,
    alone,
    best_share,
    compare,
    gathered_seconds,
    in_turns,
    reduced_seconds,
    sampling_seconds,
    seconds_ahead,
    training_seconds,
)

MODEL = ModelConfig(
    vocab_size=1000, layers=2, width=64, heads=4, kv_heads=2, head_dim=16, mlp_width=128
)
SMALL = Setting(MODEL, devices=16, samples=64, prompt=8, new=8)


def test_the_speedups_are_those_of_the_paper():
    speedups = {name: each.speedup for name, each in PAPER.items()}
    assert speedups == pytest.approx({"8B": 2.52, "70B": 3.98, "405B": 10.7}, rel=2e-3)


@pytest.mark.parametrize(("training", "sampling"), [(3.0, 1.0), (0.2, 5.0), (2.0, 2.0)])
def test_the_best_share_makes_a_step_of_both_phases_together(training, sampling):
    """min over theta of max(A / theta, C / (1 - theta)) = A + C at theta = A / (A + C)."""
    share = best_share(training, sampling)
    assert seconds_ahead(training, sampling, share) == pytest.approx(training + sampling)
    tried = [seconds_ahead(training, sampling, s) for s in np.linspace(0.001, 0.999, 999)]
    assert min(tried) >= training + sampling - 1e-9


def test_exchanges_of_a_group():
    # Two layers, two all-reduces each, of 64 numbers of 2 bytes for a token, over a node's links.
    bytes_each = 2 * 64 * 10
    expected = 3 * 2 * 2 * 2 * (3 / 4) * bytes_each / H100.link
    assert reduced_seconds(SMALL, 4, 10, passes=3) == pytest.approx(expected)
    across = reduced_seconds(SMALL, 16, 10, passes=3) / reduced_seconds(SMALL, 4, 10, passes=3)
    assert across == pytest.approx((15 / 16) / (3 / 4) * H100.link / H100.network)
    assert reduced_seconds(SMALL, 1, 10, passes=3) == gathered_seconds(SMALL, 1, passes=4) == 0


def test_a_sample_costs_less_in_a_larger_batch():
    for eta in (training_seconds, sampling_seconds):
        assert eta(SMALL, 1, 2) < eta(SMALL, 1, 1)


def test_side_by_side_is_never_slower_than_in_turns():
    for name in PAPER:
        row = compare(name)
        assert row["bound"] >= 1 and row["ahead"] >= row["turns"] / row["bound"] - 1e-9


def test_memory_that_binds_makes_the_gain():
    """With memory for all, both phases choose in turns what they choose alone."""
    one = dataclasses.replace(SMALL, devices=1, samples=8)
    together = alone(one, trains=True).seconds + alone(one, trains=False).seconds
    assert in_turns(one).seconds == pytest.approx(together)
    # Memory for the weights and only one sample of each phase.
    weights = 18 * (2 * (64 * (8 + 4) * 16 + 3 * 64 * 128) + 64 * 1000)
    cache = 2 * 2 * 16 * 2 * 2 * 16
    tight = dataclasses.replace(H100, memory=weights + activation_bytes(one) + cache)
    bound = dataclasses.replace(one, device=tight)
    assert in_turns(bound).held == 1
    together = alone(bound, trains=True).seconds + alone(bound, trains=False).seconds
    assert in_turns(bound).seconds > 1.2 * together


def test_a_model_that_no_group_holds_is_an_error():
    none = dataclasses.replace(H100, memory=1000.0)
    with pytest.raises(ValueError, match="16 devices of 0 GB do not hold the model"):
        in_turns(dataclasses.replace(SMALL, device=none))
