"""A server that agents of a run play episodes on: each API key is the seat of one episode.

An agent sends the usual chat requests and knows nothing of episodes. How tokens are drawn is the
run's: a request that says it otherwise is refused, so that nothing is learned from tokens of
another distribution.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rljax.data.text_format import TextFormat
from rljax.serving.asked import Ask
from rljax.serving.episodes import TEMPLATE_REWRITES, Ended, Episodes, Opened, Segment
from rljax.serving.protocol import BadRequest, ChatBody, Common, CompletionBody
from rljax.serving.service import Service, Work
from rljax.serving.worker import Worker

# The name of a seat's only episode.
EPISODE = "episode"

# Codes of requests that would take an episode beyond its limits.
TOO_MANY_TURNS, NO_ROOM = "episode_turns", "context_length_exceeded"

# What requests call the model of a run.
MODEL = "policy"

# Fields of `Ask` that a request must leave as the run has them, and what requests call them.
DRAWN_BY_RUN = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "presence": "presence_penalty",
    "frequency": "frequency_penalty",
    "logit_bias": "logit_bias",
    "least": "min_tokens",
    "ends": "stop_token_ids",
}


class Rules(NamedTuple):
    """What holds for all episodes of a run.

    Attributes:
        temperature, top_k, top_p, min_p: of every token.
        stop: texts that end a reply, besides those that a request names.
        prompt_tokens: of the first prompt of an episode, at most.
        room: tokens behind it, replies and what answers them together.
        turns: replies of an episode at most.
        turn_tokens: of a reply at most.
    """

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    stop: tuple[str, ...]
    prompt_tokens: int
    room: int
    turns: int
    turn_tokens: int

    def drawn(self) -> dict[str, Any]:
        """The fields that say how tokens are drawn."""
        return {name: getattr(self, name) for name in ("temperature", "top_k", "top_p", "min_p")}


class Seat(NamedTuple):
    """Where the noise of an episode is: (stream, step, prompt, sample + samples * turn).

    Attributes:
        stream: data of the key of a random stream (sampling/keys.py).
        step: counted over the run.
        prompt_id: of the problem.
        sample: which of the problem's episodes.
        samples: G, episodes of a problem.
    """

    stream: tuple[int, ...]
    step: int
    prompt_id: int
    sample: int
    samples: int


class SeatService(Service):
    """Answers agents that sit at `seats`, by API key."""

    def __init__(self, worker: Worker, text_format: TextFormat, rules: Rules, rewritten: str):
        """See `Service`; nobody has a seat yet."""
        super().__init__(MODEL, worker, text_format, rewritten=rewritten)
        self.rules, self._rewritten = rules, rewritten
        self.model = self.model._replace(defaults=rules.drawn())
        self.seats: Mapping[str, Seat] = {}
        self.refused: dict[str, str] = {}  # its code, of each seat whose last request was refused
        self.template_error: BadRequest | None = None  # a conversation that it cannot go on with

    def seat(self, seats: Mapping[str, Seat]) -> None:
        """Begins with the episodes of these keys."""
        self.seats, self.refused, self.template_error = dict(seats), {}, None
        # As many as there are seats, whatever a server keeps at a time.
        self.episodes = Episodes(self.text_format, len(seats), rewritten=self._rewritten)

    def end(self) -> dict[str, Ended]:
        """The episodes by key, also those whose agent has left; nobody has a seat any more."""
        self.seats = {}
        ended = self.episodes.end_all()
        return {owner: each for (owner, _), each in ended.items() if each.segments}

    def completion(self, body: CompletionBody, owner: str = "") -> Work:
        """Refused: an episode is a conversation."""
        raise BadRequest(
            "Episodes of a run are played by requests to /v1/chat/completions.", "prompt"
        )

    def close_episode(self, name: str, owner: str = "") -> list[Segment]:
        """Refused: what was played is learned from."""
        raise BadRequest("Episodes of a run end with the run's step (episode).", "episode")

    def chat(self, body: ChatBody, owner: str = "") -> Work:
        """The next turn of the episode of a seat.

        Raises:
            BadRequest: also for a request that draws tokens otherwise than the run, or goes beyond
                the limits of an episode.
        """
        try:
            self._check(body.common)
            common = dataclasses.replace(body.common, episode=EPISODE)
            work = super().chat(dataclasses.replace(body, common=common), owner)
        except BadRequest as error:
            self.refused[owner] = error.code
            if error.code == TEMPLATE_REWRITES:
                self.template_error = error
            raise
        self.refused.pop(owner, None)  # the episode goes on
        # Ids of tool calls follow from it, which a template may show: they repeat with the run.
        (ask,) = work.asks
        place = repr((ask.stream, ask.step, ask.prompt_id, ask.first_sample)).encode()
        name = f"chatcmpl-{hashlib.sha256(place).hexdigest()[:24]}"
        return dataclasses.replace(work, name=name)

    def _check(self, common: Common) -> None:
        expected = self.rules.drawn() | {"presence": 0.0, "frequency": 0.0, "logit_bias": ()}
        expected |= {"least": 0, "ends": self.model.ends}
        for field, name in DRAWN_BY_RUN.items():
            if (given := common.others[field]) != expected[field]:
                raise BadRequest(
                    f"{name} is the run's, {expected[field]!r}, and the request has {given!r}: "
                    f"leave it out ({name}).",
                    name,
                )
        unread = {"seed": common.seed, "episode": common.episode}
        unread |= {"n": None if common.n == 1 else common.n}
        unread |= {"on_rewrite": None if common.on_rewrite == "refuse" else common.on_rewrite}
        for name, given in unread.items():
            if given is not None:
                raise BadRequest(
                    f"{name} is the run's, whose keys stand for one episode each; the request has "
                    f"{given!r}: leave it out ({name}).",
                    name,
                )

    def ask(self, common: Common, ids: Sequence[int], opened: Opened | None, **fields: Any) -> Ask:
        """A turn within the limits of the run, with the noise of its seat."""
        rules, turn = self.rules, len(opened.before)
        begun = opened.before[0].start if turn else len(ids)
        if turn >= rules.turns:
            raise BadRequest(
                f"The episode has had {turn} replies, which is all that are allowed "
                "(config.environment.turns).",
                "messages",
                code=TOO_MANY_TURNS,
            )
        left = rules.room - (len(ids) - begun)
        if begun > rules.prompt_tokens or left < 1:
            raise BadRequest(
                f"The episode begins with {begun} tokens, {len(ids) - begun} follow: at most "
                f"{rules.prompt_tokens} (config.data.max_prompt_tokens) and {rules.room - 1} have "
                "room.",
                "messages",
                code=NO_ROOM,
            )
        asked = left if common.max_tokens is None else common.max_tokens
        common = dataclasses.replace(
            common,
            max_tokens=min(asked, left, rules.turn_tokens),
            others={**common.others, "stop": (*rules.stop, *common.others["stop"])},
        )
        seat = self.seats[opened.episode[0]]
        return dataclasses.replace(
            super().ask(common, ids, opened, **fields),
            stream=seat.stream,
            step=seat.step,
            prompt_id=seat.prompt_id,
            first_sample=seat.sample + seat.samples * turn,
        )
