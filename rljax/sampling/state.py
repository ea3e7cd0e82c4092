"""What the sampling program carries: what stays the same, the slots, the results."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.decoding import OWN_BLOCK, Decoder, PromptCache
from rljax.models.kv_cache import Cache, empty_cache
from rljax.parallel.rules import constrain
from rljax.sampling.choose import Choice
from rljax.sampling.config import SamplingConfig
from rljax.sampling.constraints import Constraint
from rljax.sampling.guides import Guide
from rljax.sampling.jobs import Jobs, Starts
from rljax.sampling.request import Rollouts

RUNNING = -1  # in place of a StopReason


class Sizes(NamedTuple):
    """All static."""

    shards: int  # X
    prompts: int  # B of a shard
    requests: int  # R of a shard
    width: int  # W of a shard, at the beginning
    columns: int  # C of the ring

    @classmethod
    def of(cls, config: SamplingConfig, prompts: int, shards: int) -> "Sizes":
        """For B prompts on all shards together."""
        requests = prompts // shards * config.samples_per_prompt
        width = min(-(-config.slots // shards) or requests, requests)
        # An ended row waits for up to `refill_every` steps before its columns are read.
        columns = config.max_new_tokens + (config.refill_every if width < requests else 0)
        if columns > OWN_BLOCK:
            columns = -(-columns // OWN_BLOCK) * OWN_BLOCK
        return cls(shards, prompts // shards, requests, width, columns)

    @property
    def refills(self) -> bool:
        """Whether requests wait in a queue."""
        return self.width < self.requests


class Program(NamedTuple):
    """What stays the same while tokens are sampled."""

    config: SamplingConfig
    sizes: Sizes
    decoders: tuple[Decoder, ...]
    prompts: tuple[PromptCache, ...]  # of each model
    guide: Guide | None
    watchers: tuple[Constraint | None, Constraint | None]  # stop strings and constraint
    jobs: Jobs
    starts: Starts


class Slots(NamedTuple):
    """What belongs to a row while it is decoded."""

    request: Array  # [N] i32, of the shard; -1: free
    job: Jobs  # [N] of that request
    lengths: tuple[Array, ...]  # [N] i32, prompt tokens for each model
    age: Array  # [N] i32, steps since the row began
    taken: Array  # [N] i32, tokens of it; the same until the row ends
    start: Array  # [N] i32, column of the first one
    reason: Array  # [N] i32, StopReason or RUNNING
    row: Starts  # [N, ...] what follows the latest token

    @property
    def running(self) -> Array:
        """[N] bool."""
        return (self.request >= 0) & (self.reason == RUNNING)

    def last(self, room: int) -> Array:
        """[N] bool, whether the next token ends the row in any case."""
        return self.age + 1 >= jnp.minimum(self.job.most - self.job.continued, room)


class Results(NamedTuple):
    """What every request has got, and one place more for what is not wanted."""

    tokens: Choice  # [X, R + 1, T, ...]
    lengths: Array  # [X, R + 1] i32
    reasons: Array  # [X, R + 1] i32
    slot_steps: Array  # [] i32, slots x steps of a shard so far


class State(NamedTuple):
    """The carry of the loops."""

    column: Array  # [] i32, of the ring, where the next token goes
    head: Array  # [X] i32, next request of each shard
    slots: Slots
    caches: tuple[Cache, ...]  # of each model
    ring: Choice  # [N, C, ...], what was chosen
    results: Results


def empty_state(program: Program) -> State:
    """All slots free, all requests in the queue."""
    sizes, config = program.sizes, program.config
    rows, shards = sizes.shards * sizes.width, sizes.shards
    zeros = jnp.zeros(rows, jnp.int32)

    def first(x: Array) -> Array:
        return x[0][zeros]

    slots = Slots(
        request=zeros - 1,
        job=jax.tree.map(first, program.jobs),
        lengths=tuple(zeros for _ in program.decoders),
        age=zeros,
        taken=zeros,
        start=zeros,
        reason=zeros + RUNNING,
        row=jax.tree.map(first, program.starts),
    )
    caches = tuple(
        empty_cache(decoder.config, rows, sizes.columns, config.cache_dtype)
        for decoder in program.decoders
    )
    results = (shards, sizes.requests + 1)
    return State(
        column=jnp.int32(0),
        head=jnp.zeros(shards, jnp.int32),
        slots=slots,
        caches=caches,
        ring=_choices(config, (rows, sizes.columns)),
        results=Results(
            _choices(config, (*results, config.max_new_tokens)),
            jnp.zeros(results, jnp.int32),
            jnp.zeros(results, jnp.int32),
            jnp.int32(0),
        ),
    )


def _choices(config: SamplingConfig, shape: tuple[int, ...]) -> Choice:
    """Zeros for the fields of `Choice`, [*shape] or [*shape, k]."""

    def numbers() -> Array:
        return constrain(jnp.zeros(shape), "batch", *[None] * (len(shape) - 1))

    k = config.top_logprobs
    return Choice(
        tokens=jnp.zeros(shape, jnp.int32),
        logprobs=numbers(),
        model_logprobs=numbers(),
        tempered_logprobs=numbers(),
        entropy=numbers(),
        temperature=numbers(),
        top_logprobs=jnp.zeros((*shape, k)) if k else None,
        top_tokens=jnp.zeros((*shape, k), jnp.int32) if k else None,
    )


def rollouts_of(program: Program, results: Results) -> Rollouts:
    """Results in the order of the requests, cleared after the end of each row."""
    config, sizes = program.config, program.sizes
    shape = (sizes.shards * sizes.prompts, config.samples_per_prompt)

    def in_order(x: Array) -> Array:
        return x[:, : sizes.requests].reshape(*shape, *x.shape[2:])

    found: Choice = jax.tree.map(in_order, results.tokens)
    mask = jnp.arange(config.max_new_tokens) < in_order(results.lengths)[..., None]

    def cleared(x: Array | None, fill: Any = 0) -> Array | None:
        if x is None:
            return None
        return jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 3)), x, fill)

    return Rollouts(
        tokens=cleared(found.tokens, config.pad_token),
        mask=mask,
        logprobs=cleared(found.logprobs),
        model_logprobs=cleared(found.model_logprobs),
        tempered_logprobs=cleared(found.tempered_logprobs),
        entropy=cleared(found.entropy),
        temperature=cleared(found.temperature),
        stop_reason=in_order(results.reasons),
        slot_steps=jnp.full(shape[0], results.slot_steps),
        top_logprobs=cleared(found.top_logprobs),
        top_tokens=cleared(found.top_tokens),
    )
