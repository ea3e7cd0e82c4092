"""What the marks of a run say, and which kills are drawn from them."""

import json
import random
from collections import Counter

import pytest

from rljax.chaos.campaign import Killed, Verdict
from rljax.chaos.faults import flip_bit
from rljax.chaos.found import FOUND, as_markdown
from rljax.chaos.marks import Mark, MarkReader, habits, phase_at
from rljax.chaos.plan import FLIP, FULL, Kill, Plan, first_time
from rljax.chaos.table import kills_table, verdict_line


def marks(text: str) -> list[Mark]:
    """ "1.0 7 update | 2.0 7 -update": marks."""
    rows = (row.split() for row in text.split("|"))
    return [Mark(float(when), int(process), name) for when, process, name in rows]


RUN = marks(
    "11.0 7 restore | 12.0 7 -restore | 12.0 7 update | 13.0 7 compile | 15.0 7 -compile"
    "| 16.0 7 -update | 17.0 7 update | 17.5 7 -update | 18 7 digests | 18.2 7 -digests"
    "| 18.2 7 rename"
)


def test_habits_are_counts_and_usual_seconds():
    found = habits(RUN, began=10.0)
    assert found.counts == {
        **{"start": 1, "restore": 1, "update": 2, "compile": 1, "digests": 1, "rename": 1},
    }
    assert found.seconds["update"] == (4 + 0.5) / 2 and found.seconds["start"] == 1
    assert found.seconds["rename"] == 0
    assert found.phases == ["start", "compile", "digests", "rename", "restore", "update"]


@pytest.mark.parametrize(
    "when, aimed, expected",
    [
        (10.5, "start", "start"),
        (13.5, "compile", "compile"),
        (13.5, "update", "update"),  # both are open
        (13.5, "restore", "compile"),  # the innermost one
        (15.5, "compile", "update"),
        (16.5, "update", "between"),
        (99.0, "update", "rename"),
    ],
)
def test_the_phase_of_a_moment(when, aimed, expected):
    assert phase_at(RUN, 7, when, aimed) == expected
    assert phase_at(RUN, 8, when, aimed) == "start"  # of another process nothing is known


def test_marks_are_read_as_they_come_and_never_in_part(tmp_path):
    reader = MarkReader(tmp_path / "marks")
    assert reader.new() == []
    (tmp_path / "marks").write_text("1.5 7 update\n2.5 7 -upd")
    assert reader.new() == [Mark(1.5, 7, "update")]
    with open(tmp_path / "marks", "a") as file:
        file.write("ate\n")
    assert reader.new() == [Mark(2.5, 7, "-update")]


def test_every_phase_and_every_signal_has_its_turn():
    found = habits(RUN, began=10.0)
    plan = Plan(0, found, inject=True)
    kills = [plan.next() for _ in range(42)]
    assert set(Counter(kill.phase for kill in kills).values()) == {7}
    assert {"SIGKILL", "SIGTERM", "SIGINT", FULL, FLIP} == {kill.signal for kill in kills}
    assert all(1 <= kill.occurrence <= found.counts[kill.phase] for kill in kills)
    assert all(0 <= kill.delay <= 2.25 for kill in kills)
    for seed in (0, 1):
        other = Plan(seed, found, inject=True)
        assert (kills == [other.next() for _ in range(42)]) == (seed == 0)


def test_a_kill_that_came_too_late_is_drawn_again():
    plan = Plan(0, habits(RUN, began=10.0))
    late = plan.next()
    plan.again(late)
    again = plan.next()
    assert (again.phase, again.signal) == (late.phase, late.signal)
    assert first_time(again._replace(occurrence=9)).occurrence == 1


def test_the_table_counts_by_phase_and_signal():
    def killed(phase, signal, *problems):
        return Killed(Kill(phase, 1, 0.0, signal), phase, -9, problems)

    all_of_them = [
        killed("update", "SIGKILL"),
        killed("update", "SIGTERM"),
        killed("log", "SIGKILL"),
    ]
    verdict = Verdict(all_of_them, 2, 5, [], {}, 0)
    assert kills_table(verdict).row_count == 3
    assert verdict_line(verdict, 3) == (
        "3 of 3 kills held, in 2 runs of 5 processes, and nothing differs"
    )
    found = verdict.as_json(3)
    assert found["by_phase"] == {"log": {"SIGKILL": 1}, "update": {"SIGKILL": 1, "SIGTERM": 1}}
    bad = verdict._replace(
        killed=[killed("log", "SIGINT", "a traceback")], problems=["a traceback"]
    )
    assert not bad.good and verdict_line(bad, 1).startswith("0 of 1 kills held")


def test_what_campaigns_have_come_to_adds_up():
    campaigns = json.loads(FOUND.read_text())
    rows = as_markdown().splitlines()[2:]
    assert len(rows) == len(campaigns) > 0
    for (words, each), row in zip(campaigns.items(), rows, strict=True):
        assert each["good"] and each["held"] == each["killed"] == each["kills"], words
        assert sum(each["by_signal"].values()) == each["kills"], words
        assert sum(sum(n.values()) for n in each["by_phase"].values()) == each["kills"], words
        assert f"--config={each['config']} " in f"{words} " and f"--kills={each['kills']}" in words
        assert f"--seed={each['seed']}" in words
        assert f"| `{words}` | {each['kills']} of {each['kills']} |" in row


def test_a_bit_flips_only_where_another_checkpoint_is_left(tmp_path):
    def checkpoint(step):
        folder = tmp_path / f"checkpoints/grpo/{step}"
        folder.mkdir(parents=True)
        (folder / "_CHECKPOINT_METADATA").write_text("{}")
        (folder / "data").write_bytes(b"abc")

    assert flip_bit(tmp_path, random.Random(0)) is None
    checkpoint(2)
    assert flip_bit(tmp_path, random.Random(0)) is None
    checkpoint(4)
    path = flip_bit(tmp_path, random.Random(0))
    assert path == tmp_path / "checkpoints/grpo/4/data"
    content = int.from_bytes(path.read_bytes()) ^ int.from_bytes(b"abc")
    assert content.bit_count() == 1
