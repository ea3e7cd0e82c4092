"""The thread that owns the programs of a server: requests join and leave while others run."""

import collections
import concurrent.futures
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from rljax.models.network import Network, Params
from rljax.parallel.rules import rows_divisor
from rljax.sampling.config import SamplingConfig
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.engine import Engine, bucket
from rljax.sampling.vocabulary import samplable_ids, text_only
from rljax.serving.asked import (
    Ask,
    Event,
    Failed,
    Sample,
    Scored,
    StopFinder,
    TokenScores,
    Written,
    top_pairs,
)
from rljax.serving.fair_queue import FairQueue
from rljax.serving.limits import Limits
from rljax.serving.program import Chunk, make_programs, prompt_arrays
from rljax.serving.running import Job, Running, append, not_finite
from rljax.serving.scoring import make_score

# Batches of prompts that are computed between two calls of `advance` while most slots are running.
PREFILLS = 4

# Seconds that an idle worker waits for one more request, and for all of them together: a step takes
# as long for one row as for many, so those that come at once begin at once.
ONE_MORE, ALL_OF_THEM = 0.005, 0.1


class Overloaded(RuntimeError):
    """The queue is full, or the server takes no more requests (`closing`)."""

    def __init__(self, message: str, *, closing: bool = False) -> None:
        super().__init__(message)
        self.closing = closing


class Vocabulary(NamedTuple):
    """What the worker knows of the tokenizer."""

    known: np.ndarray  # [ids] bool, see `Tokenizer.known`
    spelling: list[bytes]  # [V] what each id adds to a text
    pad: int
    ends: tuple[int, ...]  # that end every completion


class _Batch:
    """Prompts of one shape that are computed together, and the rows that begin with each."""

    def __init__(self, shape: tuple[int, int], shape_of: Callable[[int], tuple[int, int]]) -> None:
        self.shape, self._shape_of = shape, shape_of
        self.rows: dict[tuple[int, ...], list[tuple[Job, Sample]]] = {}

    def takes(self, prompt: tuple[int, ...]) -> bool:
        """Whether a row of this prompt has a place."""
        room = len(self.rows) < self.shape[0] and self._shape_of(len(prompt)) == self.shape
        return prompt in self.rows or room

    def add(self, prompt: tuple[int, ...], row: tuple[Job, Sample]) -> None:
        """Takes the row."""
        self.rows.setdefault(prompt, []).append(row)


class Worker:
    """Answers requests of other threads, one program at a time.

    worker = Worker(network, params, vocabulary, mesh, limits)
    worker.start()
    job = worker.submit(asks, deliver)      # deliver is called from the worker's thread
    worker.drain(); worker.join()
    """

    def __init__(
        self,
        network: Network,
        params: Params | None,
        vocabulary: Vocabulary,
        mesh: Mesh,
        limits: Limits,
        *,
        weights: str = "",
        cache: str = "",
        version: int = 0,
        token_filter: TokenFilter | None = None,
        gather_weights: bool = True,
    ) -> None:
        """Copies the parameters into the sampler's layout.

        Args:
            network: a causal language model.
            params: of the network; None: `use` gives them before `start`.
            vocabulary: of its tokenizer.
            mesh: of the server.
            limits: sizes.
            weights, cache: precision of both, as for `Generator`.
            version: of the parameters, which answers carry.
            token_filter: bias and forbidden tokens of every row; its truncation holds for all too.
            gather_weights: whether the weights are whole over fsdp.

        Raises:
            ValueError: for a network or sizes that cannot work.
        """
        config = SamplingConfig(  # for its checks, and the layout of the weights
            samples_per_prompt=1,
            max_new_tokens=1,
            stop_tokens=vocabulary.ends,
            pad_token=vocabulary.pad,
            cache_dtype=cache,
        )
        self.engine = Engine(network, config, mesh, weights=weights, gather_weights=gather_weights)
        model = self.engine.network
        limits.check(model.config, cache, mesh)
        self.limits, self.mesh, self.version = limits, mesh, version
        self.vocabulary = vocabulary
        samplable = samplable_ids(vocabulary.known, network.config.vocab_size, vocabulary.ends)
        self._programs = make_programs(
            model,
            slots=limits.slots,
            context=limits.context,
            steps=limits.steps,
            prefill_tokens=limits.prefill_tokens,
            cache_dtype=cache,
            token_filter=text_only(token_filter or TokenFilter(), samplable),
        )
        self._score = make_score(model)
        self._weights = None if params is None else self.engine.load(params)
        self._rows: list[Running | None] = [None] * limits.slots
        self._waiting: FairQueue[tuple[Job, Sample]] = FairQueue()
        self._unscored: collections.deque[tuple[Job, int]] = collections.deque()
        self._begun: set[Job] = set()  # taken from a queue in this turn
        self._next_weights: tuple[Params, int, concurrent.futures.Future] | None = None
        self._changed = threading.Condition()
        self._closed = False
        self.error: Exception | None = None
        self._thread: threading.Thread | None = None
        self.slot_steps = 0  # slots x steps decoded since `start`

    # --- from any thread -------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to answer, also once more after `join`."""
        self._closed, self.slot_steps = False, 0
        self._thread = threading.Thread(target=self._run, name="rljax-worker", daemon=True)
        self._thread.start()

    def use(self, weights: Params | None, version: int) -> None:
        """Takes the sampler's copy of parameters (`engine.load`) while the thread does not run.

        Args:
            weights: None: the worker holds none any more.
            version: which answers carry.
        """
        self._weights, self.version = weights, version

    def warm(self) -> None:
        """Compiles what every request runs, by answering a small one; after `start`.

        Raises:
            Exception: what the programs fail with.
        """
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.submit([Ask(prompt=(0,), n=1, most=1)], events.put)
        event = events.get()
        if isinstance(event, Failed):
            raise event.error

    def submit(
        self, asks: Sequence[Ask], deliver: Callable[[Event], None], *, streams: bool = False
    ) -> Job:
        """Takes a request.

        Args:
            asks: its prompts, checked.
            deliver: hears of every sample that ends and every prompt that is scored.
            streams: whether it also hears of each few tokens.

        Raises:
            Overloaded: if the queue has no room for it, or the server is closing.
        """
        job = Job(asks, deliver, streams=streams)
        samples = [
            (job, Sample(prompt=place, number=number))
            for place, ask in enumerate(asks)
            for number in range(ask.n)
        ]
        scored = [(job, place) for place, ask in enumerate(asks) if ask.scored]
        with self._changed:
            if self._closed:
                raise Overloaded("the server takes no more requests", closing=True)
            waiting = len(self._waiting) + len(self._unscored)
            if waiting + len(samples) + len(scored) > self.limits.queue:
                raise Overloaded(
                    f"{waiting} rows are waiting, and this request has {len(samples)}: at most "
                    f"{self.limits.queue} may wait (--queue); try again later"
                )
            self._waiting.add(job, samples)
            self._unscored.extend(scored)
            self._changed.notify_all()
        return job

    def cancel(self, job: Job) -> None:
        """Nobody waits for a request any more."""
        with self._changed:
            job.cancelled = True
            self._waiting.drop(job)
            self._changed.notify_all()

    def load(self, params: Params, version: int) -> concurrent.futures.Future:
        """Takes other parameters as soon as every row that runs has ended.

        No row is written by two versions. Rows that wait begin under the new one.

        Args:
            params: of the same network; not to be freed before the result is there.
            version: which answers carry from then on.

        Returns:
            A future, done once the new parameters are in use.
        """
        done: concurrent.futures.Future = concurrent.futures.Future()
        with self._changed:
            if self._closed:
                raise Overloaded("the server takes no more parameters", closing=True)
            if self._next_weights is not None:
                raise ValueError(
                    f"version {self._next_weights[1]} still waits for rows to end; wait for its "
                    "future before the next one is given (version)."
                )
            self._next_weights = params, version, done
            self._changed.notify_all()
        return done

    def drain(self) -> None:
        """Takes no more requests; those that have been taken are answered."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def join(self, timeout: float | None = None) -> bool:
        """Waits for the end after `drain`; whether it has come."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def takes_requests(self) -> bool:
        """Whether requests are still taken."""
        return not self._closed

    @property
    def network(self) -> Network:
        """The network that the sampler runs."""
        return self.engine.network

    def busy(self) -> dict[str, int]:
        """How many rows run and wait."""
        with self._changed:
            running = sum(row is not None for row in self._rows)
            return {"running": running, "waiting": len(self._waiting) + len(self._unscored)}

    # --- in the worker's own thread --------------------------------------------------------------

    def _run(self) -> None:
        try:
            with jax.set_mesh(self.mesh):
                self._state = self._programs.empty()
                while self._wait():
                    self._turn()
        except Exception as error:
            self._fail(error)
        finally:
            self._state = None  # the caches are freed

    def _wait(self) -> bool:
        """Waits for work; False at the end."""
        with self._changed:
            while True:
                running = any(self._rows)
                if running or self._waiting or self._unscored or self._next_weights:
                    return True
                if self._closed:
                    return False
                self._changed.wait()
                self._gather()

    def _gather(self) -> None:
        """Waits a little for requests that come together with the first one."""
        end = time.monotonic() + ALL_OF_THEM
        while 0 < len(self._waiting) < self.limits.slots and time.monotonic() < end:
            if not self._changed.wait(ONE_MORE):
                return

    def _turn(self) -> None:
        if self._next_weights is not None and not any(self._rows):
            self._swap()
        if self._next_weights is None:
            self._score_some()
            self._admit()
        if any(self._rows):
            keep = np.array([row is not None and not row.job.cancelled for row in self._rows])
            self._state, chunk = self._programs.advance(self._weights, self._state, keep)
            chunk = jax.device_get(chunk)
            self.slot_steps += len(self._rows) * int(chunk.count.max())
            self._read(chunk, keep)
        self._begun.clear()

    def _swap(self) -> None:
        with self._changed:
            params, version, done = self._next_weights
        self._weights = jax.block_until_ready(self.engine.load(params))
        with self._changed:
            self.version, self._next_weights = version, None
        done.set_result(version)

    def _batch_rows(self, length: int) -> tuple[int, int]:
        """Rows and columns of the program for prompts of a length: the same for any load."""
        columns = min(bucket(length), self.limits.context)
        rows, shards = max(self.limits.prefill_tokens // columns, 1), rows_divisor(self.mesh)
        return -(-rows // shards) * shards, columns

    def _admit(self) -> None:
        """Gives free slots the next rows, as far as a few batches of prompts reach."""
        free = [slot for slot, row in enumerate(self._rows) if row is None]
        # Few rows wait for it where most slots are free.
        calls = len(free) if 2 * len(free) >= len(self._rows) else PREFILLS
        batches: list[_Batch] = []
        with self._changed:
            count = 0
            while count < len(free) and len(self._waiting):
                job, sample = self._waiting.first()
                prompt = job.asks[sample.prompt].prompt
                batch = next((each for each in batches if each.takes(prompt)), None)
                if batch is None:
                    if len(batches) == calls:
                        break
                    batch = _Batch(self._batch_rows(len(prompt)), self._batch_rows)
                    batches.append(batch)
                batch.add(prompt, self._waiting.pop())
                self._begun.add(job)
                count += 1
        for batch in batches:
            self._begin(batch, free)

    def _begin(self, batch: "_Batch", free: list[int]) -> None:
        """Computes a batch of prompts and puts their rows into slots."""
        requests = prompt_arrays(list(batch.rows), *batch.shape)
        lengths = requests.prompt_mask.sum(axis=1).astype(np.int32)
        cache, hidden = self._programs.prefill(self._weights, requests.prompts, lengths)
        for index, rows in enumerate(batch.rows.values()):
            for job, sample in rows:
                ask = job.asks[sample.prompt]
                slot, sample.version = free.pop(0), self.version
                self._state = self._programs.place(
                    self._state,
                    cache,
                    hidden,
                    np.int32(index),
                    np.int32(slot),
                    ask.row(sample.number),
                )
                finder = StopFinder(ask.stop, self.vocabulary.spelling)
                for token in ask.prompt[len(ask.prompt) - ask.continued :]:
                    finder.found(token)  # a stop string may begin in what was written before
                self._rows[slot] = Running(job, sample, finder)

    def _read(self, chunk: Chunk, kept: np.ndarray) -> None:
        """What has been written goes to those who asked for it; rows that ended leave."""
        for slot, row in enumerate(self._rows):
            if row is None:
                continue
            if row.job.cancelled or not kept[slot]:
                self._rows[slot] = None
                continue
            sample, count = row.sample, int(chunk.count[slot])
            if not np.isfinite(chunk.model_logprobs[slot, :count]).all():
                self._rows[slot] = None
                self._deliver(row.job, Failed(ValueError(not_finite(sample))))
                self.cancel(row.job)
                continue
            for step in range(count):
                append(row, chunk, slot, step)
                if sample.reason is not None:
                    break
            if sample.reason is not None:
                self._rows[slot] = None
            if row.job.streams or sample.reason is not None:
                self._deliver(row.job, Written(sample, len(sample.tokens), sample.reason))

    @staticmethod
    def _deliver(job: Job, event: Event) -> None:
        if not job.cancelled:
            job.deliver(event)

    def _score_some(self) -> None:
        """Scores one batch of prompts of the shape of the first that waits."""
        batch: list[tuple[Job, int]] = []
        with self._changed:
            while self._unscored and self._unscored[0][0].cancelled:
                self._unscored.popleft()
            if not self._unscored:
                return
            first, place = self._unscored[0]
            shape = self._batch_rows(len(first.asks[place].prompt))
            kept = collections.deque()
            for job, place in self._unscored:
                fits = self._batch_rows(len(job.asks[place].prompt)) == shape
                (batch if fits and len(batch) < shape[0] else kept).append((job, place))
            self._unscored = kept
        self._begun |= {job for job, _ in batch}
        prompts = [job.asks[place].prompt for job, place in batch]
        tokens = np.zeros(shape, np.int32)
        for index, prompt in enumerate(prompts):
            tokens[index, : len(prompt)] = prompt
        found = jax.device_get(self._score(self._weights, tokens))
        for index, (job, place) in enumerate(batch):
            ask = job.asks[place]
            rest = range(1, len(ask.prompt))
            of_rest = [
                top_pairs(found.top_tokens[index, i], found.top_logprobs[index, i], ask.tops or 0)
                for i in rest
            ]
            logprobs = [0.0, *found.logprobs[index, 1 : len(ask.prompt)].tolist()]
            scores = TokenScores(logprobs, [[], *of_rest])
            self._deliver(job, Scored(place, scores, self.version))

    def _fail(self, error: Exception) -> None:
        """The programs cannot go on: everybody hears it, and nothing more is taken."""
        with self._changed:
            self._closed, self.error = True, error
            jobs = {row.job for row in self._rows if row is not None} | self._begun
            while len(self._waiting):
                jobs.add(self._waiting.pop()[0])
            jobs |= {job for job, _ in self._unscored}
            self._unscored.clear()
            if self._next_weights is not None:
                self._next_weights[2].set_exception(error)
        for job in jobs:
            self._deliver(job, Failed(error))
