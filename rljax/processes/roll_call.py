"""The roll call: before anything else, every process comes to process 0 and says what it has.

It needs no jax, and ends within `connect_seconds`. Whoever is missing, came twice or has other
code, versions or settings is named, in the same line on every process. The connections stay open
(hub.py, member.py).

The port is open to whoever can reach it, as is that of jax's coordinator: it belongs into a network
that is trusted. What is no process of the run is sent away.
"""

import errno
import os
import queue
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rljax.commands.statuses import Status
from rljax.errors import SystemFailure, shown
from rljax.processes.comparison import differences
from rljax.processes.ends import Person
from rljax.processes.frames import BrokenLine, Line, Message
from rljax.processes.identity import Identity
from rljax.processes.settings import Settings
from rljax.remarks import say_once

RETRY_SECONDS = 0.3  # between two attempts to reach process 0
PROBE_SECONDS = 5.0  # of one attempt
GREET_SECONDS = 10.0  # in which whoever connects has to say who it is
GRACE_SECONDS = 10.0  # that process 0 may need to compare and to answer
FREE_SECONDS = 10.0  # in which a process that holds the port, and is ending, lets go of it

Facts = Mapping[str, Any]


class Came(NamedTuple):
    """A process that came to the roll call."""

    person: Person
    count: int  # of processes, as it was told
    facts: Facts
    line: Line | None  # None: this process


def me(identity: Identity) -> Person:
    """This process, as others name it."""
    return Person(identity.index, socket.gethostname(), os.getpid())


def call_roll(
    identity: Identity, settings: Settings, facts: Facts
) -> tuple[list[Person], dict[int, Line]]:
    """The roll call of process 0.

    Returns:
        All processes, and the lines to the others by index.

    Raises:
        ValueError: if the processes do not fit together, or the port is not free.
        SystemFailure: if some did not come.
    """
    _check_free(identity.port, "config.processes.port")
    until = time.monotonic() + settings.connect_seconds
    with _listen(identity.roll_call_port, min(FREE_SECONDS, settings.connect_seconds)) as listener:
        came = [Came(me(identity), identity.count, facts, None)]
        arrivals: queue.Queue[Came] = queue.Queue()
        threading.Thread(target=_greet_all, args=(listener, arrivals), daemon=True).start()
        while len(came) < identity.count:
            try:
                came.append(arrivals.get(timeout=max(0.0, until - time.monotonic())))
            except queue.Empty:
                break
    error = problem(came, identity.count, settings.connect_seconds)
    people = sorted(each.person for each in came)
    for each in came:
        if each.line is not None:
            _answer(each.line, people, error)
    if error is not None:
        raise error
    return people, {each.person.index: each.line for each in came if each.line is not None}


def answer_roll(identity: Identity, settings: Settings, facts: Facts) -> tuple[list[Person], Line]:
    """The roll call of every other process.

    Returns:
        All processes, and the line to process 0.

    Raises:
        ValueError: if the processes do not fit together.
        SystemFailure: if process 0 cannot be reached, or others did not come.
    """
    line = Line(connect(identity, "roll_call_port", settings.connect_seconds))
    person = me(identity)
    try:
        line.send("join", person=list(person), count=identity.count, facts=facts)
        answer = line.receive(seconds=settings.connect_seconds + GRACE_SECONDS)
    except BrokenLine as error:
        raise SystemFailure(
            f"Process 0 at {identity.host}:{identity.roll_call_port} broke the roll call off "
            f"({error}): its own output says why."
        ) from error
    if answer.kind == "refused":
        line.close()
        raise _as_error(answer.fields["error"], answer.fields["status"])
    return [Person(*each) for each in answer.fields["people"]], line


def problem(came: Sequence[Came], count: int, seconds: float) -> Exception | None:
    """What is wrong with those who came; None if they are all, and fit together.

    Args:
        came: process 0 and whoever has come, each process as often as it has.
        count: of the processes that are expected.
        seconds: for which they were awaited.
    """
    by_index: dict[int, list[Person]] = {}
    for each in came:
        by_index.setdefault(each.person.index, []).append(each.person)
    problems = [
        f"{each.person} expects {each.count} processes, and process 0 expects {count} "
        "(config.processes.count)"
        for each in came
        if each.count != count
    ]
    for index, people in sorted(by_index.items()):
        if len(people) > 1:
            listed = " and ".join(f"on {each.host} (pid {each.pid})" for each in people)
            problems.append(
                f"process {index} came {len(people)} times, {listed} (config.processes.id)"
            )
        if index >= count:
            problems.append(
                f"{people[0]} is one too many: {count} are expected (config.processes.count)"
            )
    if not problems:
        names = [f"process {each.person.index} ({each.person.host})" for each in came]
        if lines := differences([each.facts for each in came], names):
            return ValueError(f"The processes do not fit together: {'; '.join(lines)}.")
    missing = [index for index in range(count) if index not in by_index]
    if missing:
        there = [index for index in range(count) if index in by_index]
        problems.append(
            f"expected {count} processes; {_listed(there)} came within {seconds:g} s, and "
            f"{_listed(missing)} did not: look at the output of what is missing "
            "(config.processes.connect_seconds)"
        )
    if not problems:
        return None
    text = f"The roll call failed: {'; '.join(problems)}."
    return SystemFailure(text) if missing and len(problems) == 1 else ValueError(text)


def _listed(indices: Sequence[int], most: int = 10) -> str:
    """ "0, 1, 3", cut where it is long."""
    more = f" and {len(indices) - most} more" if len(indices) > most else ""
    return ", ".join(map(str, indices[:most])) + more


def _answer(line: Line, people: Sequence[Person], error: Exception | None) -> None:
    try:
        if error is None:
            line.send("welcome", people=[list(person) for person in people])
            return
        status = Status.RESTART if isinstance(error, SystemFailure) else Status.FAILED
        line.send("refused", error=str(error), status=status)
        line.receive(seconds=1.0)  # its end: only then has it read the answer
    except BrokenLine:
        pass  # whoever has gone meanwhile is missed in the first message


def _as_error(text: str, status: int) -> Exception:
    return SystemFailure(text) if status == Status.RESTART else ValueError(text)


def _greet_all(listener: socket.socket, arrivals: "queue.Queue[Came]") -> None:
    """Hears whoever connects, until the listener is closed."""
    listener.settimeout(RETRY_SECONDS)  # closing it does not wake a thread that waits for ever
    while True:
        try:
            connection, address = listener.accept()
        except TimeoutError:
            continue
        except OSError:
            return
        threading.Thread(
            target=_greet, args=(connection, address[0], arrivals), daemon=True
        ).start()


def _greet(connection: socket.socket, address: str, arrivals: "queue.Queue[Came]") -> None:
    line = Line(connection)
    try:
        arrivals.put(_read_join(line.receive(seconds=GREET_SECONDS, most=0), line))
    except BrokenLine as error:
        say_once(f"{address} connected to the roll call and is no process of this run: {error}")
        line.close()


def _read_join(message: Message, line: Line) -> Came:
    """What a process says of itself.

    Raises:
        BrokenLine: for anything else.
    """
    fields = message.fields
    person, count, facts = fields.get("person"), fields.get("count"), fields.get("facts")
    whole = (
        message.kind == "join"
        and isinstance(person, list)
        and [type(value) for value in person] == [int, str, int]
        and person[0] >= 0
        and type(count) is int
        and isinstance(facts, dict)
    )
    if not whole:
        raise BrokenLine(f"it said {shown(message.kind)} in a form that is not ours")
    return Came(Person(*person), count, facts, line)


def connect(identity: Identity, port: str, seconds: float) -> socket.socket:
    """A connection to process 0, which may start later than this one.

    Args:
        identity: of this process.
        port: "port" or "roll_call_port".
        seconds: within which there must be one.

    Raises:
        SystemFailure: if there is none; it says what to look at.
    """
    address, until = (identity.host, getattr(identity, port)), time.monotonic() + seconds
    while True:
        left = until - time.monotonic()
        try:
            return socket.create_connection(address, timeout=max(0.1, min(PROBE_SECONDS, left)))
        except OSError as error:
            if until - time.monotonic() < RETRY_SECONDS:
                raise SystemFailure(_unreachable(identity, port, seconds, error)) from error
        time.sleep(RETRY_SECONDS)


def _unreachable(identity: Identity, port: str, seconds: float, error: OSError) -> str:
    host = identity.host
    if isinstance(error, socket.gaierror):
        why = f"the name {host!r} is unknown here: look at the DNS, or give an address"
    elif isinstance(error, ConnectionRefusedError):
        why = (
            "nothing listens there: process 0 is not started, has another port, or has ended, and "
            "then its output says why"
        )
    elif isinstance(error, TimeoutError):
        why = "no answer: a firewall may keep the port closed, or the machine is down"
    else:
        why = error.strerror or str(error)
    return (
        f"Process {identity.index} did not reach process 0 at {host}:{getattr(identity, port)} "
        f"within {seconds:g} s; {why} (config.processes.coordinator, config.processes.{port}; "
        f"{identity.source})."
    )


def _listen(port: int, seconds: float) -> socket.socket:
    """A socket that listens on all addresses of this machine.

    Raises:
        ValueError: if the port does not become free.
    """
    both = socket.has_dualstack_ipv6()
    until = time.monotonic() + seconds
    while True:
        try:
            return socket.create_server(
                ("", port),
                family=socket.AF_INET6 if both else socket.AF_INET,
                dualstack_ipv6=both,
                backlog=1024,
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < until:
                time.sleep(RETRY_SECONDS)
                continue
            raise ValueError(_taken(port, "config.processes.roll_call_port", error)) from error


def _check_free(port: int, field: str) -> None:
    """Raises ValueError unless jax can listen on its port; it would end the process."""
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise ValueError(_taken(port, field, error)) from error


def _taken(port: int, field: str, error: OSError) -> str:
    return (
        f"Process 0 cannot listen on port {port} of {socket.gethostname()}: {error.strerror}; end "
        f"what uses it, or give another port ({field})."
    )
