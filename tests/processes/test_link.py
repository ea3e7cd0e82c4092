"""The connections of a run: what is gathered, and how all hear of an end. Processes are threads."""

import contextlib
import socket
import threading
import time

import numpy as np
import pytest

from rljax.commands.statuses import Status
from rljax.processes import hub, link, member
from rljax.processes.ends import Person
from rljax.processes.frames import Line
from rljax.processes.hub import Hub
from rljax.processes.lifeline import Lifeline
from rljax.processes.member import Member
from rljax.processes.processes import Processes
from rljax.processes.same_place import check_same_place
from rljax.processes.settings import Settings

COUNT = 3


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Times of a run of seconds, not of days."""
    for module in (hub, member):
        monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(hub, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(hub, "SUSPECT_SECONDS", 10.0)
    monkeypatch.setattr("rljax.processes.ends.SETTLE_SECONDS", 0.4)


class Group:
    """Processes 0, 1 and 2 with their connections."""

    def __init__(self, **settings):
        self.people = [Person(index, f"host-{index}", 100 + index) for index in range(COUNT)]
        self.verdicts = [[] for _ in range(COUNT)]
        chosen = Settings(**{"lost_seconds": 30.0, **settings})
        lines, links = {}, []
        with socket.create_server(("127.0.0.1", 0)) as server:
            for index in range(1, COUNT):
                own = socket.create_connection(server.getsockname())
                lines[index] = Line(server.accept()[0])
                links.append((index, own))
        self.sockets = dict(links)
        self.links = [Hub(self.people, lines, chosen, self.heard(0))]
        for index, own in links:
            made = Member(index, self.people, Line(own), chosen, self.heard(index))
            self.links.append(made)
        self.processes = [Processes(i, COUNT, each) for i, each in enumerate(self.links)]

    def heard(self, index):
        return lambda verdict, fails: self.verdicts[index].append((verdict, fails))

    def all(self, call):
        """Calls `call(processes)` for every process at once; results or errors, by process."""
        results = [None] * COUNT

        def attempt(index):
            try:
                results[index] = call(self.processes[index])
            except Exception as error:
                results[index] = error

        threads = [threading.Thread(target=attempt, args=(i,)) for i in range(COUNT)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return results

    def wait_for(self, *indices):
        """The verdicts that processes got while their main threads went on."""
        until = time.monotonic() + 10
        while not all(self.verdicts[i] for i in indices) and time.monotonic() < until:
            time.sleep(0.01)
        return [self.verdicts[i][0][0] for i in indices]

    def finish(self, status=Status.DONE, line="done"):
        return self.all(lambda p: self.links[p.index].finish(status, line))


@pytest.fixture
def group():
    with made_group() as group:
        yield group


@contextlib.contextmanager
def made_group(**settings):
    group = Group(**settings)
    try:
        yield group
    finally:
        for each in reversed(group.links):
            each.close(1.0)


def test_everyone_gets_what_all_send(group):
    for _ in range(3):
        assert (
            group.all(lambda p: p.gather_json("x", {"me": p.index}))
            == [[{"me": i} for i in range(COUNT)]] * COUNT
        )
    sizes = group.all(lambda p: [len(b) for b in p.gather_bytes("y", b"\0" * 10**6 * p.index)])
    assert sizes == [[0, 10**6, 2 * 10**6]] * COUNT
    scores = group.all(
        lambda p: np.frombuffer(
            b"".join(p.gather_bytes("z", np.full(2, p.index, np.float32).tobytes())), np.float32
        ).tolist()
    )
    assert scores == [[0, 0, 1, 1, 2, 2]] * COUNT


def test_names_do_not_wait_for_each_other(group):
    def call(processes):
        found = {}

        def gather(name):
            found[name] = processes.gather_json(name, f"{name}{processes.index}")

        order = ["a", "b"] if processes.index else ["b", "a"]
        threads = [threading.Thread(target=gather, args=(name,)) for name in order]
        for thread in threads:
            thread.start()
            time.sleep(0.05)
        for thread in threads:
            thread.join(10)
        return found

    assert group.all(call) == [{"a": ["a0", "a1", "a2"], "b": ["b0", "b1", "b2"]}] * COUNT


def test_one_signal_stops_all(group):
    assert group.all(lambda p: p.agree(None)) == [None] * COUNT
    assert group.all(lambda p: p.agree(15 if p.index == 2 else None)) == [15] * COUNT


def test_what_differs_is_told_to_all(group):
    assert group.all(lambda p: p.same_on_all("the program", "abc")) == [None] * COUNT
    errors = group.all(lambda p: p.same_on_all("the program", "abd" if p.index == 1 else "abc"))
    assert {str(error) for error in errors} == {
        'The processes differ in the program: "abd" on process 1, "abc" on the others.'
    }


def test_one_workdir_for_all(group, tmp_path):
    shared = tmp_path / "shared"
    assert group.all(lambda p: check_same_place(p, shared, "t")) == [None] * COUNT
    assert list(shared.iterdir()) == []


def test_other_workdirs_are_refused(group, tmp_path, monkeypatch):
    monkeypatch.setattr("rljax.processes.same_place.SHOWN_SECONDS", 0.2)
    errors = group.all(lambda p: check_same_place(p, tmp_path / str(p.index == 2), str(p.index)))
    assert {type(error) for error in errors} == {ValueError}
    assert all("process 2 and process 0 do not see each other's" in str(e) for e in errors)
    (tmp_path / "file").touch()
    errors = group.all(
        lambda p: check_same_place(p, tmp_path / ("file" if p.index == 1 else "x"), "t")
    )
    assert all("process 1 cannot write there" in str(error) for error in errors)


def test_all_end_calmly(group):
    verdicts = group.finish()
    assert all(verdict.calm and verdict.end.status == Status.DONE for verdict in verdicts)
    assert group.verdicts == [[], [], []]


def test_an_asked_for_end_waits_for_those_who_still_save(group):
    def end(processes):
        time.sleep(1.0 if processes.index == 2 else 0.0)  # longer than SETTLE_SECONDS
        return group.links[processes.index].finish(Status.TERMINATED, "asked")

    assert {verdict.end.status for verdict in group.all(end)} == {Status.TERMINATED}
    assert group.verdicts == [[], [], []]


def test_an_error_of_one_ends_all_with_its_line(group):
    with pytest.raises(ValueError):
        with group.processes[1].reporting():
            raise ValueError("bad (config.x)")
    for verdict in group.wait_for(0, 1, 2):
        assert verdict.end[:3] == (1, Status.FAILED, "error: bad (config.x)")
    assert [fails for ((_, fails),) in group.verdicts] == [False, True, False]
    # Cleaned up, it hears that its own error is what counts.
    verdict = group.links[1].finish(Status.FAILED, "error: bad (config.x)")
    assert verdict.end.index == 1


def test_a_process_that_dies_is_named_before_what_others_saw(group):
    with pytest.raises(RuntimeError), group.processes[2].reporting():
        raise RuntimeError("a collective failed")
    group.sockets[1].shutdown(socket.SHUT_RDWR)
    for verdict in group.wait_for(0, 2):
        assert verdict.end.index == 1 and verdict.end.lost and "lost" in verdict.end.reason
        assert verdict.end.status == Status.RESTART
        assert [line.partition(":")[0] for line in verdict.doing] == list(map(str, group.people))


def test_process_0_that_dies_is_named(group):
    group.sockets[1].shutdown(socket.SHUT_RD)
    (verdict,) = group.wait_for(1)
    assert verdict.end.index == 0 and verdict.end.status == Status.RESTART


def test_a_silent_process_is_lost(monkeypatch):
    with made_group(lost_seconds=2.0) as group:
        monkeypatch.setattr(group.links[2], "_send", lambda *a, **b: None)
        for verdict in group.wait_for(0, 1):
            assert verdict.end.index == 2 and "no sign of life for" in verdict.end.reason


def test_a_silent_process_0_is_lost(monkeypatch):
    with made_group(lost_seconds=2.0) as group:
        monkeypatch.setattr(group.links[0], "_send_all", lambda *a, **b: None)
        (verdict,) = group.wait_for(1)
        assert verdict.end.index == 0 and "no sign of life for" in verdict.end.reason


def test_a_hung_process_ends_all():
    with made_group(step_seconds=1.0, compile_seconds=1.0) as group:
        for index, each in enumerate(group.processes):
            each.beat("step 1: update" if index else "step 1: scoring")
        time.sleep(0.6)
        group.processes[1].beat("step 2: update")
        group.processes[2].beat("step 2: update")
        for verdict in group.wait_for(0, 1, 2):
            assert verdict.end.index == 0 and verdict.end.status == Status.RESTART
            assert "hung: 'step 1: scoring'" in verdict.end.reason
            assert "config.processes.step_seconds" in verdict.end.reason
            assert "'step 2: update'" in verdict.doing[1]


def test_a_process_that_leaves_while_others_wait_ends_them(group):
    threading.Thread(target=lambda: group.links[1].finish(Status.DONE, "done"), daemon=True).start()
    thread = threading.Thread(target=lambda: group.processes[0].barrier("x"), daemon=True)
    thread.start()
    (verdict,) = group.wait_for(0)
    assert (verdict.end.index, verdict.end.status) == (1, Status.FAULT)


def test_too_much_is_refused_before_it_is_sent(group, monkeypatch):
    monkeypatch.setattr(link, "MOST_PAYLOAD", 30)
    with pytest.raises(ValueError, match="may gather 10 bytes each, got 11 for 'x'"):
        group.processes[0].gather_bytes("x", b"x" * 11)


@pytest.mark.parametrize("fails", [False, True])
def test_a_process_says_who_ended_first_and_leaves_its_stacks(tmp_path, capfd, fails):
    people = [Person(0, "a", 1), Person(1, "b", 2)]
    left = []
    lifeline = Lifeline(people[0], people, tmp_path, leave=left.append)
    lifeline.end(
        link.Verdict(link.End(1, Status.RESTART, "lost: x", lost=True), ("doing this",)), fails
    )
    said = capfd.readouterr().err
    assert left == [Status.RESTART]
    assert "process 1 on b (pid 2) ended first: lost: x\n  doing this\n" in said
    assert "test_a_process_says_who" in said
    assert "test_a_process_says_who" in (tmp_path / "stacks/process-0.txt").read_text()
