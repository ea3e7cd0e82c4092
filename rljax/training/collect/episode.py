"""An episode under way, and what each of its players has seen of it.

A view is a player's own conversation: ids that it read and wrote, without a break. With one player
an episode has one view.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from rljax.data.conversations import Message
from rljax.data.text_format import Prompt
from rljax.environments.players import Moved
from rljax.environments.record import PlayedTurn, episode_record
from rljax.sampling.request import StopReason

# What the sampler says of each token.
OF_TOKENS = ("logprobs", "model_logprobs", "tempered_logprobs", "entropy", "temperature")


@dataclasses.dataclass
class View:
    """What a player has seen.

    Attributes:
        messages: so far; the latest reply is not among them before it is answered.
        prompt: what the first reply is sampled behind; None before that.
        waiting: messages that the player has not read yet.
        role: of the player; "" where there is only one.
        cut: a reply has been cut off.
        full: what the player was told does not fit any more: it says nothing.
        tokens, sampled, said: of the completion, token by token.
        turns: the replies.
    """

    messages: list[Message]
    prompt: Prompt | None = None
    role: str = ""
    waiting: list[Message] = dataclasses.field(default_factory=list)
    cut: bool = False
    full: bool = False
    tokens: list[int] = dataclasses.field(default_factory=list)
    sampled: list[bool] = dataclasses.field(default_factory=list)
    said: dict[str, list[float]] = dataclasses.field(
        default_factory=lambda: {name: [] for name in OF_TOKENS}
    )
    turns: list[PlayedTurn] = dataclasses.field(default_factory=list)

    def write(self, tokens: Sequence[int], said: dict[str, Sequence[float]] | None) -> None:
        """Appends a reply with what the sampler says of it, or an answer."""
        self.tokens += list(tokens)
        self.sampled += [said is not None] * len(tokens)
        for name in OF_TOKENS:
            self.said[name] += list(said[name]) if said else [0.0] * len(tokens)

    def reply(self, text: str, tokens: Sequence[int], said: dict[str, Sequence[float]]) -> None:
        """Appends a turn."""
        begin = len(self.tokens)
        self.write(tokens, said)
        self.turns.append(PlayedTurn(text, 0.0, begin, len(self.tokens)))

    def reward(self, reward: float) -> None:
        """Adds to what the latest reply has earned; a player without one earns nothing."""
        if self.turns:
            last = self.turns[-1]
            self.turns[-1] = last._replace(reward=last.reward + reward)

    @property
    def whole(self) -> list[Message]:
        """All messages, the latest reply included."""
        if not self.turns:
            return self.messages
        return [*self.messages, {"role": "assistant", "content": self.turns[-1].reply}]


@dataclasses.dataclass
class Episode:
    """An episode, which `Player` writes."""

    prompt: int  # place of its prompt in the step
    sample: int  # which of the prompt's episodes
    state: Any
    views: list[View]
    player: int = 0  # who replies next, or has replied last
    replies: int = 0
    end: str = ""  # "": it goes on
    error: str | None = None
    measures: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def view(self) -> View:
        """Of the player whose turn it is."""
        return self.views[self.player]

    @property
    def several(self) -> bool:
        """Whether there are several players."""
        return len(self.views) > 1

    def reply(self, text: str, tokens: Sequence[int], said: dict[str, Sequence[float]]) -> None:
        """The player's turn."""
        self.view.reply(text, tokens, said)
        self.replies += 1

    def fail(self, error: str | None) -> None:
        """Ends the episode with an error."""
        self.end, self.error = "failed", error

    def move(self, state: Any, moved: Moved) -> None:
        """What the environment answered: rewards, news, and who replies next."""
        self.state = state
        self.measures = self.measures | moved.measures
        for view, reward, news in zip(self.views, moved.rewards, moved.observations, strict=True):
            view.reward(reward)
            view.waiting += news
        if moved.player is None:
            self.end = "done"
        else:
            self.player = moved.player

    def records(self) -> list[dict[str, Any]]:
        """What became of it, for rewards and report: one for each view."""
        return [
            episode_record(
                view.whole,
                view.turns,
                self.end,
                self.error,
                role=view.role,
                measures=None if place else self.measures,
            )
            for place, view in enumerate(self.views)
        ]


def row_arrays(episodes: Sequence[Episode], *, room: int, pad_id: int) -> dict[str, np.ndarray]:
    """The completions of all views, in the order of episodes and players.

    Args:
        episodes: that are over.
        room: T, tokens of a completion.
        pad_id: fills the rest.

    Returns:
        Fields of `Rollouts` with N rows: tokens, mask, inserted, what the sampler says, and
        stop_reason. A row has stopped by itself where the episode was over, and none of its replies
        was cut.
    """
    rows = [(episode, view) for episode in episodes for view in episode.views]
    shape = len(rows), room
    tokens, mask = np.full(shape, pad_id, np.int32), np.zeros(shape, bool)
    inserted = np.zeros(shape, bool)
    said = {name: np.zeros(shape, np.float32) for name in OF_TOKENS}
    stop = np.full(len(rows), StopReason.LENGTH, np.int32)
    for row, (episode, view) in enumerate(rows):
        count = len(view.tokens)
        tokens[row, :count], mask[row, :count] = view.tokens, view.sampled
        inserted[row, :count] = ~mask[row, :count]
        for name, values in said.items():
            values[row, :count] = view.said[name]
        if episode.end == "done" and not view.cut:
            stop[row] = StopReason.STOP_TOKEN
    return {"tokens": tokens, "mask": mask, "inserted": inserted, "stop_reason": stop, **said}
