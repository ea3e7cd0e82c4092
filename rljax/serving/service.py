"""From a checked body to an answer: prompts, the worker's events, texts, episodes."""

import asyncio
import contextlib
import dataclasses
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from jax.sharding import Mesh

from rljax.data.text_format import TextFormat
from rljax.models.network import Network, Params
from rljax.sampling.request import StopReason
from rljax.sampling.texts import Texts
from rljax.serving.asked import Ask, Event, Failed, Sample, Scored, TokenScores
from rljax.serving.deltas import Deltas
from rljax.serving.episodes import Episodes, Opened, Segment
from rljax.serving.limits import Limits
from rljax.serving.protocol import (
    BadRequest,
    ChatBody,
    Common,
    CompletionBody,
    Model,
    make_ask,
)
from rljax.serving.rendering import WHERE, first_turn
from rljax.serving.replies import (
    Spelling,
    envelope,
    ids_of,
    scores_of,
    stop_fields,
    usage,
)
from rljax.serving.tool_calls import OPENING, for_template, tool_calls
from rljax.serving.worker import Vocabulary, Worker

COMPLETION, CHAT = "text_completion", "chat.completion"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """A request, ready for the worker."""

    kind: str
    name: str  # of the answer
    created: int
    common: Common
    asks: list[Ask]
    seed: int
    echoed: tuple[str, ...] = ()  # texts that come before those of the samples
    calls: bool = False  # whether tool calls are read
    opened: Opened | None = None

    @property
    def ends(self) -> int:
        """Events that end its parts."""
        return sum(ask.n + ask.scored for ask in self.asks)


def make_worker(
    network: Network,
    params: Params,
    text_format: TextFormat,
    mesh: Mesh,
    limits: Limits,
    **settings: Any,
) -> Worker:
    """The worker of a model, whose completions end as those of `launch/generate.py` do.

    Args:
        network, params: a causal language model.
        text_format: how it reads texts.
        mesh, limits, settings: see `Worker`.
    """
    size, tokenizer = network.config.vocab_size, text_format.tokenizer
    if tokenizer.vocab_size > size:
        raise ValueError(
            f"The tokenizer has {tokenizer.vocab_size} tokens, the model {size}: they do not "
            "belong together (--tokenizer)."
        )
    vocabulary = Vocabulary(
        known=tokenizer.known(),
        spelling=Texts(tokenizer, size).spelling,
        pad=tokenizer.pad_id,
        ends=tuple(token for token in text_format.ends if token < size),
    )
    return Worker(network, params, vocabulary, mesh, limits, **settings)


class Service:
    """Answers requests with one model."""

    def __init__(
        self, name: str, worker: Worker, text_format: TextFormat, *, rewritten: str = "refuse"
    ) -> None:
        config = worker.network.config
        texts = Texts(text_format.tokenizer, config.vocab_size)
        self.worker, self.text_format = worker, text_format
        self.spelling = Spelling(text_format.tokenizer, texts)
        self.episodes = Episodes(text_format, worker.limits.episodes, rewritten=rewritten)
        self.model = Model(name, config.vocab_size, worker.vocabulary.ends, worker.limits)
        self.created = int(time.time())

    # --- bodies become work ----------------------------------------------------------------------

    def completion(self, body: CompletionBody, owner: str = "") -> Work:
        """A request to /v1/completions; `owner` is its API key.

        Raises:
            BadRequest: for prompts that cannot be answered.
        """
        common, scored = body.common, body.echo and body.common.tops is not None
        seed, opened = _seed(common), None
        with _as_bad_request("prompt"):
            prompts = [self._ids(prompt) for prompt in body.prompts]
        self._check_count(common.n * len(prompts))
        if common.episode is not None:
            opened = self.episodes.open_ids(
                common.episode, prompts[0], common.on_rewrite, owner=owner
            )
        with self._closing(opened):
            asks = [
                self.ask(
                    common,
                    prompt,
                    opened,
                    seed=seed,
                    prompt_id=place,
                    continued=body.continued,
                    scored=scored,
                )
                for place, prompt in enumerate(prompts)
            ]
        echoed = tuple(
            given if isinstance(given, str) else self.spelling.texts.decoded(given)
            for given in body.prompts
        )
        return Work(
            kind=COMPLETION,
            name=f"cmpl-{secrets.token_hex(12)}",
            created=int(time.time()),
            common=common,
            asks=asks,
            seed=seed,
            echoed=echoed if body.echo else (),
            opened=opened,
        )

    def close_episode(self, name: str, owner: str = "") -> list[Segment]:
        """The segments of an idle episode of the owner, which is forgotten."""
        return self.episodes.close(name, owner)

    def chat(self, body: ChatBody, owner: str = "") -> Work:
        """A request to /v1/chat/completions; `owner` is its API key.

        Raises:
            BadRequest: for messages that cannot be answered.
        """
        common, opened = body.common, None
        self._check_count(common.n)
        talk = body.messages, body.tools, body.options
        with _as_bad_request(WHERE):
            if common.episode is None:
                messages = for_template(body.messages)
                ids = first_turn(self.text_format, messages, body.tools, body.options).tokens
            else:
                opened = self.episodes.open_chat(
                    common.episode, *talk, common.on_rewrite, owner=owner
                )
                ids = opened.ids
        seed = _seed(common)
        with self._closing(opened):
            asks = [self.ask(common, ids, opened, seed=seed)]
        return Work(
            kind=CHAT,
            name=f"chatcmpl-{secrets.token_hex(12)}",
            created=int(time.time()),
            common=common,
            asks=asks,
            seed=seed,
            calls=bool(body.tools),
            opened=opened,
        )

    def ask(self, common: Common, ids: Sequence[int], opened: Opened | None, **fields: Any) -> Ask:
        """What the worker is asked for one prompt (`make_ask`).

        Each turn of an episode has noise of its own, also where the seed is the same; one that is
        `continued` goes on with that of the turn before it.
        """
        ask = make_ask(self.model, common, ids, **fields)
        if opened is None or not opened.before:
            return ask
        number = opened.before[-1].sample + (0 if ask.continued else 1)
        return dataclasses.replace(ask, first_sample=number)

    @contextlib.contextmanager
    def _closing(self, opened: Opened | None) -> Iterator[None]:
        """A turn that fails inside is closed."""
        try:
            yield
        except BaseException:
            self._close(opened)
            raise

    def _close(self, opened: Opened | None) -> None:
        if opened is not None:
            self.episodes.close_turn(opened.episode, opened.turn)

    def _ids(self, prompt: str | tuple[int, ...]) -> tuple[int, ...]:
        if not isinstance(prompt, str):
            return prompt
        return tuple(self.text_format.prompt(prompt, where="the request", field="prompt").tokens)

    def _check_count(self, rows: int) -> None:
        most = min(self.model.limits.samples, self.model.limits.queue)
        if rows > most:
            raise BadRequest(
                f"The request asks for {rows} samples; at most {most} are taken (n, --samples, "
                "--queue).",
                "n",
            )

    # --- work becomes answers --------------------------------------------------------------------

    async def answer(self, work: Work) -> dict[str, Any]:
        """The whole answer."""
        samples: dict[tuple[int, int], Sample] = {}
        scores: dict[int, Scored] = {}
        async with self._events(work, streams=False) as events:
            for _ in range(work.ends):
                event = await events.get()
                if isinstance(event, Failed):
                    raise event.error
                if isinstance(event, Scored):
                    scores[event.prompt] = event
                else:
                    samples[event.sample.prompt, event.sample.number] = event.sample
            choices = []
            for place, ask in enumerate(work.asks):
                scored = scores.get(place)
                if not ask.n:
                    choices.append(self._scored_choice(work, place, scored))
                for number in range(ask.n):
                    choices.append(self._choice(work, samples[place, number], scored))
        written = sum(len(sample.tokens) for sample in samples.values())
        head = envelope(work.kind, work.name, work.created, self.model.name)
        read = sum(len(ask.prompt) for ask in work.asks)
        return {**head, "seed": work.seed, "choices": choices, "usage": usage(read, written)}

    async def stream(self, work: Work) -> AsyncIterator[dict[str, Any]]:
        """The answer, a few tokens at a time: the lines of a stream."""
        kind = work.kind if work.kind == COMPLETION else f"{CHAT}.chunk"
        head = {**envelope(kind, work.name, work.created, self.model.name), "seed": work.seed}
        parts: dict[tuple[int, int], _Part] = {}
        written, left = 0, work.ends
        async with self._events(work, streams=True) as events:
            while left:
                event = await events.get()
                if isinstance(event, Failed):
                    raise event.error
                sample = event.sample
                part = parts.setdefault((sample.prompt, sample.number), _Part(self, work, sample))
                choice = part.choice(event.count, event.reason)
                if event.reason is not None:
                    left, written = left - 1, written + event.count
                yield {**head, "choices": [choice]}
        if work.common.include_usage:
            read = sum(len(ask.prompt) for ask in work.asks)
            yield {**head, "choices": [], "usage": usage(read, written)}

    @contextlib.asynccontextmanager
    async def _events(self, work: Work, *, streams: bool) -> AsyncIterator[asyncio.Queue]:
        """What the worker says of a request, which is cancelled at the end if it still runs."""
        loop, events = asyncio.get_running_loop(), asyncio.Queue()

        def deliver(event: Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens
                loop.call_soon_threadsafe(events.put_nowait, event)

        try:
            job = self.worker.submit(work.asks, deliver, streams=streams)
            try:
                yield events
            finally:
                self.worker.cancel(job)
        finally:
            self._close(work.opened)

    def final(self, work: Work, sample: Sample) -> tuple[str, dict[str, Any], bool]:
        """Text, message and whether it calls tools, of a sample that has ended.

        The turn of an episode is kept with it.
        """
        text = self.spelling.text(sample, work.asks[sample.prompt].stop)
        content, calls = tool_calls(text, work.name[-12:]) if work.calls else (text, [])
        message: dict[str, Any] = {"role": "assistant", "content": content}
        if calls:
            message["tool_calls"] = calls
        if work.opened is not None:
            self.episodes.keep(
                work.opened,
                sample,
                message if work.kind == CHAT else None,
                seed=work.seed,
                temperature=work.common.others["temperature"],
                number=work.asks[sample.prompt].first_sample,
            )
        return text, message, bool(calls)

    def _choice(self, work: Work, sample: Sample, scored: Scored | None) -> dict[str, Any]:
        text, message, calls = self.final(work, sample)
        ask, count = work.asks[sample.prompt], len(sample.tokens)
        choice = {"index": sample.prompt * work.common.n + sample.number}
        if work.kind == CHAT:
            choice |= {"message": {**message, "refusal": None}}
        else:
            choice |= {"text": (work.echoed[sample.prompt] if work.echoed else "") + text}
        choice["logprobs"] = None
        if work.common.tops is not None:
            choice["logprobs"] = self.logprobs(work, sample, 0, count, ask, scored)
        if work.common.token_ids:
            choice |= ids_of(sample, ask.prompt, 0, count)
        choice |= stop_fields(sample.reason, calls=calls)
        return choice | {"weights_version": sample.version}

    def logprobs(
        self,
        work: Work,
        sample: Sample,
        start: int,
        stop: int,
        ask: Ask,
        scored: Scored | None = None,
    ) -> dict[str, Any]:
        """`logprobs` of some tokens of a sample, behind those of its prompt if that was scored."""
        tokens, scores, tops = sample.tokens[start:stop], scores_of(sample, start, stop), ask.tops
        if not tops:
            scores = scores._replace(tops=[[] for _ in tokens])
        if work.kind == CHAT:
            return self.spelling.chat_logprobs(tokens, scores, tops)
        if scored is None:
            before = sample.tokens[:start]
            return self.spelling.completion_logprobs(tokens, scores, tops, before=before)
        joined = TokenScores(*(a + b for a, b in zip(scored.scores, scores, strict=True)))
        ids = [*ask.prompt, *tokens]
        return self.spelling.completion_logprobs(ids, joined, tops, first=1)

    def _scored_choice(self, work: Work, place: int, scored: Scored) -> dict[str, Any]:
        """A prompt that was only read."""
        ask = work.asks[place]
        logprobs = self.spelling.completion_logprobs(ask.prompt, scored.scores, ask.tops, first=1)
        choice = {"index": place, "text": work.echoed[place], "logprobs": logprobs}
        choice |= {"prompt_token_ids": list(ask.prompt)} if work.common.token_ids else {}
        return choice | stop_fields(StopReason.LENGTH) | {"weights_version": scored.version}


class _Part:
    """One sample of a stream."""

    def __init__(self, service: Service, work: Work, sample: Sample) -> None:
        self._service, self._work, self._sample = service, work, sample
        self._ask = work.asks[sample.prompt]
        marks = (OPENING,) if work.calls else ()
        self._deltas = Deltas(service.spelling.texts, self._ask.stop, marks)
        self._done = 0

    def choice(self, count: int, reason: StopReason | None) -> dict[str, Any]:
        """What the sample's next tokens add, up to `count` of them."""
        work, sample, first = self._work, self._sample, self._done == 0
        message, calls = {}, False
        if reason is None:
            text = self._deltas.grown(sample.tokens[:count])
        else:
            text, message, calls = self._service.final(work, sample)
            text = self._deltas.ended(text if not calls else self._before_calls(text))
        choice = {"index": sample.prompt * work.common.n + sample.number}
        if work.kind == CHAT:
            choice["delta"] = _delta(text, message, first=first, calls=calls)
        else:
            choice["text"] = text
        choice["logprobs"] = None
        if work.common.tops is not None:
            choice["logprobs"] = self._service.logprobs(work, sample, self._done, count, self._ask)
        if work.common.token_ids:
            choice |= ids_of(sample, self._ask.prompt if first else None, self._done, count)
        self._done = count
        choice |= stop_fields(reason, calls=calls)
        return choice | {"weights_version": sample.version}

    @staticmethod
    def _before_calls(text: str) -> str:
        return text[: text.index(OPENING)]


def _delta(text: str, message: Mapping[str, Any], *, first: bool, calls: bool) -> dict[str, Any]:
    delta: dict[str, Any] = {"role": "assistant"} if first else {}
    if text or first:
        delta["content"] = text
    if calls:
        each = enumerate(message["tool_calls"])
        delta["tool_calls"] = [{"index": place, **call} for place, call in each]
    return delta


def _seed(common: Common) -> int:
    return secrets.randbits(31) if common.seed is None else common.seed


@contextlib.contextmanager
def _as_bad_request(param: str) -> Iterator[None]:
    """Inside, what the library refuses is a bad request."""
    try:
        yield
    except BadRequest:
        raise
    except ValueError as error:
        raise BadRequest(str(error), param) from error
