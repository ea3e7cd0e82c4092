"""The processes of a run are started together, and end together. This is the one file with jax.

    who am I -> roll call -> one workdir? -> jax.distributed -> the run -> the end of all

Our own connections hear of a dead process first. jax's service would abort the process without a
word, so its limits are longer than ours.
"""

import contextlib
import faulthandler
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from rljax.commands.statuses import Status
from rljax.errors import SystemFailure, reason
from rljax.processes.ends import Person
from rljax.processes.hub import Hub
from rljax.processes.identity import ALONE, Identity, identify
from rljax.processes.lifeline import Lifeline
from rljax.processes.link import Link
from rljax.processes.member import Member
from rljax.processes.metadata import attribute
from rljax.processes.processes import Processes, end_of
from rljax.processes.roll_call import answer_roll, call_roll, connect, me
from rljax.processes.same_place import check_same_place
from rljax.processes.settings import Settings

CLOSE_SECONDS = 5.0


@contextlib.contextmanager
def joined(
    settings: Settings, facts: Callable[[], Mapping[str, Any]], workdir: Path
) -> Iterator[Processes]:
    """Starts this process as one of a run; alone it does nothing.

    What ends the block ends all processes: an error of one is that of all (ends.py).

    Args:
        settings: `config.processes`.
        facts: what must be the same on all (facts.py); asked for where there are several.
        workdir: of the run; the same folder for all.

    Raises:
        ValueError: for settings that contradict the environment or each other, and where the
            processes do not fit together; the same line on all of them.
        SystemFailure: if processes are missing or cannot be reached.
    """
    identity = identify(settings, os.environ, attribute)
    if identity == ALONE:
        yield Processes()
        return
    faulthandler.enable()  # a library that aborts the process leaves its stacks
    link, lifeline = connected(identity, settings, facts(), workdir)
    processes = Processes(identity.index, identity.count, link)
    try:
        with processes.reporting():
            check_same_place(processes, workdir, secrets.token_hex(8))
            start_jax(identity, settings, link.people)
            processes.same_on_all("their devices", devices())
            yield processes
    except BaseException as error:
        end_together(link, lifeline, *end_of(error))
        raise
    end_together(link, lifeline, Status.DONE, "done")


def connected(
    identity: Identity, settings: Settings, facts: Mapping[str, Any], workdir: Path
) -> tuple[Link, Lifeline]:
    """The roll call; afterwards the connections, and what ends this process if they say so."""
    if identity.index == 0:
        people, lines = call_roll(identity, settings, facts)
        lifeline = Lifeline(me(identity), people, workdir)
        link: Link = Hub(people, lines, settings, lifeline.end)
    else:
        people, line = answer_roll(identity, settings, facts)
        lifeline = Lifeline(me(identity), people, workdir)
        link = Member(identity.index, people, line, settings, lifeline.end)
    lifeline.close = link.close
    return link, lifeline


def end_together(link: Link, lifeline: Lifeline, status: int, line: str) -> None:
    """Waits until all processes end; returns if this one may end in its own way."""
    verdict = link.finish(status, line)
    own = verdict.end.index == link.index or verdict.end.reason == line
    if not (verdict.calm or own):
        lifeline.end(verdict)
    link.close(CLOSE_SECONDS)
    if not verdict.calm:
        lifeline.leave_at_exit(verdict.end.status)


def start_jax(identity: Identity, settings: Settings, people: Sequence[Person]) -> None:
    """Connects the jax of this process with that of the others.

    Raises:
        SystemFailure: if jax's coordinator cannot be reached.
        ValueError: if jax counts the processes in another way.
    """
    host = f"[{identity.host}]" if ":" in identity.host else identity.host
    # jax would take over the handling of SIGTERM; processes.agree does that part.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax_seconds = int(2 * settings.lost_seconds) + 60
    if not jax.distributed.is_initialized():
        if identity.index:  # jax would wait for longer, and not say what for
            connect(identity, "port", settings.connect_seconds).close()
        try:
            jax.distributed.initialize(
                f"{host}:{identity.port}",
                identity.count,
                identity.index,
                local_device_ids=own_devices(people[identity.index], people, os.environ),
                cluster_detection_method="deactivate",
                initialization_timeout=max(1, int(settings.connect_seconds)),
                heartbeat_timeout_seconds=jax_seconds,
                shutdown_timeout_seconds=jax_seconds,
            )
        except jax.errors.JaxRuntimeError as error:
            raise SystemFailure(
                f"Process {identity.index} did not reach jax's coordinator at {host}:"
                f"{identity.port}: {reason(error)} (config.processes.port)."
            ) from error
    counted = (jax.process_index(), jax.process_count())
    if counted != (identity.index, identity.count):
        raise ValueError(
            f"jax counts this process as {counted[0]} of {counted[1]}, and {identity.source} as "
            f"{identity.index} of {identity.count} (config.processes.id, config.processes.count)."
        )


def own_devices(
    person: Person, people: Sequence[Person], environ: Mapping[str, str]
) -> list[int] | None:
    """The GPUs of this process: one each where several share a machine; None for all.

    Variables that choose devices already are left to those who read them.
    """
    neighbours = [other.index for other in people if other.host == person.host]
    chosen = {"JAX_LOCAL_DEVICE_IDS", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"} & set(environ)
    if len(neighbours) == 1 or chosen:
        return None
    return [neighbours.index(person.index)]


def devices() -> dict[str, Any]:
    """What must be the same of the devices of every process."""
    return {"kind": jax.local_devices()[0].device_kind, "number": jax.local_device_count()}
