"""What became of an episode, as plain data: rewards read it, and the report shows it."""

from collections.abc import Sequence
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
    messages: Sequence[Message], turns: Sequence[PlayedTurn], end: str, error: str | None
) -> dict[str, Any]:
    """An episode for rewards and report.

    Args:
        messages: of the whole conversation, the last reply included.
        turns: in order.
        end: one of `ENDS`.
        error: of the environment, where it failed.
    """
    return {
        "messages": list(messages),
        "turns": [turn._asdict() for turn in turns],
        "end": end,
        "error": error,
    }
