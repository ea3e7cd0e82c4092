"""The roll call over real connections, one thread for each process."""

import re
import socket
import threading
import time

import pytest

from rljax.errors import SystemFailure
from rljax.processes import roll_call
from rljax.processes.facts import code_digests, facts_before_jax
from rljax.processes.frames import HEAD, MAGIC, MOST_HEADER, BrokenLine, Line
from rljax.processes.identity import Identity
from rljax.processes.local import free_ports
from rljax.processes.settings import Settings

FACTS = {"version": {"jax": "0.10.1"}, "config": {"seed": 0}}


@pytest.fixture
def port():
    return free_ports()


def settings(seconds=20.0):
    return Settings(connect_seconds=seconds)


def called(port, members, *, count=2, seconds=20.0, facts=FACTS, meanwhile=None):
    """What process 0 and the others get: people and lines, or the error.

    Args:
        members: (index, count, facts) of each of the others.
        meanwhile: called once all have been started.
    """
    results: list = [None] * (len(members) + 1)

    def attempt(place, function, *arguments):
        try:
            results[place] = function(*arguments)
        except Exception as error:
            results[place] = error

    host = dict(host="127.0.0.1", port=port, roll_call_port=port + 1, source="a test")
    first = Identity(0, count, **host)
    threads = [
        threading.Thread(
            target=attempt, args=(0, roll_call.call_roll, first, settings(seconds), facts)
        )
    ]
    for place, (index, told, own) in enumerate(members, 1):
        identity = Identity(index, told, **host)
        arguments = (place, roll_call.answer_roll, identity, settings(seconds), own)
        threads.append(threading.Thread(target=attempt, args=arguments))
    for thread in threads:
        thread.start()
    if meanwhile is not None:
        meanwhile()
    for thread in threads:
        thread.join()
    return results


def close(results):
    """Closes the lines of a roll call that went well."""
    people, lines = results[0]
    for line in [*lines.values(), *(line for _, line in results[1:])]:
        line.close()
    return people


def test_all_come_and_their_lines_stay_open(port):
    results = called(port, [(2, 3, FACTS), (1, 3, FACTS)], count=3)
    people, lines = results[0]
    assert [person.index for person in people] == [0, 1, 2] and sorted(lines) == [1, 2]
    for (others, line), index in zip(results[1:], (2, 1), strict=True):
        assert others == people
        line.send("hello", b"\0\xff", a=[1])
        assert lines[index].receive() == ("hello", {"a": [1]}, b"\0\xff")
    close(results)


@pytest.mark.parametrize(
    "members, count, message",
    [
        (
            [(1, 2, {**FACTS, "version": {"jax": "0.10.2"}})],
            2,
            r'version.jax: "0.10.1" on process 0 \(.*\), "0.10.2" on process 1 \(',
        ),
        (
            [(1, 3, FACTS), (2, 3, {**FACTS, "config": {"seed": 1}})],
            3,
            r"config.seed: 1 on process 2 \(.*\), 0 on the others",
        ),
        ([(1, 2, FACTS), (1, 2, FACTS)], 3, r"process 1 came 2 times, on .* \(pid \d+\) and on"),
        ([(1, 3, FACTS)], 2, r"process 1 on .* expects 3 processes, and process 0 expects 2"),
        ([(5, 2, FACTS)], 2, r"process 5 on .* is one too many: 2 are expected"),
    ],
)
def test_processes_that_do_not_fit_get_the_same_line(port, members, count, message):
    results = called(port, members, count=count)
    assert {type(result) for result in results} == {ValueError}
    assert len({str(result) for result in results}) == 1
    assert re.search(message, str(results[0])) and "\n" not in str(results[0])


def test_who_is_missing_is_named(port):
    results = called(port, [(1, 4, FACTS), (3, 4, FACTS)], count=4, seconds=1.0)
    assert {type(result) for result in results} == {SystemFailure}
    assert len({str(result) for result in results}) == 1
    assert "expected 4 processes; 0, 1, 3 came within 1 s, and 2 did not" in str(results[0])


def test_whatever_else_connects_is_sent_away(port, capsys):
    def disturb():
        join = b'{"kind": "join", "person": [1, 2, 3], "count": 2, "facts": {}}'
        garbage = [
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 9,
            HEAD.pack(MAGIC, MOST_HEADER + 1, 0) + b"x" * 20,
            HEAD.pack(MAGIC, 4, 2**60) + b"null" + b"x" * 20,
            HEAD.pack(MAGIC, 5, 0) + b"[1,2]",
            HEAD.pack(MAGIC, 3, 0) + b"\xff\xff\xff",
            HEAD.pack(MAGIC, 2**20, 0) + b"[" * 2**20,
            HEAD.pack(MAGIC, len(join), 0) + join,
            b"",
        ]
        for text in garbage:
            until = time.monotonic() + 10
            while time.monotonic() < until:
                try:
                    with socket.create_connection(("127.0.0.1", port + 1), timeout=5) as stranger:
                        stranger.sendall(text)
                    break
                except OSError:
                    time.sleep(0.05)

    # The other process comes late: the strangers are all heard before.
    late = threading.Event()

    def disturb_then_come():
        disturb()
        late.set()

    results = []

    def member():
        late.wait()
        identity = Identity(1, 2, "127.0.0.1", port, port + 1, "a test")
        results.append(roll_call.answer_roll(identity, settings(), FACTS))

    thread = threading.Thread(target=member)
    thread.start()
    (found,) = called(port, [], meanwhile=disturb_then_come)
    thread.join()
    assert [person.index for person in found[0]] == [0, 1]
    assert "127.0.0.1 connected to the roll call and is no process of this run" in (
        capsys.readouterr().err
    )
    close([found, *results])


@pytest.mark.parametrize(
    "error, message",
    [
        (None, r"did not reach process 0 at 127.0.0.1:\d+ within 0.5 s; nothing listens"),
        (socket.gaierror(-2, "unknown"), "the name '127.0.0.1' is unknown here: look at the DNS"),
        (TimeoutError("timed out"), "no answer: a firewall may keep the port closed"),
        (OSError(101, "Network is unreachable"), "0.5 s; Network is unreachable"),
    ],
)
def test_a_coordinator_that_is_not_there(port, error, message, monkeypatch):
    def refuse(*arguments, **options):
        raise error

    if error is not None:
        monkeypatch.setattr(socket, "create_connection", refuse)
    identity = Identity(1, 2, "127.0.0.1", port, port + 1, "a test")
    with pytest.raises(SystemFailure, match=message) as caught:
        roll_call.answer_roll(identity, settings(0.5), FACTS)
    assert "config.processes.coordinator, config.processes.roll_call_port" in str(caught.value)


@pytest.mark.parametrize("offset, field", [(0, "port"), (1, "roll_call_port")])
def test_a_port_that_is_taken(port, offset, field):
    with socket.create_server(("", port + offset)):
        with pytest.raises(ValueError, match=rf"port {port + offset} .*config.processes.{field}"):
            roll_call.call_roll(Identity(0, 2, "x", port, port + 1), settings(0.5), FACTS)


def test_process_0_that_dies_in_the_roll_call(port):
    with socket.create_server(("127.0.0.1", port + 1)) as server:
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        identity = Identity(1, 2, "127.0.0.1", port, port + 1, "a test")
        with pytest.raises(SystemFailure, match="broke the roll call off .*its own output says"):
            roll_call.answer_roll(identity, settings(5.0), FACTS)


def test_messages_are_bounded_and_whole():
    ours, theirs = (Line(end) for end in tcp_pair())
    with pytest.raises(ValueError, match="may have"):
        ours.send("big", a="x" * MOST_HEADER)
    ours.send("big", b"x" * 2_000_000, n=1)
    assert len(theirs.receive().payload) == 2_000_000
    ours.send("more", b"xy")
    with pytest.raises(BrokenLine):
        theirs.receive(most=1)
    ours.close()
    theirs.close()


def tcp_pair():
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return one, server.accept()[0]


def test_facts_are_what_decides_and_say_which_file_differs(tmp_path):
    config = {"seed": 1, "processes": {"id": 3}}
    facts = facts_before_jax(config, tmp_path)
    assert facts["config"] == {"seed": 1} and facts["workdir"] == str(tmp_path)
    assert "jax" in facts["version"] and "rljax/errors.py" in facts["code"]
    (tmp_path / "p").mkdir()
    (tmp_path / "p/a.py").write_text("1")
    assert list(code_digests(tmp_path / "p")) == ["p/a.py"]
