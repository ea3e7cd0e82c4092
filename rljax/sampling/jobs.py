"""What every request of a sampling program needs to begin in any slot, as arrays [X, R, ...].

R = B * G requests of each of X shards; request b * G + g is sample g of prompt b of the shard.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.decoding import by_shard
from rljax.sampling.choose import Occurrences
from rljax.sampling.config import SamplingConfig
from rljax.sampling.constraints import Constraint
from rljax.sampling.keys import row_keys
from rljax.sampling.request import Requests


class Jobs(NamedTuple):
    """What each request asks for; see `Requests`."""

    prompt: Array  # i32, of the shard
    key: Array
    length: Array  # i32, prompt tokens
    continued: Array  # i32
    temperature: Array | None  # f32
    slopes: Array | None  # [4] f32, of the temperature
    least: Array | None  # i32, completion tokens before which the row may not end
    most: Array  # i32, completion tokens at which it ends


class Starts(NamedTuple):
    """How the rows of each prompt begin, [X, B, ...]."""

    hidden: tuple[Array, ...]  # [D] of each model
    watched: tuple  # states of stop strings and constraint, () where there are none
    guide: Any  # state
    seen: Occurrences | None  # [V]


def make_jobs(
    requests: Requests, config: SamplingConfig, key: Array, step: Array, shards: int
) -> Jobs:
    """The jobs of B prompts, in order."""
    prompts, group = len(requests.prompts), config.samples_per_prompt
    samples = group if requests.sample_ids is None else requests.sample_ids

    def of_prompts(x: Array) -> Array:
        """[B, ...] -> [X, R, ...], the same for all samples of a prompt."""
        return by_shard(jnp.repeat(x, group, axis=0), shards)

    def of_samples(x: Array | None) -> Array | None:
        """[B, G] -> [X, R]."""
        return None if x is None else x.reshape(shards, -1)

    continued = requests.continued
    continued = of_prompts(jnp.zeros(prompts, jnp.int32) if continued is None else continued)
    slopes = requests.temperature_slopes
    most = of_samples(requests.max_new_tokens)
    if most is None:
        most = continued + config.max_new_tokens
    return Jobs(
        prompt=of_prompts(jnp.arange(prompts) % (prompts // shards)),
        key=of_samples(row_keys(key, step, requests.prompt_ids, samples)),
        length=of_prompts(requests.prompt_mask.sum(axis=1)),
        continued=continued,
        temperature=of_samples(requests.temperature),
        slopes=None if slopes is None else of_prompts(slopes),
        least=of_samples(requests.min_new_tokens),
        most=most,
    )


def make_starts(
    requests: Requests,
    config: SamplingConfig,
    hidden: tuple[Array, ...],
    watchers: tuple[Constraint | None, ...],
    guide_state: Any,
    vocab_size: int,
    shards: int,
) -> Starts:
    """How the rows of B prompts begin: continued completions have been watched already."""
    watched = tuple(_watch(watcher, requests) for watcher in watchers)
    seen = _occurrences(requests, vocab_size) if config.penalties.active else None
    starts = Starts(hidden, watched, guide_state, seen)
    return jax.tree.map(functools.partial(by_shard, shards=shards), starts)


def _completion_mask(requests: Requests) -> Array:
    """[B, P] bool, the prompt tokens that are completion."""
    slots = requests.prompts.shape[1]
    return jnp.arange(slots) >= slots - requests.continued[:, None]


def _watch(watcher: Constraint | None, requests: Requests) -> Any:
    """The state [B, ...] after the continued tokens."""
    if watcher is None:
        return ()
    state = watcher.start(len(requests.prompts))
    if requests.continued is None:
        return state

    def one(state: Any, column: tuple[Array, Array]) -> tuple[Any, None]:
        tokens, counts = column
        return where_rows(counts, advance_and_look(watcher, state, tokens)[0], state), None

    columns = requests.prompts.T, _completion_mask(requests).T
    return jax.lax.scan(one, state, columns)[0]


def advance_and_look(watcher: Constraint, state: Any, tokens: Array) -> tuple[Any, Array]:
    """The state after tokens [N], and whether it is final, [N] bool.

    A final row that must go on, because it is still too short, begins anew.
    """
    state = watcher.advance(state, tokens)
    final = watcher.finished(state)
    return where_rows(final, watcher.start(len(tokens)), state), final


def where_rows(rows: Array, one: Any, other: Any) -> Any:
    """Leaves [N, ...] of `one` where rows [N] is True, else those of `other`."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, one, other)


def _occurrences(requests: Requests, vocab_size: int) -> Occurrences:
    """Which tokens the prompts and the continued completions hold, [B, V]."""
    rows = jnp.arange(len(requests.prompts))[:, None]
    own = requests.prompt_mask
    if requests.continued is not None:
        own = own & ~_completion_mask(requests)
    shape = (len(requests.prompts), vocab_size)
    counted = jnp.zeros(shape, jnp.int32)
    in_prompt = counted.at[rows, requests.prompts].max(own.astype(jnp.int32)) > 0
    if requests.continued is not None:
        written = _completion_mask(requests).astype(jnp.int32)
        counted = counted.at[rows, requests.prompts].add(written)
    return Occurrences(in_prompt, counted)
