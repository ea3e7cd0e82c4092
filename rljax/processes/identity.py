"""Who this process is: its number, how many there are, and where process 0 listens.

The fields of the config come first. What they leave open, the environment says
(environments.py). Nothing is looked up twice, and one process alone asks for nothing.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from rljax.errors import shown
from rljax.processes.environments import Found, found_in, launcher
from rljax.processes.settings import DEFAULT_PORT, Settings

MOST_PROCESSES = 65_536
LAST_PORT = 65_535


class Identity(NamedTuple):
    """A process among those of its run.

    Attributes:
        index: of this process, from 0.
        count: of all processes.
        host: name or address of process 0.
        port: of jax's coordinator there.
        roll_call_port: of ours there.
        source: what said so, for errors.
    """

    index: int
    count: int
    host: str = ""
    port: int = DEFAULT_PORT
    roll_call_port: int = DEFAULT_PORT + 1
    source: str = ""


ALONE = Identity(0, 1)


def identify(
    settings: Settings,
    environ: Mapping[str, str],
    metadata: Callable[[str], str | None] = lambda key: None,
) -> Identity:
    """Who this process is.

    Args:
        settings: `config.processes`; count=1 means alone, whatever the environment says.
        environ: variables of the environment.
        metadata: reads an attribute of a Cloud TPU machine, None where there is none
            (metadata.py).

    Raises:
        ValueError: for settings that are incomplete or contradict each other.
    """
    if settings.count == 1:
        _check_alone(settings)
        return ALONE
    found = found_in(environ, metadata) or Found("the environment")
    count = _agreed("count", settings.count, found.count, found.source)
    index = _agreed("id", settings.id, found.index, found.source)
    host = settings.coordinator or found.host
    if count is None and index is None and not settings.coordinator:
        return ALONE
    if count == 1:
        return ALONE
    given = {"count": count, "id": index, "coordinator": host}
    if missing := [name for name, value in given.items() if value in (None, "")]:
        known = ", ".join(f"{k}={v!r}" for k, v in given.items() if v not in (None, ""))
        raise ValueError(
            f"Several processes need count, id and coordinator; {found.source} and the config say "
            f"{known}, and not {', '.join(missing)} "
            f"({', '.join(f'config.processes.{name}' for name in missing)})."
        )
    if not 0 <= index < count:
        raise ValueError(
            f"The process id must be in 0..{count - 1}, as there are {count} processes, got "
            f"{index} (config.processes.id, {found.source})."
        )
    port = settings.port or found.port or DEFAULT_PORT
    roll_call_port = settings.roll_call_port or port + 1
    if not 1 <= port <= LAST_PORT or roll_call_port > LAST_PORT or port == roll_call_port:
        raise ValueError(
            f"Two different ports in 1..{LAST_PORT} are needed, got {port} for jax and "
            f"{roll_call_port} for the roll call (config.processes.port, "
            "config.processes.roll_call_port)."
        )
    return Identity(index, count, host, port, roll_call_port, found.source)


def check_alone(command: str, environ: Mapping[str, str]) -> None:
    """Raises ValueError where launch/hosts.py, or its variables, start a command several times.

    Args:
        command: that is one process.
        environ: variables of the environment.
    """
    found = launcher(environ)
    if found is not None and (found.count or 1) > 1:
        raise ValueError(
            f"{command} is one process, and {found.count} of it were started: start it alone, "
            "without launch/hosts.py (RLJAX_PROCESSES)."
        )


def _check_alone(settings: Settings) -> None:
    if settings.id or settings.coordinator:
        raise ValueError(
            f"count=1 is one process alone, and id={settings.id}, coordinator="
            f"{settings.coordinator!r} belong to several (config.processes)."
        )


def _agreed(field: str, given: int | None, found: int | None, source: str) -> int | None:
    """The value of a field, which the environment must not contradict."""
    if given is not None and found is not None and given != found:
        raise ValueError(
            f"config.processes.{field}={given} contradicts {source}, which says {shown(found)}: "
            f"leave the field out, or start as many processes as it says "
            f"(config.processes.{field})."
        )
    return found if given is None else given
