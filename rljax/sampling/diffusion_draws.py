"""One draw for every position of a block of masked diffusion, and how sure it counts."""

import enum
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.sampling.acceptance import OF_MODEL, log_probability, negative_entropy
from rljax.sampling.diffusion_config import DiffusionConfig
from rljax.sampling.distribution import EXCLUDED, entropy, take


class Rows(NamedTuple):
    """N rows to decode."""

    prompts: Array  # [N, P] i32
    keys: Array  # [N] keys of the noise
    max_new_tokens: Array  # [N] i32, positions from here on are no part of the canvas
    min_new_tokens: Array | None = None  # [N] i32, no stop token at positions before; None: 0
    temperature: Array | None = None  # [N] f32, >= 0; None: every row is greedy


class Draws(NamedTuple):
    """One draw for each position of a block, and its fields of `Decoded`."""

    tokens: Array  # [N, K] i32
    confidence: Array  # [N, K] f32, only their order counts
    logprobs: Array  # [N, K] f32
    model_logprobs: Array  # [N, K] f32
    tempered_logprobs: Array  # [N, K] f32
    entropy: Array  # [N, K] f32
    model_entropy: Array  # [N, K] f32, untempered; zeros where no bound reads it


class Purpose(enum.IntEnum):
    """What random numbers of a position are for."""

    TOKEN = 0
    ORDER = 1


def draw_block(
    logits: Array, rows: Rows, step: Array, places: Array, config: DiffusionConfig
) -> Draws:
    """One token for every position of a block.

    Args:
        logits: [N, K, V] of the model, guidance included.
        rows: keys, temperatures and limits.
        step: [] i32, over all blocks.
        places: [K] i32, positions of the completion.
        config: of the sampler.
    """
    vocabulary = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    model = jnp.where(never_drawn(vocabulary, config), EXCLUDED, logits.astype(jnp.float32))
    is_stop = is_stop_token(vocabulary, config)
    forbidden = jnp.zeros((1, 1, 1), bool)
    if rows.min_new_tokens is not None:
        forbidden = (places < rows.min_new_tokens[:, None])[..., None] & is_stop
    legal = jnp.where(forbidden, EXCLUDED, model)

    keys_of = functools.partial(_position_keys, rows.keys, step, places)
    if rows.temperature is None:
        tokens = jnp.argmax(legal, axis=-1).astype(jnp.int32)
        certain = jnp.zeros(tokens.shape, jnp.float32)
        fields = dict(logprobs=certain, entropy=certain, tempered_logprobs=certain)
    else:
        tokens, fields = _draw_tempered(model, forbidden, rows.temperature, keys_of(Purpose.TOKEN))
    confidence = _confidence(legal, is_stop, tokens, places, keys_of, config)
    doubt = jnp.zeros(tokens.shape, jnp.float32)
    if config.entropy_bound is not None:
        doubt = -negative_entropy(legal, tokens)
    model_logprobs = log_probability(model, tokens)
    fields |= dict(model_logprobs=model_logprobs, model_entropy=doubt)
    return Draws(tokens, confidence, **fields)


def _confidence(
    legal: Array,
    is_stop: Array,
    tokens: Array,
    places: Array,
    keys_of: Callable[[Purpose], Array],
    config: DiffusionConfig,
) -> Array:
    """[N, K] f32: how sure each draw counts, of which only the order is read.

    Args:
        legal: [N, K, V] untempered logits of what may be drawn.
        is_stop: [V] bool.
        tokens: [N, K] i32, the draws.
        places: [K] i32, positions of the completion.
        keys_of: the keys of a purpose, [N, K].
        config: of the sampler.
    """
    if config.remasking == "left_to_right":
        return jnp.broadcast_to(-places.astype(jnp.float32), tokens.shape)
    if config.remasking == "random":
        uniform = jax.vmap(jax.vmap(lambda key: jax.random.uniform(key, dtype=jnp.float32)))
        return uniform(keys_of(Purpose.ORDER))
    if config.stop_confidence == "excluded":
        legal = jnp.where(is_stop, EXCLUDED, legal)
    # That of a late stop token is finite, above the -inf of positions that cannot be committed.
    found = OF_MODEL[config.remasking](legal, tokens)
    if config.stop_confidence == "model":
        return found
    return jnp.where(is_stop_token(tokens, config), EXCLUDED, found)


def _draw_tempered(
    model: Array, forbidden: Array, temperature: Array, keys: Array
) -> tuple[Array, dict[str, Array]]:
    """Gumbel-max draws at the rows' temperatures.

    Args:
        model: [N, K, V] f32 logits.
        forbidden: bool, broadcasts against them; True where a token may not be drawn.
        temperature: [N] f32; 0 takes the likeliest token.
        keys: [N, K] keys.

    Returns:
        tokens [N, K] i32 and their fields of `Draws`.
    """
    greedy = (temperature == 0)[:, None]
    divided = model / jnp.where(greedy, 1.0, temperature[:, None])[..., None]
    tempered = jnp.maximum(divided, EXCLUDED)  # Still finite, so that 0 * log p is 0.
    legal = jnp.where(forbidden, EXCLUDED, tempered)
    log_probabilities = jax.nn.log_softmax(legal, axis=-1)
    # Coarse noise has no tail, which makes samples colder than they should be (arXiv:2409.02908).
    gumbel = functools.partial(
        jax.random.gumbel, shape=model.shape[-1:], dtype=jnp.float32, mode="high"
    )
    noisy = log_probabilities + jax.vmap(jax.vmap(gumbel))(keys)
    tokens = jnp.argmax(jnp.where(greedy[..., None], legal, noisy), axis=-1).astype(jnp.int32)
    certain_or = functools.partial(jnp.where, greedy, 0.0)
    return tokens, dict(
        logprobs=certain_or(take(log_probabilities, tokens)),
        entropy=certain_or(entropy(log_probabilities)),
        tempered_logprobs=certain_or(log_probability(tempered, tokens)),
    )


def _position_keys(keys: Array, step: Array, places: Array, purpose: Purpose) -> Array:
    """[N] keys, [] i32, [K] i32 -> [N, K] keys, for one of the two draws of each position."""

    def of_row(key: Array) -> Array:
        step_key = jax.random.fold_in(key, step)
        return jax.vmap(lambda place: jax.random.fold_in(step_key, 2 * place + purpose))(places)

    return jax.vmap(of_row)(keys)


def is_stop_token(tokens: Array, config: DiffusionConfig) -> Array:
    """[...] i32 -> [...] bool."""
    return (tokens[..., None] == jnp.array(config.stop_tokens, jnp.int32)).any(axis=-1)


def never_drawn(tokens: Array, config: DiffusionConfig) -> Array:
    """[V] i32 -> [V] bool: ids that no position is filled with."""
    is_mask = tokens == config.mask_token
    never = is_mask & config.forbid_mask_token
    for start, stop in config.textless:
        never |= (start <= tokens) & (tokens < stop) & ~is_mask
    return never
