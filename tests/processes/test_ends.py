"""Which end counts for all, and when a process counts as hung."""

import pytest

from rljax.commands.statuses import Status
from rljax.processes.comparison import differences
from rljax.processes.ends import SETTLE_SECONDS, End, deciding_end
from rljax.processes.local import Plan, environment_of, said, status_of_all
from rljax.processes.watchdog import Watchdog

DONE = [End(i, Status.DONE, "done") for i in range(3)]
STOPPED = [End(i, Status.TERMINATED, "asked") for i in range(3)]
LOST = End(1, Status.RESTART, "lost", lost=True)
HUNG = End(2, Status.RESTART, "hung")
WRONG = End(0, Status.FAILED, "error: x")
FAULT = End(2, Status.FAULT, "KeyError")
LATE = SETTLE_SECONDS


@pytest.mark.parametrize(
    "ends, failed_seconds, awaited, expected",
    [
        ([], 0, {1}, None),
        (DONE[:2], 0, (), None),
        (DONE, 0, (), DONE[0]),
        (STOPPED, 0, (), STOPPED[0]),
        (STOPPED[:2], 0, {2}, None),  # it still saves
        (STOPPED[:1], 0, {0}, STOPPED[0]),  # others wait for it in vain
        ([LOST], LATE / 2, (), None),  # who knows what else is said
        ([LOST], LATE, (), LOST),
        ([FAULT, LOST], LATE, (), LOST),  # what others saw of it came first
        ([LOST, WRONG], LATE, (), WRONG),
        ([FAULT, LOST, WRONG], 0, (), WRONG),  # all have ended: nothing to wait for
        ([HUNG, LOST], LATE, (), LOST),
        ([FAULT, HUNG], LATE, (), HUNG),
        ([DONE[0], FAULT], LATE, (), FAULT),
    ],
)
def test_the_end_that_counts(ends, failed_seconds, awaited, expected):
    found = deciding_end(ends, 3, failed_seconds=failed_seconds, awaited=awaited)
    assert found == expected


def test_a_process_that_is_done_too_early_is_a_fault():
    found = deciding_end(DONE[1:2], 3, failed_seconds=0, awaited={1, 2})
    assert (found.index, found.status) == (1, Status.FAULT) and "waited" in found.reason


@pytest.mark.parametrize(
    "codes, status",
    [
        ([0, 0], 0),
        ([0, 75], 75),
        ([75, 1], 1),
        ([-9, 75], 75),
        ([-6, -9], 75),
        ([70, 75], 70),
        ([70, 1], 1),
        ([143, 143], 143),
        ([143, -15], 143),
        ([-2, -2], 130),
        ([143, 75], 75),
        ([130, 143], 130),
        ([2, 75], 2),
    ],
)
def test_one_status_for_several_processes(codes, status):
    assert status_of_all(codes) == status
    assert said(-9) == "was killed by SIGKILL" and said(3) == "ended with 3"


def test_the_variables_of_a_process():
    plan = Plan(("x",), 2, 3, 9000, 1.0)
    made = environment_of(plan, 1, {"XLA_FLAGS": "--a --xla_force_host_platform_device_count=8"})
    assert made["XLA_FLAGS"] == "--a --xla_force_host_platform_device_count=3"
    assert made["JAX_PLATFORMS"] == "cpu" and made["RLJAX_COORDINATOR"] == "127.0.0.1:9000"
    assert (made["RLJAX_PROCESS_ID"], made["RLJAX_PROCESSES"]) == ("1", "2")
    assert "XLA_FLAGS" not in environment_of(plan._replace(devices=None), 1, {})


def test_a_watchdog_counts_from_beat_to_beat():
    now = [0.0]
    watchdog = Watchdog(10.0, 100.0, clock=lambda: now[0])
    now[0] = 50.0
    assert not watchdog.late()  # the start has no limit
    watchdog.beat("step 1", compiles=True)
    now[0] = 149.0
    assert not watchdog.late() and watchdog.doing() == ("step 1", 99.0)
    watchdog.beat("step 2")
    now[0] = 158.0
    assert not watchdog.late()
    now[0] = 159.0
    assert "'step 2' has taken 10 s" in watchdog.late()
    watchdog.rest("end")
    now[0] = 999.0
    assert not watchdog.late()


def test_a_watchdog_can_be_off():
    now = [0.0]
    watchdog = Watchdog(0.0, 100.0, clock=lambda: now[0])
    watchdog.beat("step", compiles=True)
    now[0] = 1e9
    assert not watchdog.late()


def test_differences_name_who_and_what():
    same = {"a": 1, "b": {"c": [1, 2]}}
    assert differences([same, same, dict(same)]) == []
    found = differences([same, {"a": 2, "b": {"c": [1, 2]}}, same])
    assert found == ["a: 2 on process 1, 1 on the others"]
    found = differences([same, same, {"a": 1}], ["p", "q", "r"])
    assert found == ["b.c: nothing on r, [1, 2] on the others"]
    assert differences([1, 2]) == ["1 on process 0, 2 on process 1"]
    many = differences([{str(i): 0 for i in range(9)}, {str(i): 1 for i in range(9)}])
    assert len(many) == 6 and many[-1] == "4 more"
