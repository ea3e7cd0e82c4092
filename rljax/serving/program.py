"""The programs of a server: prompts are computed, put into slots, and decoded a few tokens at once.

W slots, each with room for a row of S tokens, prompt and completion together. What differs from row
to row is an array, so that rows of any request share one program and none is compiled for it.

    prefill   R prompts of one bucket  ->  their keys and values
    place     one of them into a slot  ->  slots
    advance   K tokens for all slots   ->  slots, and what was written

Each has one shape for any load: a row's numbers do not depend on the rows beside it, nor on when it
came (models/by_position.py).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.models.by_position import decode_at, insert
from rljax.models.decoding import Decoder, PromptCache
from rljax.models.kv_cache import Cache, empty_cache
from rljax.models.network import Network, Params
from rljax.models.prefill import prefill
from rljax.parallel.rules import constrain, row_shards
from rljax.sampling.choose import Choice, choose
from rljax.sampling.distribution import EXCLUDED, TokenFilter, kept_by_row, token_bias
from rljax.sampling.keys import Purpose, purpose_key, row_keys
from rljax.sampling.request import Requests

# Alternatives that are found for rows that ask for some, at most.
MOST_TOPS = 20
# Biased tokens, and ends of its own, that a row may have.
MOST_BIASES, MOST_ENDS = 300, 32

_KEY_SHAPE = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape


class Row(NamedTuple):
    """What is asked for one row; in the slots each field leads with [W]."""

    seed: np.ndarray  # i32, and with the next five the address of the noise (sampling/keys.py)
    streamed: np.ndarray  # bool, whether the noise is of `stream`, and not of `seed`
    stream: np.ndarray  # [...] u32, data of a stream's key
    step: np.ndarray  # i32
    prompt_id: np.ndarray  # i32
    sample_id: np.ndarray  # i32
    continued: np.ndarray  # i32, trailing prompt tokens that are completion
    least: np.ndarray  # i32, completion tokens before which no end comes
    most: np.ndarray  # i32, completion tokens, `continued` ones included
    temperature: np.ndarray  # f32, 0 is greedy
    top_k: np.ndarray  # i32
    top_p: np.ndarray  # f32
    min_p: np.ndarray  # f32
    presence: np.ndarray  # f32
    frequency: np.ndarray  # f32
    tops: np.ndarray  # bool, whether alternatives are wanted
    ends: np.ndarray  # [MOST_ENDS] i32, tokens that end it; -1: none
    bias_tokens: np.ndarray  # [MOST_BIASES] i32; -1: none
    biases: np.ndarray  # [MOST_BIASES] f32


class Slots(NamedTuple):
    """What is kept between two calls of `advance`."""

    row: Row  # [W, ...]
    key: Array  # [W]
    hidden: Array  # [W, D], after the latest token
    length: Array  # [W] i32, tokens in the cache
    written: Array  # [W] i32, completion tokens, `continued` ones included
    running: Array  # [W] bool
    counts: Array  # [W, V] i32, how often each token has been written
    cache: Cache  # [W, K, S, h] of each layer


class Chunk(NamedTuple):
    """What `advance` has written: up to K tokens of each slot, in order."""

    count: Array  # [W] i32
    running: Array  # [W] bool, whether the row goes on
    tokens: Array  # [W, K] i32
    logprobs: Array  # [W, K] f32, under the distribution really sampled from
    model_logprobs: Array  # [W, K] f32, under the raw model
    tempered_logprobs: Array  # [W, K] f32, under the raw model's logits / temperature
    entropy: Array  # [W, K] f32, of the distribution really sampled from
    top_logprobs: Array  # [W, K, k] f32, of the raw model
    top_tokens: Array  # [W, K, k] i32


class Programs(NamedTuple):
    """The jitted programs; all but `prefill` keep the shape of the slots."""

    empty: Callable[[], Slots]
    prefill: Callable[[Params, Array, Array], tuple[PromptCache, Array]]
    place: Callable[..., Slots]
    advance: Callable[[Params, Slots, Array], tuple[Slots, Chunk]]


def make_programs(
    network: Network,
    *,
    slots: int,
    context: int,
    steps: int,
    prefill_tokens: int,
    cache_dtype: str,
    token_filter: TokenFilter,
) -> Programs:
    """Builds the programs; nothing is compiled yet.

    Args:
        network: of the sampler, whose parameters are unstacked.
        slots: W, a multiple of the shards of rows.
        context: S.
        steps: K of a call of `advance`.
        prefill_tokens: prompt tokens that each shard of rows computes at a time, about.
        cache_dtype: of keys and values: "" is the compute dtype, or "int8".
        token_filter: what holds for every row: ids without a text.
    """
    config = network.config

    def empty() -> Slots:
        return _empty(network, slots, context, cache_dtype)

    def compute(params: Params, prompts: Array, lengths: Array) -> tuple[PromptCache, Array]:
        decoder = Decoder.of(network, params, context)
        return prefill(
            decoder,
            prompts,
            lengths,
            shards=row_shards(),
            chunk_tokens=prefill_tokens,
            cache_dtype=cache_dtype,
        )

    def advance(params: Params, state: Slots, keep: Array) -> tuple[Slots, Chunk]:
        decoder = Decoder.of(network, params, context)
        return _advance(decoder, state._replace(running=state.running & keep), steps, token_filter)

    token_bias(token_filter, config.vocab_size)  # its checks
    return Programs(
        empty=jax.jit(empty),
        prefill=jax.jit(compute),
        place=jax.jit(_place, donate_argnums=0),
        advance=jax.jit(advance, donate_argnums=1),
    )


def _empty(network: Network, slots: int, context: int, cache_dtype: str) -> Slots:
    config = network.config
    zeros = jnp.zeros(slots, jnp.int32)
    nothing = row_of(most=1)
    row = jax.tree.map(lambda x: jnp.broadcast_to(x, (slots, *np.shape(x))), nothing)
    return Slots(
        row=row,
        key=jnp.broadcast_to(_key(nothing), (slots,)),
        hidden=constrain(jnp.zeros((slots, config.width), config.compute_dtype), "batch", "width"),
        length=zeros,
        written=zeros,
        running=zeros > 0,
        counts=constrain(jnp.zeros((slots, config.vocab_size), jnp.int32), "batch", None),
        cache=empty_cache(config, slots, context, cache_dtype),
    )


def row_of(
    *,
    most: int,
    seed: int = 0,
    stream: tuple[int, ...] | None = None,
    step: int = 0,
    prompt_id: int = 0,
    sample_id: int = 0,
    continued: int = 0,
    least: int = 0,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    presence: float = 0.0,
    frequency: float = 0.0,
    tops: bool = False,
    ends: tuple[int, ...] = (),
    logit_bias: tuple[tuple[int, float], ...] = (),
) -> Row:
    """A row for `place`; the limits of its lists are checked where requests are read."""
    tokens, biases = np.full(MOST_BIASES, -1, np.int32), np.zeros(MOST_BIASES, np.float32)
    for place, (token, bias) in enumerate(logit_bias):
        tokens[place], biases[place] = token, bias
    of_ends = np.full(MOST_ENDS, -1, np.int32)
    of_ends[: len(ends)] = ends
    of_stream = np.zeros(_KEY_SHAPE, np.uint32) if stream is None else np.array(stream, np.uint32)
    noise = np.int32(seed), np.bool_(stream is not None), of_stream
    integers = map(np.int32, (step, prompt_id, sample_id, continued, least, most))
    truncation = np.float32(temperature), np.int32(top_k), np.float32(top_p), np.float32(min_p)
    penalties = np.float32(presence), np.float32(frequency)
    return Row(*noise, *integers, *truncation, *penalties, np.bool_(tops), of_ends, tokens, biases)


def _key(row: Row) -> Array:
    """The key of a row: of stream, step, prompt, sample; a seed's stream is that of `Generator`."""
    seeded = jax.random.key_data(purpose_key(row.seed, Purpose.HELDOUT_SAMPLES))
    stream = jax.random.wrap_key_data(jnp.where(row.streamed, row.stream, seeded))
    prompt_ids, samples = jnp.reshape(row.prompt_id, 1), jnp.reshape(row.sample_id, (1, 1))
    return row_keys(stream, row.step, prompt_ids, samples)[0]


def _place(
    state: Slots, prompts: PromptCache, hidden: Array, index: Array, slot: Array, row: Row
) -> Slots:
    """Row `index` of the computed prompts begins in a slot."""

    def put(whole: Array, x: Array) -> Array:
        return whole.at[slot].set(x)

    return Slots(
        row=jax.tree.map(put, state.row, row),
        key=put(state.key, _key(row)),
        hidden=put(state.hidden, hidden[index]),
        length=put(state.length, prompts.lengths[index]),
        written=put(state.written, row.continued),
        running=put(state.running, True),
        counts=put(state.counts, 0),
        cache=insert(state.cache, prompts.layers, index, slot),
    )


def _advance(
    decoder: Decoder, state: Slots, steps: int, token_filter: TokenFilter
) -> tuple[Slots, Chunk]:
    shape, tops = (len(state.length), steps), min(MOST_TOPS, decoder.config.vocab_size)
    numbers = jnp.zeros(shape, jnp.float32)
    chunk = Chunk(
        count=jnp.zeros(shape[0], jnp.int32),
        running=state.running,
        tokens=jnp.zeros(shape, jnp.int32),
        logprobs=numbers,
        model_logprobs=numbers,
        tempered_logprobs=numbers,
        entropy=numbers,
        top_logprobs=jnp.zeros((*shape, tops), jnp.float32),
        top_tokens=jnp.zeros((*shape, tops), jnp.int32),
    )

    def goes_on(carry: tuple[Array, Slots, Chunk]) -> Array:
        step, state, _ = carry
        return (step < steps) & jnp.any(state.running)

    def one(carry: tuple[Array, Slots, Chunk]) -> tuple[Array, Slots, Chunk]:
        step, state, chunk = carry
        choice = _choose(decoder, state, token_filter, tops)
        state, chunk = _record(state, chunk, choice, step)
        return step + 1, _decode(decoder, state, choice.tokens), chunk

    _, state, chunk = jax.lax.while_loop(goes_on, one, (jnp.int32(0), state, chunk))
    return state, chunk._replace(running=state.running)


def _choose(decoder: Decoder, state: Slots, token_filter: TokenFilter, tops: int) -> Choice:
    """The next token of every row, with its alternatives where some row wants them."""
    row, running = state.row, state.running
    logits = decoder.model.logits(state.hidden)
    shaped = running & (
        jnp.any(row.bias_tokens >= 0, axis=1) | (row.presence != 0) | (row.frequency != 0)
    )
    adjusted = jax.lax.cond(
        jnp.any(shaped), lambda: _shaped(logits, row, state.counts), lambda: logits
    )
    choice = choose(
        logits,
        adjusted,
        jax.vmap(jax.random.fold_in)(state.key, state.written),
        token_filter,
        temperature=row.temperature,
        allowed=_allowed(adjusted, state, token_filter),
    )

    def likeliest() -> tuple[Array, Array]:
        values, tokens = jax.lax.top_k(logits, tops)
        return values - jax.nn.logsumexp(logits, axis=-1, keepdims=True), tokens

    def none() -> tuple[Array, Array]:
        shape = (len(logits), tops)
        return jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.int32)

    values, tokens = jax.lax.cond(jnp.any(running & row.tops), likeliest, none)
    return choice._replace(top_logprobs=values, top_tokens=tokens)


def _shaped(logits: Array, row: Row, counts: Array) -> Array:
    """The logits with each row's penalties and bias."""
    logits = logits - row.presence[:, None] * (counts > 0) - row.frequency[:, None] * counts
    return logits.at[_rows(row), _or_none(row.bias_tokens)].add(row.biases, mode="drop")


def _rows(row: Row) -> Array:
    return jnp.arange(len(row.most))[:, None]


def _or_none(tokens: Array) -> Array:
    """Ids where -1 lies beyond any vocabulary: -1 itself would be the last token."""
    return jnp.where(tokens < 0, jnp.iinfo(jnp.int32).max, tokens)


def _allowed(logits: Array, state: Slots, token_filter: TokenFilter) -> Array:
    """[W, V] bool, what may come after truncation, and before the wanted length."""
    row, running = state.row, state.running
    everything = jnp.ones(logits.shape, bool)
    short = running & (state.written < row.least)

    def going_on() -> Array:
        ends = ~everything
        ends = ends.at[_rows(row), _or_none(row.ends)].set(True, mode="drop")
        return ~(ends & short[:, None])

    allowed = jax.lax.cond(jnp.any(short), going_on, lambda: everything)
    truncates = (row.top_k > 0) | (row.top_p < 1) | (row.min_p > 0)

    def kept() -> Array:
        bias = token_bias(token_filter, logits.shape[-1])
        possible = allowed if bias is None else allowed & (bias > EXCLUDED)
        biased = logits if bias is None else logits + bias
        divisor = jnp.where(row.temperature > 0, row.temperature, 1.0)[:, None]
        tempered = jnp.maximum(jnp.where(possible, biased, EXCLUDED) / divisor, EXCLUDED)
        keep = kept_by_row(tempered, row.top_k, row.top_p, row.min_p)
        return jnp.where((truncates & (row.temperature > 0))[:, None], keep, allowed)

    return jax.lax.cond(jnp.any(running & truncates), kept, lambda: allowed)


def _record(state: Slots, chunk: Chunk, choice: Choice, step: Array) -> tuple[Slots, Chunk]:
    """Writes a choice down; rows that end with it stop running."""
    running = state.running
    put = functools.partial(_put_column, step=step)
    chunk = Chunk(
        count=chunk.count + running,
        running=chunk.running,
        tokens=put(chunk.tokens, choice.tokens),
        logprobs=put(chunk.logprobs, choice.logprobs),
        model_logprobs=put(chunk.model_logprobs, choice.model_logprobs),
        tempered_logprobs=put(chunk.tempered_logprobs, choice.tempered_logprobs),
        entropy=put(chunk.entropy, choice.entropy),
        top_logprobs=put(chunk.top_logprobs, choice.top_logprobs),
        top_tokens=put(chunk.top_tokens, choice.top_tokens),
    )
    written = state.written + running
    over = (choice.tokens[:, None] == state.row.ends).any(axis=1) | (written >= state.row.most)
    counts = state.counts.at[jnp.arange(len(written)), choice.tokens].add(running)
    return state._replace(written=written, running=running & ~over, counts=counts), chunk


def _put_column(whole: Array, x: Array, step: Array) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(whole, x[:, None], step, axis=1)


def _decode(decoder: Decoder, state: Slots, tokens: Array) -> Slots:
    """The tokens through the model. Ended rows go along; nothing reads what becomes of them."""
    used = jnp.where(state.running, state.length, 0).max() + 1
    hidden, cache = decode_at(decoder, tokens, state.length, used, state.cache)
    return state._replace(hidden=hidden, cache=cache, length=state.length + state.running)


def prompt_arrays(prompts: list[tuple[int, ...]], rows: int, slots: int) -> Requests:
    """[rows, slots] prompts, padded on the left, the last one repeated; at most `rows` of them."""
    tokens, mask = np.zeros((rows, slots), np.int32), np.zeros((rows, slots), bool)
    for place in range(rows):
        ids = prompts[min(place, len(prompts) - 1)]
        tokens[place, slots - len(ids) :] = ids
        mask[place, slots - len(ids) :] = True
    return Requests(tokens, mask, np.zeros(rows, np.int32))
