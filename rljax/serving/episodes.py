"""Episodes that somebody else plays: the server keeps the ids of every turn.

Each request of an episode carries its id. The prompt of the next turn must extend what has been
read and written; new messages are appended behind the sampled ids, which are never tokenised again.
So of an episode's ids each one was sampled, or inserted as the model read it.
"""

import dataclasses
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rljax.data.conversations import without_nulls
from rljax.data.next_turn import Rewritten
from rljax.data.text_format import Prompt, TextFormat
from rljax.sampling.request import StopReason
from rljax.serving.asked import Sample
from rljax.serving.protocol import BadRequest
from rljax.serving.rendering import TemplateRewrites, append_turn, first_turn
from rljax.serving.tool_calls import for_template

# The code of a request that the chat template cannot go on with.
TEMPLATE_REWRITES = "template_rewrites"

# What of a message is compared; clients add fields such as `refusal`.
COMPARED = ("role", "content", "tool_calls", "tool_call_id", "name")


class Turn(NamedTuple):
    """One answer of an episode."""

    start: int  # place of its first sampled id in the segment
    stop: int
    reason: str
    version: int  # of the weights
    seed: int
    temperature: float
    sample: int  # in the address of its noise: the seed gives each turn noise of its own


@dataclasses.dataclass(eq=False)
class Segment:
    """Ids that the model read and wrote without a break, T of them.

    Attributes:
        ids: [T].
        sampled: [T], True where an id was sampled, False where it was inserted.
        logprobs: [T], under the distribution really sampled from; 0 where inserted.
        model_logprobs: [T], under the raw model; 0 where inserted.
        tempered_logprobs: [T], under the raw model's logits / temperature; 0 where inserted.
        entropy: [T], of the distribution really sampled from; 0 where inserted.
        versions: [T] of the weights that sampled an id; -1 where inserted.
        turns: in order.
    """

    ids: list[int] = dataclasses.field(default_factory=list)
    sampled: list[bool] = dataclasses.field(default_factory=list)
    logprobs: list[float] = dataclasses.field(default_factory=list)
    model_logprobs: list[float] = dataclasses.field(default_factory=list)
    tempered_logprobs: list[float] = dataclasses.field(default_factory=list)
    entropy: list[float] = dataclasses.field(default_factory=list)
    versions: list[int] = dataclasses.field(default_factory=list)
    turns: list[Turn] = dataclasses.field(default_factory=list)

    def insert(self, ids: Sequence[int]) -> None:
        """Appends ids that were not sampled."""
        count = len(ids)
        self.ids += ids
        self.sampled += [False] * count
        for numbers in self._numbers():
            numbers += [0.0] * count
        self.versions += [-1] * count

    def append(self, sample: Sample, seed: int, temperature: float, number: int) -> None:
        """Appends an answer."""
        start, count = len(self.ids), len(sample.tokens)
        self.ids += sample.tokens
        self.sampled += [True] * count
        said = sample.logprobs, sample.model.logprobs, sample.tempered, sample.entropy
        for numbers, more in zip(self._numbers(), said, strict=True):
            numbers += more
        self.versions += [sample.version] * count
        reason = StopReason(sample.reason).name.lower()
        turn = Turn(start, start + count, reason, sample.version, seed, temperature, number)
        self.turns.append(turn)

    def _numbers(self) -> tuple[list[float], ...]:
        return self.logprobs, self.model_logprobs, self.tempered_logprobs, self.entropy


class Talk(NamedTuple):
    """The conversation of a segment after a turn; None for prompts that are ids."""

    prompt: Prompt  # that was answered last
    messages: list[dict[str, Any]]  # as the client has them, with the answer's
    asked: dict[str, Any]  # tools and variables of the template


# Whose episode it is (an API key; "" where none is asked for), and its name.
Key = tuple[str, str]


class Opened(NamedTuple):
    """A turn that has begun: the ids that the model reads, and what its answer is kept with."""

    episode: Key
    ids: list[int]
    inserted: list[int]
    is_new: bool  # whether it begins a segment
    prompt: Prompt | None = None
    messages: list[Any] = []  # noqa: RUF012 (never changed)
    asked: dict[str, Any] = {}  # noqa: RUF012
    turn: object | None = None  # tells this turn from another one of the episode
    before: tuple[Turn, ...] = ()  # all turns of the episode, of all its segments


class Ended(NamedTuple):
    """An episode that is over."""

    segments: list[Segment]
    messages: list[dict[str, Any]]  # of its last segment; none where the prompts are ids


class _Episode:
    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.talk: Talk | None = None
        self.turn: object | None = None  # that is running

    @property
    def busy(self) -> bool:
        """Whether a turn is running."""
        return self.turn is not None

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns that have ended, of all segments."""
        return tuple(turn for segment in self.segments for turn in segment.turns)

    def sizes(self) -> dict[str, Any]:
        """What a listing says of it."""
        return {
            "segments": len(self.segments),
            "turns": len(self.turns),
            "tokens": sum(len(segment.ids) for segment in self.segments),
            "sampled_tokens": sum(segment.sampled.count(True) for segment in self.segments),
            "busy": self.busy,
        }


class Episodes:
    """All episodes of a server; may be read from any thread.

    Each owner (an API key) has episodes of its own: the same name of another owner is another one.
    """

    def __init__(self, text_format: TextFormat, most: int, *, rewritten: str = "refuse") -> None:
        """Begins without any.

        Args:
            text_format: of the model.
            most: episodes that are kept at a time, of all owners together.
            rewritten: what becomes of a chat template that writes earlier turns in another way
                (data/next_turn.py).
        """
        self._format, self._most, self._rewritten = text_format, most, rewritten
        self._episodes: dict[Key, _Episode] = {}
        self._lock = threading.Lock()

    def open_chat(
        self,
        name: str,
        messages: Sequence[Any],
        tools: Sequence[Any] | None,
        options: Mapping[str, Any],
        on_rewrite: str,
        *,
        owner: str = "",
    ) -> Opened:
        """Begins a turn with a whole conversation, whose beginning is that of the last turn.

        Raises:
            BadRequest: if another turn is still running; and with on_rewrite="refuse" for a
                conversation, or a template, that writes earlier turns anew.
        """
        messages = [_plain(message, place) for place, message in enumerate(messages)]
        key, episode = (owner, name), self._take((owner, name))
        try:
            talk = episode.talk
            if episode.segments and talk is None and on_rewrite == "refuse":
                raise Rewritten("its last turn was asked for as ids")
            if talk is not None:
                try:
                    return self._extended(key, episode, talk, messages, tools, options)
                except Rewritten:
                    if on_rewrite == "refuse":
                        raise
            prompt = first_turn(self._format, for_template(messages), tools, options)
            asked = {"tools": tools, "options": options}
            ids = prompt.tokens
            turn = episode.turn, episode.turns
            return Opened(key, ids, ids, True, prompt, messages, asked, *turn)
        except Rewritten as error:
            self.close_turn(key, episode.turn)
            raise _refused(name, error) from error
        except BaseException:
            self.close_turn(key, episode.turn)
            raise

    def _extended(
        self,
        key: Key,
        episode: _Episode,
        talk: Talk,
        messages: list[dict[str, Any]],
        tools: Sequence[Any] | None,
        options: Mapping[str, Any],
    ) -> Opened:
        """A conversation that goes on after the last answer."""
        known = talk.messages
        for place, before in enumerate(known):
            if place == len(messages) or _compared(messages[place]) != _compared(before):
                raise Rewritten(f"message {place} is not the one of the last turn")
        if len(messages) == len(known):
            raise Rewritten("no message follows the last answer")
        asked = {"tools": tools, "options": options}
        if asked != talk.asked:
            raise Rewritten("its tools or chat_template_kwargs are not those of the last turn")
        segment = episode.segments[-1]
        sampled = segment.ids[segment.turns[-1].start :]
        new = for_template(messages[len(known) :])
        prompt, added = append_turn(self._format, talk.prompt, sampled, new, self._rewritten)
        ids, turn = [*segment.ids, *added], (episode.turn, episode.turns)
        return Opened(key, ids, added, False, prompt, messages, asked, *turn)

    def open_ids(
        self, name: str, ids: Sequence[int], on_rewrite: str, *, owner: str = ""
    ) -> Opened:
        """Begins a turn with ids, whose beginning are those of the last turn.

        Raises:
            BadRequest: as `open_chat`.
        """
        key, ids = (owner, name), list(ids)
        episode = self._take(key)
        known = episode.segments[-1].ids if episode.segments else []
        of_turn = {"turn": episode.turn, "before": episode.turns}
        if ids[: len(known)] == known:
            return Opened(key, ids, ids[len(known) :], not known, **of_turn)
        if on_rewrite == "segment":
            return Opened(key, ids, ids, True, **of_turn)
        self.close_turn(key, episode.turn)
        pairs = zip(ids, known, strict=False)
        place = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ids), len(known)))
        error = Rewritten(f"the prompt differs at id {place} from the {len(known)} ids before it")
        raise _refused(name, error)

    def keep(
        self,
        opened: Opened,
        sample: Sample,
        message: Mapping[str, Any] | None,
        *,
        seed: int,
        temperature: float,
        number: int,
    ) -> None:
        """The answer of a turn, which ends it.

        Args:
            opened: the turn.
            sample: that has ended.
            message: as the client gets it; None for ids.
            seed, temperature, number: that it was asked with; the number of its noise.
        """
        with self._lock:
            episode = self._episodes.get(opened.episode)
            if episode is None or episode.turn is not opened.turn:  # closed meanwhile
                return
            if opened.is_new:
                episode.segments.append(Segment())
            segment = episode.segments[-1]
            segment.insert(opened.inserted)
            segment.append(sample, seed, temperature, number)
            episode.talk = None
            if opened.prompt is not None:
                messages = [*opened.messages, dict(message)]
                episode.talk = Talk(opened.prompt, messages, opened.asked)
            episode.turn = None

    def close_turn(self, key: Key, turn: object) -> None:
        """A turn ends without an answer; the episode is as it was before, and a new one is gone.

        A turn that has ended, or another one, is not touched.
        """
        with self._lock:
            episode = self._episodes.get(key)
            if episode is None or episode.turn is not turn:
                return
            episode.turn = None
            if not episode.segments:
                del self._episodes[key]

    def listed(self, owner: str = "") -> dict[str, dict[str, Any]]:
        """The owner's episodes by name, in the order in which they began, with their sizes."""
        with self._lock:
            return {
                name: episode.sizes()
                for (of, name), episode in self._episodes.items()
                if of == owner
            }

    @property
    def kept(self) -> int:
        """Episodes that are kept, of all owners together."""
        return len(self._episodes)

    def end_all(self) -> dict[Key, Ended]:
        """All episodes, which are forgotten; turns that are running are given up."""
        with self._lock:
            found, self._episodes = self._episodes, {}
        return {
            key: Ended(each.segments, [] if each.talk is None else each.talk.messages)
            for key, each in found.items()
        }

    def read(self, name: str, owner: str = "") -> list[Segment]:
        """The segments of an episode; more than one where a prompt did not extend the last one.

        Raises:
            BadRequest: if there is no such episode, or a turn of it is running.
        """
        with self._lock:
            return list(self._idle((owner, name)).segments)

    def close(self, name: str, owner: str = "") -> list[Segment]:
        """`read`, and forgets the episode."""
        with self._lock:
            segments = self._idle((owner, name)).segments
            del self._episodes[owner, name]
            return segments

    def _idle(self, key: Key) -> _Episode:
        episode, name = self._episodes.get(key), key[1]
        if episode is None:
            raise BadRequest(
                f"There is no episode {name!r} (episode).", "episode", code="not_found", status=404
            )
        if episode.busy:
            raise BadRequest(
                f"A turn of episode {name!r} is running: wait for its end (episode).",
                "episode",
                code="busy",
                status=409,
            )
        return episode

    def _take(self, key: Key) -> _Episode:
        """The episode, busy from now on."""
        with self._lock:
            if key not in self._episodes:
                if len(self._episodes) >= self._most:
                    raise BadRequest(
                        f"The server keeps {self._most} episodes already: read and delete those "
                        "that are over (episode, --episodes).",
                        "episode",
                        code="too_many_episodes",
                        status=429,
                    )
                self._episodes[key] = _Episode()
            episode = self._idle(key)
            episode.turn = object()
            return episode


def _refused(name: str, error: Rewritten) -> BadRequest:
    return BadRequest(
        f"The prompt does not extend episode {name!r}: {error}. With on_rewrite: 'segment' it "
        "begins a new segment (on_rewrite).",
        "on_rewrite",
        code=TEMPLATE_REWRITES if isinstance(error, TemplateRewrites) else "episode_rewritten",
    )


def _plain(message: Any, place: int) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise BadRequest(f"Message {place} must be an object (messages).", "messages")
    return without_nulls(message)


def _compared(message: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for a message to be the same; no content is like an empty one."""
    found = {name: message[name] for name in COMPARED if message.get(name)}
    if message.get("role") == "assistant" and isinstance(found.get("content"), str):
        found["content"] = found["content"].strip()  # a stream has the blanks before calls
    if isinstance(found.get("tool_calls"), list):  # some clients keep the index of a stream
        found["tool_calls"] = [
            {key: call.get(key) for key in ("id", "function")} if isinstance(call, dict) else call
            for call in found["tool_calls"]
        ]
    return without_nulls({name: value for name, value in found.items() if value})


def segment_json(segment: Segment) -> dict[str, Any]:
    """A segment for JSON."""
    return dataclasses.asdict(segment) | {"turns": [turn._asdict() for turn in segment.turns]}
