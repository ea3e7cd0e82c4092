"""A first signal asks, a second one ends; what was ignored stays ignored."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

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
