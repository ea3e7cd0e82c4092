"""What became of an episode, as plain data: rewards read it, and the report shows it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rljax.data.conversations import Message

# Why an episode ended: the environment said so; after the last turn that is allowed; a reply was
# cut off; the answer to a reply did not fit; the environment failed.
ENDS = ("done", "turns", "cut", "room", "failed")


class PlayedTurn(NamedTuple):
    """A reply and what came of it.

    Attributes:
        reply: its text.
        reward: of the environment; 0 where it was not asked, or failed.
        begin: place of its first token in the completion.
        end: place behind its last token.
    """

    reply: str
    reward: float
    begin: int
    end: int


def episode_record(
    messages: Sequence[Message],
    turns: Sequence[PlayedTurn],
    end: str,
    error: str | None,
    *,
    role: str = "",
    measures: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """An episode for rewards and report, or what one of its players has seen of it.

    Args:
        messages: of the whole conversation, the last reply included.
        turns: in order.
        end: one of `ENDS`.
        error: of the environment, where it failed.
        role: of the player; "" where there is only one.
        measures: numbers of the environment for the log; of the first player alone, so that each
            episode counts once.
    """
    return {
        "messages": list(messages),
        "turns": [turn._asdict() for turn in turns],
        "end": end,
        "error": error,
        "role": role,
        "measures": dict(measures or {}),
    }
