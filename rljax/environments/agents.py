"""Agents: programs of the user's that play an episode each against the server of a run.

    play(record, endpoint)     a Python function; what it returns is the reward of the episode

An agent knows an address, a key and a problem. It asks as any client of OpenAI's protocol does; the
key stands for its episode. Agents run in worker processes, one episode at a time in each, with a
time limit for an episode. They import no jax.
"""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rljax.environments.environment import LARGEST_REWARD
from rljax.environments.table import absolute_name, imported
from rljax.errors import reason, typed
from rljax.rewards.worker import Job, Outcome
from rljax.rewards.workers import Workers

FIELD = "config.environment.agent"

# The job of a worker (rewards/worker.py), and its name in messages.
WORK, NOUN = "rljax.environments.agents:prepare", "agent"

# The function of a file that names none.
PLAY = "play"


class Endpoint(NamedTuple):
    """Where an agent's episode is played.

    Attributes:
        base_url: of the server, with /v1.
        api_key: of the episode; no other one has it.
        model: what requests call the model.
    """

    base_url: str
    api_key: str
    model: str


def find_agent(name: str, options: Mapping[str, Any]) -> Callable[..., Any]:
    """The function of an agent.

    Args:
        name: "path/to/file.py" with a function play, "path/to/file.py:NAME" or
            "package.module:NAME".
        options: keyword arguments of every call.

    Raises:
        ValueError: for a missing file or function, or one that does not take
            (record, endpoint, **options).
    """
    name = name if ":" in name else f"{name}:{PLAY}"
    function = imported(name, FIELD)
    if not callable(function):
        raise ValueError(f"{name!r} must be a function, got {typed(function)} ({FIELD}).")
    try:
        inspect.signature(function).bind({}, None, **options)
    except TypeError as error:
        raise ValueError(
            f"Agent {name!r} must take (record, endpoint) and config.environment.options: "
            f"{reason(error)} ({FIELD}, config.environment.options)."
        ) from error
    return function


def prepare(name: str, options: Mapping[str, Any]) -> Callable[..., float | None]:
    """What plays (record, endpoint) in a worker."""
    function = find_agent(name, options)

    def play(record: Mapping[str, Any], endpoint: Endpoint) -> float | None:
        # Where a client of OpenAI's looks if it is told nothing.
        os.environ.update(OPENAI_BASE_URL=endpoint.base_url, OPENAI_API_KEY=endpoint.api_key)
        return reward_of(function(record, endpoint, **options))

    return play


def reward_of(found: Any) -> float | None:
    """What an agent has returned: a number, or None.

    Raises:
        ValueError: for anything else.
    """
    if found is None:
        return None
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ValueError(f"The agent must return a number or None, got {typed(found)} ({FIELD}).")
    if not abs(found) <= LARGEST_REWARD:
        raise ValueError(
            f"The agent must return a finite reward of at most {LARGEST_REWARD:g}, got {found!r} "
            f"({FIELD})."
        )
    return float(found)


class Agents:
    """Worker processes that play episodes; a context manager.

    Args:
        name: of the agent (`find_agent`).
        options: keyword arguments of the agent.
        workers: processes, each of which plays one episode at a time.
        seconds: limit for one episode.
        memory_mb: address space of a worker.

    Raises:
        ValueError: for an agent that does not exist.
    """

    def __init__(
        self, name: str, options: Mapping[str, Any], *, workers: int, seconds: float, memory_mb: int
    ) -> None:
        find_agent(name, options)
        self.count = workers
        arguments = absolute_name(name), dict(options)
        self._workers = Workers(Job(WORK, arguments, NOUN, seconds, memory_mb), workers)

    def __enter__(self) -> "Agents":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers; may be called twice."""
        self._workers.close()

    def play(self, episodes: Sequence[tuple[Mapping[str, Any], Endpoint]]) -> list[Outcome]:
        """Plays an episode of each (record, endpoint); returns their rewards, in order.

        One that raises, or takes too long, is an error there.

        Raises:
            ScoringError: the workers cannot start.
        """
        return self._workers.ask(episodes) if episodes else []
