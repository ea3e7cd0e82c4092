"""Every moment of a run belongs to one phase, and whoever watches is told."""

import threading

import jax
import jax.numpy as jnp
import pytest

from rljax.training.run import phases
from rljax.training.run.phases import MARKS_VARIABLE, Ledger, booked, mark, phase


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def spent(ledger: Ledger) -> dict[str, float]:
    """Phases that took any time."""
    return {name: seconds for name, seconds in ledger.seconds().items() if seconds}


def test_the_innermost_phase_counts_and_all_add_up(clock):
    ledger = Ledger(clock, began=97.0)
    clock.now += 2  # of the start, besides the 3 before the ledger was opened
    ledger.started()
    with booked(ledger):
        clock.now += 1
        with phase("experience"):
            clock.now += 0.25
            with phase("sampling"):
                clock.now += 4
            clock.now += 0.5
        with phase("update"):
            clock.now += 8
            assert ledger.seconds()["update"] == 8  # while it lasts
        clock.now += 1
    assert spent(ledger) == {
        **{"start": 5, "other": 2, "experience": 0.75, "sampling": 4, "update": 8},
    }
    assert sum(ledger.seconds().values()) == clock.now - 97


def test_what_happens_in_an_evaluation_is_the_evaluations(clock):
    ledger = Ledger(clock)
    with booked(ledger), phase("evaluation"), phase("sampling"), phase("scoring"):
        clock.now += 3
    assert spent(ledger) == {"evaluation": 3}


def test_a_phase_ends_with_an_error_too(clock):
    ledger = Ledger(clock)
    with booked(ledger):
        with pytest.raises(KeyError), phase("update"):
            clock.now += 1
            raise KeyError
        clock.now += 2
    assert spent(ledger) == {"update": 1, "start": 2}


def test_compiling_is_taken_out_of_the_phase_once_however_it_is_nested(clock):
    ledger = Ledger(clock)
    with booked(ledger), phase("update"):
        clock.now += 1
        clock.now += 2
        ledger.compiled(2)  # an inner function is traced
        clock.now += 1
        clock.now += 3
        ledger.compiled(3)  # another one
        clock.now += 1
        ledger.compiled(7.5)  # the outer one, around both
        clock.now += 5
        ledger.compiled(5)  # the compiler, after it
    assert spent(ledger) == {"update": 0.5, "compile": 12.5}
    ledger.compiled(1e9)  # a clock that jumps: never more than the phase had
    assert sum(ledger.seconds().values()) == 13 and min(ledger.seconds().values()) == 0


def test_what_jax_compiles_is_booked_and_marked(tmp_path, monkeypatch):
    monkeypatch.setenv(MARKS_VARIABLE, str(tmp_path / "marks"))
    ledger = Ledger()
    with booked(ledger), phase("update"):
        jax.jit(lambda x: jnp.sin(x) + 12345.5)(jnp.ones(3)).block_until_ready()
    found = ledger.seconds()
    assert found["compile"] > 0 and found["update"] > 0
    names = [line.split()[2] for line in (tmp_path / "marks").read_text().splitlines()]
    assert names[0] == "update" and names[-1] == "-update"
    assert "compile" in names and "-compile" in names
    jax.jit(lambda x: jnp.cos(x) + 12345.5)(jnp.ones(3)).block_until_ready()
    assert ledger.seconds()["compile"] == found["compile"]  # nobody listens any more


def test_other_threads_are_marked_and_not_booked(clock, tmp_path, monkeypatch):
    """A sampler that runs ahead is not what the learner waits for."""
    monkeypatch.setenv(MARKS_VARIABLE, str(tmp_path / "marks"))
    ledger = Ledger(clock)

    def ahead():
        with phase("sampling"):
            clock.now += 5

    with booked(ledger), phase("queue"):
        thread = threading.Thread(target=ahead)
        thread.start()
        thread.join()
    assert spent(ledger) == {"queue": 5}
    times, processes, names = zip(
        *(line.split() for line in (tmp_path / "marks").read_text().splitlines()), strict=True
    )
    assert names == ("queue", "sampling", "-sampling", "-queue")
    assert list(map(float, times)) == sorted(map(float, times)) and len(set(processes)) == 1


def test_without_a_run_or_a_file_a_phase_is_nothing(monkeypatch):
    monkeypatch.delenv(MARKS_VARIABLE, raising=False)
    mark("rename")
    with phase("sampling"):
        pass
    assert phases._ledger.get() is None
