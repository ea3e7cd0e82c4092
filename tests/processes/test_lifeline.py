"""Processes that were all asked to stop end each in its own way: none is ended under the others."""

import pytest

from rljax.commands.statuses import Status
from rljax.processes.ends import End, Person, Verdict
from rljax.processes.lifeline import Lifeline


@pytest.mark.parametrize("status", [Status.INTERRUPTED, Status.TERMINATED])
@pytest.mark.parametrize("first", [0, 1])
def test_a_calm_end_lets_this_process_clean_up(tmp_path, capfd, status, first):
    """Whoever holds jax's coordinator would abort the others if it left at once."""
    people, left = [Person(0, "a", 1), Person(1, "b", 2)], []
    lifeline = Lifeline(people[0], people, tmp_path, leave=left.append)
    lifeline.end(Verdict(End(first, status, "it was asked to end")), fails=True)
    assert left == [] and capfd.readouterr().err == ""
    # Its main thread is not ending: nobody else would end it.
    lifeline.end(Verdict(End(1, status, "it was asked to end")), fails=False)
    assert left == [status]
