import random
from collections import deque

import pytest

from rljax.training.collect.staleness import (
    Flow,
    capacity,
    fresh,
    may_submit,
    oldest_first,
    pending_limit,
    resumed,
    samples_per_sync,
)

BATCH = 4


def simulate(max_lag, *, max_running=64, updates=40, flow=None):
    """Lags of what is trained and the most samples that were ahead of the updates.

    Samples take a random time and are trained in the order of their admission.
    """
    rng, flow, time = random.Random(0), flow or Flow(), 0
    running, done, lags, ahead = deque(), deque(), [], 0
    last = flow.version + updates
    while flow.version < last:
        room = max(0, capacity(flow, batch=BATCH, max_lag=max_lag, max_running=max_running))
        running.extend((flow.version, time + rng.randint(1, 30)) for _ in range(room))
        flow = flow.admitted(room)
        ahead = max(ahead, flow.accepted + flow.running - flow.version * BATCH)
        assert flow.running <= max_running
        time += 1
        while running and running[0][1] <= time:
            done.append(running.popleft())
            flow = flow.finished(1)
        if len(done) >= BATCH:
            lags += [flow.version - done.popleft()[0] for _ in range(BATCH)]
            flow = flow.trained()
    return lags, ahead


@pytest.mark.parametrize("max_lag", [0, 1, 4])
@pytest.mark.parametrize("max_running", [3, 64])
def test_nothing_older_than_the_limit_is_ever_trained(max_lag, max_running):
    lags, ahead = simulate(max_lag, max_running=max_running)
    assert max(lags) <= max_lag
    assert ahead <= (max_lag + 1) * BATCH
    if max_running > 32:
        assert max(lags) == max_lag  # the room is used


def test_synchronous_never_admits_more_than_a_batch_ahead():
    lags, ahead = simulate(0)
    assert ahead == BATCH and set(lags) == {0}


def test_a_continued_run_starts_no_burst():
    lags, ahead = simulate(1, flow=resumed(100, batch=BATCH))
    assert max(lags) <= 1 and ahead <= 2 * BATCH
    burst = capacity(Flow(version=100), batch=BATCH, max_lag=1, max_running=999)
    assert burst == 102 * BATCH  # what forgetting the accepted ones would admit at once


def test_capacity_by_hand():
    flow = Flow(version=2, accepted=9, running=4)
    assert capacity(flow, batch=4, max_lag=1, max_running=100) == 3  # 16 - 13
    assert capacity(flow, batch=4, max_lag=1, max_running=5) == 1
    assert capacity(flow, batch=4, max_lag=0, max_running=100) == -1
    assert capacity(Flow(), batch=4, max_lag=0, max_running=0) == 1  # one at least
    # What is rejected makes room without being counted as accepted.
    rejected = flow.finished(accepted=1, rejected=2)
    assert rejected == Flow(version=2, accepted=10, running=1)
    assert capacity(rejected, batch=4, max_lag=1, max_running=100) == 5


@pytest.mark.parametrize("max_lag", [0, 1, 3])
def test_the_rule_of_the_paper_admits_as_many(max_lag):
    for version in range(3):
        admitted = 0
        while may_submit(admitted, version, batch=BATCH, max_lag=max_lag):
            admitted += 1
        assert admitted == capacity(
            Flow(version=version), batch=BATCH, max_lag=max_lag, max_running=10**6
        )
    assert pending_limit(batch=BATCH, max_lag=max_lag) == (max_lag + 1) * BATCH


def test_groups_are_dropped_whole():
    versions, groups = [5, 1, 4, 5, 3, 9], ["a", "a", "b", "b", "c", "d"]
    young = fresh(versions, groups, version=9, max_lag=5)
    assert young == [False, False, True, True, False, True]
    assert fresh(versions, groups, version=9, max_lag=8) == [True] * 6
    with pytest.raises(ValueError, match="Version 8 cannot train on samples of 9"):
        fresh(versions, groups, version=8, max_lag=5)
    with pytest.raises(ValueError, match="6 versions but 1 group_ids"):
        fresh(versions, ["a"], version=9, max_lag=5)


def test_the_oldest_are_trained_first():
    assert oldest_first([3, 1, 2, 1], 3) == [1, 3, 2]
    with pytest.raises(ValueError, match="5 samples wanted, 4 are there"):
        oldest_first([3, 1, 2, 1], 5)


def test_samples_between_transfers():
    sizes = dict(mini_batch=16, batches_per_sync=2, updates_per_sync=4)
    assert samples_per_sync(**sizes, staleness=0.0, left_over=0) == 128
    assert samples_per_sync(**sizes, staleness=0.5, left_over=64) == 128
    assert samples_per_sync(**sizes, staleness=0.0, left_over=200) == 0
    with pytest.raises(ValueError, match="staleness is -1"):
        samples_per_sync(**sizes, staleness=-1, left_over=0)


def test_errors():
    with pytest.raises(ValueError, match="batch is 0"):
        capacity(Flow(), batch=0, max_lag=1, max_running=1)
    with pytest.raises(ValueError, match="max_lag is -1"):
        may_submit(0, 0, batch=1, max_lag=-1)
