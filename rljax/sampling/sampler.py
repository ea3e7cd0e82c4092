"""Jitted sampling: each prompt is prefilled once, its G samples are decoded side by side."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.network import Network, Params
from rljax.models.transformer import KVCache
from rljax.parallel.rules import constrain
from rljax.sampling.distribution import TokenFilter, log_distribution, take
from rljax.sampling.keys import row_keys


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """What is static in a sampling program."""

    samples_per_prompt: int
    max_new_tokens: int
    stop_tokens: tuple[int, ...]
    pad_token: int
    token_filter: TokenFilter


class Rollouts(NamedTuple):
    """Samples of B prompts, G each, with room for T tokens. Produced on the device."""

    tokens: Array  # [B, G, T] i32, pad after the end
    mask: Array  # [B, G, T] bool, True on sampled tokens, the stop token included
    logprobs: Array  # [B, G, T] f32, under the distribution sampled from (0 where greedy or masked)
    finished: Array  # [B, G] bool, True if a stop token was sampled


class _State(NamedTuple):
    """The decode loop's carry, N = B * G rows."""

    step: Array  # [] i32, tokens sampled so far
    hidden: Array  # [N, D], of the last token
    cache: KVCache
    tokens: Array  # [N, T]
    mask: Array  # [N, T]
    logprobs: Array  # [N, T]
    done: Array  # [N]


Sampler = Callable[[Params, Array, Array, Array, Array, Array], Rollouts]


def make_sampler(network: Network, config: SamplingConfig) -> Sampler:
    """Builds the pure sampling function; jit it once per shape.

    Returns:
        sample(params, prompts, prompt_mask, prompt_ids, key, step) -> Rollouts

        prompts: [B, P] i32, padded on the left; prompt_mask: [B, P] bool, at least one True a row;
        prompt_ids: [B] i32; key: of a stream (sampling/keys.py); step: [] i32, of the whole run.

    A sample depends on (params, prompt, key, step, prompt id, sample index) only: not on the batch
    around it, its slot or the amount of padding, up to float rounding of the logits.

    Raises:
        ValueError: if there is nothing to sample or no stop token.
    """
    if config.max_new_tokens < 1 or config.samples_per_prompt < 1:
        raise ValueError(
            f"max_new_tokens and samples_per_prompt must be >= 1, got {config.max_new_tokens} and "
            f"{config.samples_per_prompt} (config.<stage>.sampling, config.<stage>.batch)."
        )
    if not config.stop_tokens:
        raise ValueError("At least one stop token is needed (the tokenizer's eos).")

    def sample(
        params: Params,
        prompts: Array,
        prompt_mask: Array,
        prompt_ids: Array,
        key: Array,
        step: Array,
    ) -> Rollouts:
        keys = row_keys(key, step, prompt_ids, config.samples_per_prompt)
        state = _prefill(network, params, prompts, prompt_mask, config)
        lengths = jnp.repeat(prompt_mask.sum(axis=1), config.samples_per_prompt)
        state = _decode(network, params, state, keys, lengths, prompts.shape[1], config)
        shape = (prompts.shape[0], config.samples_per_prompt)
        return Rollouts(
            tokens=state.tokens.reshape(*shape, -1),
            mask=state.mask.reshape(*shape, -1),
            logprobs=state.logprobs.reshape(*shape, -1),
            finished=state.done.reshape(shape),
        )

    return sample


def _prefill(
    network: Network, params: Params, prompts: Array, prompt_mask: Array, config: SamplingConfig
) -> _State:
    """Runs the B prompts once and repeats hidden state and cache for their G samples."""
    slots = prompts.shape[1] + config.max_new_tokens
    cache = KVCache.empty(network.config, prompts.shape[0], slots)
    positions = jnp.maximum(jnp.cumsum(prompt_mask, axis=1) - 1, 0)
    model = network.bind(params)
    hidden, cache = model.prefill(prompts, positions, prompt_mask.astype(jnp.int32), cache)
    repeat = lambda x, axis: jnp.repeat(x, config.samples_per_prompt, axis=axis)  # noqa: E731
    rows = prompts.shape[0] * config.samples_per_prompt
    shape = (rows, config.max_new_tokens)
    return _State(
        step=jnp.int32(0),
        hidden=constrain(repeat(hidden[:, -1], 0), "batch", "width"),
        cache=KVCache(
            keys=constrain(repeat(cache.keys, 1), "layers", "batch", "kv_heads", None, None),
            values=constrain(repeat(cache.values, 1), "layers", "batch", "kv_heads", None, None),
            valid=constrain(repeat(cache.valid, 0), "batch", None),
        ),
        tokens=jnp.full(shape, config.pad_token, jnp.int32),
        mask=jnp.zeros(shape, bool),
        logprobs=jnp.zeros(shape, jnp.float32),
        done=jnp.zeros(rows, bool),
    )


def _decode(
    network: Network,
    params: Params,
    state: _State,
    keys: Array,
    prompt_lengths: Array,
    prompt_slots: int,
    config: SamplingConfig,
) -> _State:
    """Samples until every row has stopped or the budget is used."""
    model = network.bind(params)
    stop_tokens = jnp.array(config.stop_tokens, jnp.int32)

    def running(state: _State) -> Array:
        return (state.step < config.max_new_tokens) & ~jnp.all(state.done)

    def one_token(state: _State) -> _State:
        t = state.step
        tokens, logprobs = _choose(model.logits(state.hidden), keys, t, config.token_filter)
        tokens = jnp.where(state.done, config.pad_token, tokens)
        logprobs = jnp.where(state.done, 0.0, logprobs)
        # A finished row decodes its padding along with the others; nothing reads the result.
        hidden, cache = model.decode(tokens, prompt_lengths + t, prompt_slots + t, state.cache)
        return _State(
            step=t + 1,
            hidden=hidden,
            cache=cache,
            tokens=state.tokens.at[:, t].set(tokens),
            mask=state.mask.at[:, t].set(~state.done),
            logprobs=state.logprobs.at[:, t].set(logprobs),
            done=state.done | jnp.isin(tokens, stop_tokens) & ~state.done,
        )

    return jax.lax.while_loop(running, one_token, state)


def _choose(
    logits: Array, keys: Array, step: Array, token_filter: TokenFilter
) -> tuple[Array, Array]:
    """[N, V] logits -> tokens [N] i32 and their log-probabilities [N] f32 (0 when greedy)."""
    if token_filter.greedy:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32), jnp.zeros(logits.shape[:1])
    log_probabilities = log_distribution(logits, token_filter)
    noise = lambda key: jax.random.gumbel(jax.random.fold_in(key, step), logits.shape[1:])  # noqa: E731
    noisy = log_probabilities + jax.vmap(noise)(keys)
    # The argmax as two plain reductions: XLA's CPU backend is slow at reducing pairs.
    places = jax.lax.broadcasted_iota(jnp.int32, noisy.shape, 1)
    best = noisy == noisy.max(axis=-1, keepdims=True)
    tokens = jnp.where(best, places, noisy.shape[1] - 1).min(axis=-1)
    return tokens, take(log_probabilities, tokens)
