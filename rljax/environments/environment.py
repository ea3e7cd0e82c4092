"""What an environment is: two plain functions on text, and what they return.

    reset(record)        the beginning of an episode: messages, a state, tools
    step(state, reply)   what answers the model's reply: messages, a reward, whether it is over

`record` is a problem of the run, `state` whatever the environment needs to go on: plain data
(JSON), which `step` may change in place. Nothing else may be remembered between two calls, as each
of them may run in another process. The same record, replies and options must give the same episode.

There may be a third function, `warm()`: each process that steps calls it once, before its first
step, so that no step's time pays for what is imported or started.

An environment of several players: players.py.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from rljax.data.conversations import Message, read_messages
from rljax.data.text_format import check_texts
from rljax.errors import typed

FIELD = "config.environment"

# Rewards are summed and squared in float32.
LARGEST_REWARD = 1e16


class Start(NamedTuple):
    """The beginning of an episode.

    Attributes:
        messages: a conversation, or the text of the user's first message.
        state: plain data; None: a mapping with the record.
        tools: JSON schemas for the chat template; None where there are none.
    """

    messages: Any
    state: Any = None
    tools: list[dict[str, Any]] | None = None


class Turn(NamedTuple):
    """What answers a reply.

    Attributes:
        observation: messages for the model, or the text of a user's message; not read once `done`.
        reward: of this turn; those of all turns are added up.
        done: the episode is over.
    """

    observation: Any
    reward: float = 0.0
    done: bool = False


class Environment(Protocol):
    """An object with these functions; a Python file with them is one too."""

    def reset(self, record: Mapping[str, Any]) -> Start | list[Message] | str:
        """The beginning of an episode of a problem."""

    def step(self, state: Any, reply: str) -> Turn | tuple[Any, float, bool]:
        """What answers a reply of the model."""


def start_of(environment: Environment, record: Mapping[str, Any], where: str) -> Start:
    """`reset`, with what it returns in the usual form.

    Args:
        environment: of the run.
        record: a problem.
        where: the problem's place, for errors.

    Raises:
        ValueError: for anything but messages, plain data and schemas; what `reset` itself raises
            is let through.
    """
    found = environment.reset(record)
    start = found if isinstance(found, Start) else Start(found)
    messages = read_messages(as_messages(start.messages), f"{where}: what reset() returned")
    state = {"record": dict(record)} if start.state is None else start.state
    check_plain(state, f"{where}: the state that reset() returned")
    if start.tools is not None and not isinstance(start.tools, list):
        raise ValueError(
            f"{where}: reset() must return tools as a list of JSON schemas, got "
            f"{typed(start.tools)} ({FIELD}.name)."
        )
    return Start(messages, state, start.tools)


def turn_of(environment: Environment, state: Any, reply: str) -> tuple[Any, Turn]:
    """`step`: the state after it, and what it returns in the usual form.

    Raises:
        ValueError: for anything but (observation, reward, done); what `step` itself raises is let
            through.
    """
    found = environment.step(state, reply)
    if not isinstance(found, tuple) or len(found) != 3:
        raise ValueError(
            f"step() must return (observation, reward, done), got {typed(found)} ({FIELD}.name)."
        )
    turn = Turn(*found)
    check_reward(turn.reward)
    if not isinstance(turn.done, bool):
        raise ValueError(
            f"step() must return True or False as done, got {typed(turn.done)} ({FIELD}.name)."
        )
    messages = []
    if not turn.done:
        messages = read_messages(as_messages(turn.observation), "what step() returned")
        if messages[-1]["role"] == "assistant":
            raise ValueError(
                "step() must return what the model answers, and its last message is the "
                f"assistant's ({FIELD}.name)."
            )
        check_texts(messages, "what step() returned")
    check_plain(state, "the state after step()")
    return state, Turn(messages, float(turn.reward), turn.done)


def check_reward(value: Any) -> None:
    """Raises ValueError for a reward that is no number, or none that float32 can square."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(
            f"step() must return a number as reward, got {typed(value)} ({FIELD}.name)."
        )
    if not abs(value) <= LARGEST_REWARD:
        raise ValueError(
            f"step() must return a finite reward of at most {LARGEST_REWARD:g}, got {value!r} "
            f"({FIELD}.name)."
        )


def as_messages(value: Any) -> Any:
    """A text as the user's message; anything else as it is."""
    return [{"role": "user", "content": value}] if isinstance(value, str) else value


def check_plain(value: Any, what: str) -> None:
    """Raises ValueError unless a value is what it was once it has been JSON."""
    try:
        same = json.loads(json.dumps(value)) == value
    except (TypeError, ValueError):
        same = False
    if not same:
        raise ValueError(
            f"{what} must be plain data that JSON keeps as it is (texts, numbers, lists, mappings "
            f"with texts as keys), got {typed(value)} ({FIELD}.name)."
        )
