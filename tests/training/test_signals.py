"""A first signal asks, a second one ends; what was ignored stays ignored."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from rljax.processes.processes import Processes
from rljax.training.signals import Stopped, StopSignal

pytestmark = pytest.mark.contract


@pytest.fixture
def heeded():
    """A test session in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_kept_until_it_is_asked_for(number, heeded, capfd):
    before = signal.getsignal(number)
    with StopSignal().installed() as stop:
        stop.check()
        os.kill(os.getpid(), number)
        assert (stop.number, stop.name) == (number, signal.Signals(number).name)
        with pytest.raises(Stopped) as caught:
            stop.check()
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) == before
    assert f"{stop.name}: the step ends and is saved; once more" in capfd.readouterr().err


TWICE = """
import os, signal, sys, time
from rljax.processes.processes import Processes
from rljax.training.signals import StopSignal
ignored = sys.argv[2] == "ignored"
signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
with StopSignal().installed() as stop:
    for _ in range(int(sys.argv[1])):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
    sys.exit(7 if stop.number is None else 8)
"""


@pytest.mark.parametrize("times, how, status", [(1, "", 8), (2, "", -2), (2, "ignored", 7)])
def test_the_second_signal_ends_the_process_at_once(times, how, status):
    command = [sys.executable, "-c", textwrap.dedent(TWICE), str(times), how]
    assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == status


class Meanwhile(Processes):
    """Two processes, of which this one gets a signal while it waits for what the other says."""

    def __init__(self, *others):
        self.count, self.others = 2, list(others)

    def agree(self, number):
        os.kill(os.getpid(), signal.SIGTERM)
        return max(number or 0, self.others.pop(0)) or None


def test_a_signal_that_comes_while_processes_agree_is_told_next_time(capfd):
    with StopSignal(Meanwhile(0, 0)).installed() as stop:
        assert not stop.asked() and stop.number == signal.SIGTERM
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert stop.asked() and stop.name == "SIGTERM"


def test_of_two_signals_all_processes_take_the_same_one(heeded, capfd):
    with StopSignal(Meanwhile(signal.SIGTERM)).installed() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert stop.asked() and stop.name == "SIGTERM"


GRACE = """
import os, signal, sys, time
from rljax.processes.processes import Processes
from rljax.training.signals import StopSignal
number = int(sys.argv[1])
signal.signal(signal.SIGINT, signal.default_int_handler)
with StopSignal(grace_seconds=0.2).installed() as stop:
    stop.last_saved = lambda: "grpo step 4 is the last checkpoint"
    os.kill(os.getpid(), number)
    if sys.argv[2] == "short":
        sys.exit(9)
    time.sleep(1.5)
    sys.exit(8)
"""


@pytest.mark.parametrize(
    "number, how, status",
    [(signal.SIGTERM, "long", 143), (signal.SIGTERM, "short", 9), (signal.SIGINT, "long", 8)],
)
def test_a_step_longer_than_the_grace_time_is_given_up_and_that_is_said(number, how, status):
    command = [sys.executable, "-c", textwrap.dedent(GRACE), str(int(number)), how]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    said = "did not end within 0.2 s (config.checkpoint.grace_seconds): grpo step 4 is the last"
    assert (said in done.stderr) == (status == 143)


def test_a_notice_is_no_first_signal(heeded, capfd):
    """The machine's SIGTERM follows it, and must not end the process at once."""
    with StopSignal().installed() as stop:
        stop.ask(signal.SIGTERM, "preemption notice")
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.number == signal.SIGTERM
        stop.ask(signal.SIGTERM, "preemption notice")
    assert capfd.readouterr().err.count("preemption notice: the step ends") == 1
