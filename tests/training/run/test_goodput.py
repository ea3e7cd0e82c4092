"""The time of a run over all its processes: what was saved counts, the rest was lost."""

import json
import time

import pytest

from rljax.reporting.files import GOODPUT_FILE
from rljax.reporting.goodput import PHASES, as_line, goodput, shares
from rljax.reporting.report import write_report
from rljax.training.run import goodput as goodput_module
from rljax.training.run.goodput import WallTime
from rljax.training.run.phases import Ledger


class Process:
    """A process of a run under a clock that is set by hand; it may die at any moment."""

    def __init__(self, workdir, saved=None):
        self.now = 0.0
        self.ledger = Ledger(lambda: self.now)
        self.time = WallTime(self.ledger, workdir)
        self.time.resume(saved or {})
        self.ledger.started()

    def spend(self, phase: str, seconds: float) -> dict[str, float]:
        """Spends time, writes the file, and returns what a checkpoint would note."""
        self.ledger.enter(phase)
        self.now += seconds
        self.ledger.leave()
        self.time.write(now=True)
        return self.time.seconds()


def read(workdir):
    return json.loads((workdir / GOODPUT_FILE).read_text())


def test_work_after_the_last_checkpoint_of_a_killed_process_is_lost(tmp_path):
    first = Process(tmp_path)
    saved = first.spend("update", 10)
    first.spend("update", 4)  # not saved
    first.spend("sampling", 1)
    second = Process(tmp_path, saved)
    second.spend("compile", 3)  # dies before it has saved anything
    third = Process(tmp_path, saved)
    third.spend("update", 2)
    found = read(tmp_path)
    assert found["seconds"] == {"update": 12, "restart": 4 + 1 + 3}
    assert found["starts"] == 3 and found["share"] == 12 / 20
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert third.time.seconds()["restart"] == 8


def test_going_on_from_an_earlier_checkpoint_loses_what_came_after_it(tmp_path):
    """As where the newest one is damaged."""
    first = Process(tmp_path)
    early = first.spend("update", 10)
    first.spend("update", 10)
    second = Process(tmp_path, early)
    assert second.time.seconds()["restart"] == 10
    assert sum(second.time.seconds().values()) == 20


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"seconds": 3, "starts": "x"}'])
def test_a_lost_file_costs_no_more_than_its_figures(tmp_path, content):
    saved = Process(tmp_path).spend("update", 10)
    (tmp_path / GOODPUT_FILE).unlink()
    if content is not None:
        (tmp_path / GOODPUT_FILE).write_bytes(content)
    second = Process(tmp_path, saved)
    second.spend("update", 5)
    assert read(tmp_path)["seconds"] == {"update": 15}


def test_a_long_phase_is_known_too(tmp_path, monkeypatch):
    """The file is renewed while the run does nothing else, such as compiling for an hour."""
    monkeypatch.setattr(goodput_module, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(goodput_module, "RENEW_SECONDS", 0.0)
    process = Process(tmp_path)
    process.ledger.enter("compile")
    process.now += 3600
    until = time.monotonic() + 10
    while read(tmp_path)["seconds"].get("compile") != 3600 and time.monotonic() < until:
        time.sleep(0.01)
    process.time.close()
    assert read(tmp_path)["seconds"] == {"compile": 3600}


def test_a_process_that_was_refused_leaves_the_file_as_it_was(tmp_path):
    Process(tmp_path).spend("update", 10)
    before = read(tmp_path)
    WallTime(Ledger(), tmp_path).close()
    assert read(tmp_path) == before


def test_one_of_several_processes_writes(tmp_path):
    WallTime(Ledger(), tmp_path, writes=False).resume({})
    assert not list(tmp_path.iterdir())


def test_shares_add_up_and_nothing_is_no_share():
    seconds = dict.fromkeys(PHASES, 0.0) | {"update": 3.0, "compile": 1.0}
    assert (goodput(seconds), shares(seconds)) == (0.75, {"update": 0.75, "compile": 0.25})
    assert goodput(dict.fromkeys(PHASES, 0.0)) == 0
    found = {"seconds": seconds | {"log": 0.001}, "starts": 2}
    assert as_line(found) == "75% (compile 25%; 2 starts)"


def test_the_report_has_a_bar_with_its_caption(tmp_path):
    for name, update in (("one", 3.0), ("two", 1.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        figures = {"seconds": {"update": update, "compile": 1.0}, "starts": 2}
        (tmp_path / name / GOODPUT_FILE).write_text(json.dumps(figures))
    write_report([tmp_path / "one"], tmp_path / "one.html")
    text = (tmp_path / "one.html").read_text()
    assert 'id="goodput"' in text and 'href="#goodput"' in text and "update 75.0%" in text
    assert 'style="width:25.000%" title="compile: 1.0 s, 25.0%"' in text and "2 starts" in text
    write_report([tmp_path / "one", tmp_path / "two"], tmp_path / "both.html")
    assert (tmp_path / "both.html").read_text().count("<div class=bar>") == 2
    (tmp_path / "one" / GOODPUT_FILE).unlink()
    write_report([tmp_path / "one"], tmp_path / "one.html")
    assert 'id="goodput"' not in (tmp_path / "one.html").read_text()
