"""Episodes of several players: games against oneself, agents that work together.

One policy replies for all players, in turn. Each player reads a conversation of its own: what it is
told, its own replies, and nothing else of the others. An environment of several players has

    roles                what a player can be, names; one player for each, unless it says `players`
    players              how many there are in an episode, where that is another number
    reset(record)        an `Opening`: a conversation for each player, and who replies first
    step(state, reply)   a `Move`: what each player is told and given, and who replies next

and else is like any other (environment.py). Players are numbered from 0.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rljax.data.conversations import Message, read_messages
from rljax.data.text_format import check_texts
from rljax.environments.environment import (
    FIELD,
    Environment,
    as_messages,
    check_plain,
    check_reward,
)
from rljax.errors import typed


class Opening(NamedTuple):
    """The beginning of an episode.

    Attributes:
        conversations: of each player, messages or the text of the user's first one.
        state: plain data.
        player: who replies first.
        roles: of the players, in order; None: the environment's own.
    """

    conversations: Sequence[Any]
    state: Any
    player: int = 0
    roles: Sequence[str] | None = None


class Move(NamedTuple):
    """What answers a reply.

    Attributes:
        player: who replies next; None: the episode is over.
        observations: of some players, messages or the text of a user's message. A player reads
            them before its next reply; the one that replies next has some, unless it has not
            replied yet.
        rewards: of some players. A reward counts for the player's latest reply.
        measures: numbers for the log, of which the mean over episodes is shown.
    """

    player: int | None
    observations: Mapping[int, Any] = {}
    rewards: Mapping[int, float] = {}
    measures: Mapping[str, float] = {}


class Moved(NamedTuple):
    """A `Move` in the usual form, whatever the environment; K players."""

    player: int | None
    observations: list[list[Message]]  # K
    rewards: list[float]  # K
    measures: dict[str, float] = {}


def roles_of(environment: Environment) -> tuple[str, ...]:
    """The roles of an environment, in their order; () for one with a single player.

    Raises:
        ValueError: for anything but different names.
    """
    given = getattr(environment, "roles", ())
    named = isinstance(given, tuple | list) and all(isinstance(x, str) and x for x in given)
    if not named or len(set(given)) < len(given):
        raise ValueError(
            f"roles of an environment must be different names, got {typed(given)} ({FIELD}.name)."
        )
    return tuple(given)


def player_count(environment: Environment) -> int:
    """Players of an episode; 1 for an environment without roles.

    Raises:
        ValueError: for what `roles_of` refuses, or fewer than two players.
    """
    roles = roles_of(environment)
    if not roles:
        return 1
    count = getattr(environment, "players", len(roles))
    if not isinstance(count, int) or count < 2:
        raise ValueError(
            f"players of an environment with roles must be a whole number >= 2, got {count!r} "
            f"({FIELD}.name)."
        )
    return count


def opening_of(environment: Environment, record: Mapping[str, Any], where: str) -> Opening:
    """`reset` of an environment of several players, with what it returns in the usual form.

    Raises:
        ValueError: for anything but an `Opening` with a conversation and a role for each player;
            what `reset` itself raises is let through.
    """
    count, known = player_count(environment), roles_of(environment)
    found = environment.reset(record)
    if not isinstance(found, Opening):
        raise ValueError(
            f"{where}: reset() of an environment with roles must return an Opening, got "
            f"{typed(found)} ({FIELD}.name)."
        )
    roles = known if found.roles is None else tuple(found.roles)
    if len(found.conversations) != count or len(roles) != count or not set(roles) <= set(known):
        raise ValueError(
            f"{where}: reset() must return a conversation and a role of {known} for each of "
            f"{count} players, got {len(found.conversations)} conversations and {roles} "
            f"({FIELD}.name)."
        )
    _check_player(found.player, count, f"{where}: reset()")
    what = f"{where}: what reset() returned for player"
    conversations = [
        read_messages(as_messages(each), f"{what} {player}")
        for player, each in enumerate(found.conversations)
    ]
    check_plain(found.state, f"{where}: the state that reset() returned")
    return Opening(conversations, found.state, found.player, roles)


def move_of(environment: Environment, state: Any, reply: str) -> tuple[Any, Moved]:
    """`step` of an environment of several players: the state after it, and what it returns.

    Raises:
        ValueError: for anything but a `Move`; what `step` itself raises is let through.
    """
    count = player_count(environment)
    found = environment.step(state, reply)
    if not isinstance(found, Move):
        raise ValueError(
            f"step() of an environment with roles must return a Move, got {typed(found)} "
            f"({FIELD}.name)."
        )
    if found.player is not None:
        _check_player(found.player, count, "step()")
    for player in (*found.observations, *found.rewards):
        _check_player(player, count, "step()")
    for value in (*found.rewards.values(), *found.measures.values()):
        check_reward(value)
    observations = [_told(found.observations, player) for player in range(count)]
    check_plain(state, "the state after step()")
    rewards = [float(found.rewards.get(player, 0.0)) for player in range(count)]
    measures = {str(name): float(value) for name, value in found.measures.items()}
    return state, Moved(found.player, observations, rewards, measures)


def seen(
    environment: Environment, record: Mapping[str, Any], choose: Callable[[Any], str]
) -> list[list[Message]]:
    """What the players have seen of an episode with given replies; those that replied, in order.

    Args:
        environment: of several players.
        record: a problem.
        choose: the state -> a reply.
    """
    opening = opening_of(environment, record, "a demonstration")
    shown: list[list[Message]] = [list(each) for each in opening.conversations]
    waiting: list[list[Message]] = [[] for _ in shown]
    state, player = copy.deepcopy(opening.state), opening.player
    replied = set()
    while player is not None:
        reply = choose(state)
        said = {"role": "assistant", "content": reply}
        shown[player] = [*joined(shown[player], waiting[player]), said]
        waiting[player] = []
        replied.add(player)
        state, move = move_of(environment, state, reply)
        for place, news in enumerate(move.observations):
            waiting[place] += news
        player = move.player
    return [shown[place] for place in sorted(replied)]


def joined(messages: Sequence[Message], more: Sequence[Message]) -> list[Message]:
    """Messages and further ones; texts of the user in a row are one message, on lines of their own.

    Many chat templates refuse two messages of the user in a row.
    """
    made = list(messages)
    for message in more:
        plain = all(set(each) == {"role", "content"} for each in (*made[-1:], message))
        if made and plain and made[-1]["role"] == message["role"] == "user":
            content = f"{made[-1]['content']}\n{message['content']}"
            made[-1] = {"role": "user", "content": content}
        else:
            made.append(message)
    return made


def _told(observations: Mapping[int, Any], player: int) -> list[Message]:
    if player not in observations:
        return []
    what = f"what step() returned for player {player}"
    messages = read_messages(as_messages(observations[player]), what)
    if messages[-1]["role"] == "assistant":
        raise ValueError(
            f"{what} must be what the player is told, and its last message is the assistant's "
            f"({FIELD}.name)."
        )
    check_texts(messages, what)
    return messages


def _check_player(player: Any, count: int, what: str) -> None:
    if isinstance(player, bool) or not isinstance(player, int) or not 0 <= player < count:
        raise ValueError(
            f"{what} must name players by their number, 0 to {count - 1}, got {player!r} "
            f"({FIELD}.name)."
        )
