"""Decoding of masked diffusion models: a canvas of masks is filled block by block, step by step.

Nie et al. 2025, arXiv:2502.09992, appendix on sampling (semi-autoregressive, low-confidence
remasking). N = B * G rows of S = P + T slots: P prompt slots, then the canvas of T positions in
blocks of K. Each denoising step predicts every open position of one block and commits the most
confident ones (sampling/acceptance.py); a committed token never changes. Two blocks of two
positions, one a step:

    prompt M M M M    prompt M b M M    prompt a b M M    prompt a b c M    prompt a b c d
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.network import Network, Params
from rljax.models.transformer import Transformer
from rljax.parallel.rules import constrain, row_shards
from rljax.sampling.acceptance import ranks_of, within_bound
from rljax.sampling.diffusion_config import DiffusionConfig
from rljax.sampling.diffusion_draws import Rows, draw_block, is_stop_token
from rljax.sampling.keys import row_keys
from rljax.sampling.request import Requests, Rollouts, StopReason

# The canvas [N, S] i32 and the slot of a block's first position [] i32 -> logits [N, K, V] that
# predict the block. Only those: over the whole canvas they would be the largest array by far.
Denoiser = Callable[[Array, Array], Array]


STEPS = "denoising"  # name of the loop over the steps in a compiled program


class Decoded(NamedTuple):
    """The filled canvas, and what was known when each position was committed.

    Entries of positions that were never committed (after the end of a row) mean nothing. With
    `commit_step` the canvas of every step can be rebuilt: step t saw the tokens whose
    0 <= commit_step < t, the mask token elsewhere.
    """

    tokens: Array  # [N, T] i32
    commit_step: Array  # [N, T] i32, block * steps_per_block + step of the block; -1: never
    logprobs: Array  # [N, T] f32, see `make_diffusion_sampler`
    model_logprobs: Array  # [N, T] f32
    tempered_logprobs: Array  # [N, T] f32
    entropy: Array  # [N, T] f32, nats
    passes: Array  # [] i32, steps that were run; each costs a forward pass, with guidance two


class _State(NamedTuple):
    """The carry of the loop."""

    step: Array  # [] i32, denoising step over all blocks
    done: Array  # [N] bool, nothing that is still open can matter
    decoded: Decoded


def num_transfer(masked_counts: Array, steps: int) -> Array:
    """How many positions each denoising step commits: as evenly as can be, more in early steps.

        k[s] = floor(n / steps) + (1 if s < n mod steps else 0);  7 in 4 steps: 2 2 2 1

    Args:
        masked_counts: [...] i32, n >= 0 positions to fill.
        steps: >= 1.

    Returns:
        [..., steps] i32, which sum to n.

    Raises:
        ValueError: if there is no step.
    """
    if steps < 1:
        raise ValueError(f"steps must be >= 1, got {steps}.")
    whole, rest = jnp.divmod(masked_counts[..., None].astype(jnp.int32), steps)
    return whole + (jnp.arange(steps, dtype=jnp.int32) < rest).astype(jnp.int32)


def decode_blocks(denoise: Denoiser, rows: Rows, config: DiffusionConfig) -> Decoded:
    """Fills the canvas of every row, the blocks from left to right.

    Each step draws a token for every position of the block and commits, of the open ones, the k
    with the highest confidence (`num_transfer`, or more with an `entropy_bound`; ties: the
    leftmost). The noise depends on the
    row's key, the step and the position, and on nothing else.

    The loop ends when every row has a stop token with nothing open before it, or is full. What is
    left open then is behind a stop token: the completions are those of all `config.steps` steps.

    Args:
        denoise: the model; see `Denoiser`. Logits may be of any float dtype, all arithmetic on
            them is float32.
        rows: what to decode.
        config: `samples_per_prompt` and `temperature` are not read, `rows` says them.

    Returns:
        `Decoded`, not yet cut at the stop token.
    """
    n, t = len(rows.prompts), config.max_new_tokens
    places = jnp.arange(t, dtype=jnp.int32)
    inside = places < rows.max_new_tokens[:, None]
    tokens = jnp.where(inside, jnp.int32(config.mask_token), jnp.int32(config.pad_token))
    tokens = constrain(tokens, "batch", None)
    never, nothing = jnp.full((n, t), -1, jnp.int32), jnp.zeros((n, t), jnp.float32)
    empty = Decoded(tokens, never, nothing, nothing, nothing, nothing, jnp.int32(0))
    if config.cfg_scale > 0:
        denoise = _guided(denoise, rows.prompts.shape[1], config)

    def running(state: _State) -> Array:
        return (state.step < config.steps) & ~jnp.all(state.done)

    def one_step(state: _State) -> _State:
        return _one_step(denoise, rows, state, config)

    start = _State(jnp.int32(0), ~inside.any(axis=-1), empty)
    with jax.named_scope(STEPS):
        return jax.lax.while_loop(running, one_step, start).decoded


def _one_step(denoise: Denoiser, rows: Rows, state: _State, config: DiffusionConfig) -> _State:
    """Draws the whole block, commits a part of it."""
    block, step_of_block = jnp.divmod(state.step, config.steps_per_block)
    start = block * config.block_tokens
    places = start + jnp.arange(config.block_tokens, dtype=jnp.int32)
    canvas = jnp.concatenate([rows.prompts, state.decoded.tokens], axis=1)
    logits = denoise(canvas, rows.prompts.shape[1] + start)
    draws = draw_block(logits, rows, state.step, places, config)

    def cut(x: Array) -> Array:
        return jax.lax.dynamic_slice_in_dim(x, start, config.block_tokens, axis=1)

    still_open = (cut(state.decoded.commit_step) < 0) & (places < rows.max_new_tokens[:, None])
    # A whole row always has K positions; one with a lower limit may have a shorter block, or none.
    in_block = jnp.clip(rows.max_new_tokens - start, 0, config.block_tokens)
    schedule = num_transfer(in_block, config.steps_per_block)
    ranks = ranks_of(jnp.where(still_open, draws.confidence, -jnp.inf))
    count = jnp.take(schedule, step_of_block, axis=-1)
    if config.entropy_bound is not None:
        # What the schedule would have kept by now, so that its steps are enough.
        later = jnp.where(jnp.arange(config.steps_per_block) > step_of_block, schedule, 0)
        behind = still_open.sum(axis=-1) - later.sum(axis=-1)
        sure = within_bound(ranks, draws.model_entropy, still_open, config.entropy_bound)
        count = jnp.maximum(sure, behind)
    chosen = (ranks < count[:, None]) & still_open

    def write(old: Array, new: Array) -> Array:
        block = jnp.where(chosen, new, cut(old))
        return jax.lax.dynamic_update_slice_in_dim(old, block, start, axis=1)

    old, new = state.decoded._asdict(), draws._asdict() | {"commit_step": state.step}
    passes = old.pop("passes") + 1
    decoded = Decoded(**{name: write(old[name], new[name]) for name in old}, passes=passes)
    done = _done(decoded, rows, config)
    # With more steps than tokens, the steps that would commit nothing are skipped.
    left = jnp.any(still_open & ~chosen & ~done[:, None])
    next_block = (block + 1) * config.steps_per_block
    return _State(jnp.where(left, state.step + 1, next_block), done, decoded)


def _done(decoded: Decoded, rows: Rows, config: DiffusionConfig) -> Array:
    """[N] bool: a stop token with nothing open before it, or nothing open at all."""
    places = jnp.arange(decoded.tokens.shape[1], dtype=jnp.int32)
    filled = (decoded.commit_step >= 0) | (places >= rows.max_new_tokens[:, None])
    filled_until = jnp.cumprod(filled.astype(jnp.int32), axis=-1) > 0
    stopped = is_stop_token(decoded.tokens, config) & filled_until
    return stopped.any(axis=-1) | filled_until[:, -1]


def guided(with_prompt: Array, without: Array, scale: float) -> Array:
    """Classifier-free guidance, l_u + (s + 1) (l_c - l_u), of anything linear in the logits."""
    return without + (scale + 1) * (with_prompt - without)


def _guided(denoise: Denoiser, prompt_slots: int, config: DiffusionConfig) -> Denoiser:
    """Classifier-free guidance against the canvas without its prompt."""

    def denoise_guided(canvas: Array, start: Array) -> Array:
        blind = canvas.at[:, :prompt_slots].set(config.mask_token)
        both = (denoise(x, start).astype(jnp.float32) for x in (canvas, blind))
        return guided(*both, config.cfg_scale)

    return denoise_guided


def network_denoiser(
    model: Transformer, prompt_mask: Array, max_new_tokens: Array, config: DiffusionConfig
) -> Denoiser:
    """The bidirectional network as a `Denoiser`.

    Args:
        model: with its parameters bound.
        prompt_mask: [N, P] bool, left-padded: True in the last slot.
        max_new_tokens: [N] i32, limits of the canvas.
        config: T, K and whether the outputs are shifted.
    """
    places = jnp.arange(config.max_new_tokens, dtype=jnp.int32)
    inside = places < max_new_tokens[:, None]
    # Neither padding nor what lies past a row's limit is seen: its segment is 0.
    segment_ids = jnp.concatenate([prompt_mask, inside], axis=1).astype(jnp.int32)
    positions = jnp.maximum(jnp.cumsum(segment_ids, axis=1, dtype=jnp.int32) - 1, 0)

    def denoise(canvas: Array, start: Array) -> Array:
        hidden = model(canvas, positions, segment_ids).hidden
        # Shifted, the first completion token is predicted in the last slot of the prompt.
        first = start - 1 if config.shift_logits else start
        block = jax.lax.dynamic_slice_in_dim(hidden, first, config.block_tokens, axis=1)
        return model.logits(block)

    return denoise


DiffusionSampler = Callable[[Params, Requests, Array, Array], Rollouts]


def make_diffusion_sampler(network: Network, config: DiffusionConfig) -> DiffusionSampler:
    """Builds the pure sampling function; jit it once per shape.

    Returns:
        sample(params, requests, key, step) -> Rollouts

        requests: without `continued`: what a canvas holds depends on its whole length, so that a
            completion cannot be sampled in parts. `max_new_tokens` cuts the canvas of a row: the
            model sees no mask beyond it. A block that is cut fills fewer positions in its steps.
            Before `min_new_tokens` positions no stop token is drawn. `temperature` replaces the
            config's; must be >= 0.
        key: of a stream (sampling/keys.py); step: [] i32, of the whole run.

    A sample depends on (params, prompt, key, step, prompt id, sample id), its limits and its
    temperature only: not on the batch around it, its slot or the amount of padding, up to float
    rounding of the logits.

    The mask covers everything up to and including the first stop token. Log-probabilities are those
    of the denoising policy, NOT a likelihood of the sequence: each token has its own, under the
    distribution it was drawn from, given the canvas of the step that committed it.

        logprobs           tempered; before `min_new_tokens` without stop tokens
        model_logprobs     untempered. Confidences come from it, without the stop tokens that may
                           not be drawn
        tempered_logprobs  tempered
        entropy            of the distribution of `logprobs`

    All are without what is never drawn: the mask token (`forbid_mask_token`) and ids without a
    text. They include guidance (`cfg_scale`). They say nothing about which positions were
    committed: under "low_confidence" a draw is kept because it is probable. With one step a block
    nothing is left to choose, and the sum of a row's `logprobs` is the exact log-probability of its
    tokens.

    In a greedy row `logprobs`, `tempered_logprobs` and `entropy` are 0.

    Raises:
        ValueError: if the network sees one way only, has no language-model head, or lacks one of
            the config's tokens.
    """
    config.check_network(network)

    def sample(params: Params, requests: Requests, key: Array, step: Array) -> Rollouts:
        rows, prompt_mask = _rows(requests, key, step, config)
        model = network.bind(params)
        denoise = network_denoiser(model, prompt_mask, rows.max_new_tokens, config)
        return _rollouts(decode_blocks(denoise, rows, config), rows, config)

    return sample


def _rows(
    requests: Requests, key: Array, step: Array, config: DiffusionConfig
) -> tuple[Rows, Array]:
    """The requests as N = B * G rows, and their prompt masks [N, P]."""
    if requests.continued is not None:
        raise ValueError(
            "continued must be None for masked diffusion, whose completions are not sampled from "
            f"left to right; got an array of shape {jnp.shape(requests.continued)} "
            "(Requests.continued)."
        )
    if requests.temperature_slopes is not None:
        raise ValueError(
            "temperature_slopes must be None for masked diffusion, which reads a constant "
            "temperature (Requests.temperature_slopes)."
        )
    chex.assert_rank(requests.prompts, 2)
    (b, p), g = requests.prompts.shape, config.samples_per_prompt
    chex.assert_shape(requests.prompt_mask, (b, p))
    chex.assert_shape(requests.prompt_ids, (b,))
    per_sample = [requests.sample_ids, requests.temperature]
    per_sample += [requests.min_new_tokens, requests.max_new_tokens]
    chex.assert_shape([x for x in per_sample if x is not None], (b, g))

    # A bidirectional prompt sees its completion: its G samples share no hidden state, and each
    # carries the prompt through every forward pass.
    def repeat(x: Array) -> Array:
        return constrain(jnp.repeat(x, g, axis=0), "batch", None)

    def flat(x: Array | None) -> Array | None:
        return None if x is None else x.reshape(b * g)

    temperature = requests.temperature
    if temperature is None and config.temperature > 0:
        temperature = jnp.full((b, g), config.temperature, jnp.float32)
    limits = requests.max_new_tokens
    if limits is None:
        limits = jnp.full((b, g), config.max_new_tokens, jnp.int32)
    samples = g if requests.sample_ids is None else requests.sample_ids
    rows = Rows(
        prompts=repeat(requests.prompts),
        keys=row_keys(key, step, requests.prompt_ids, samples),
        max_new_tokens=jnp.clip(flat(limits), 0, config.max_new_tokens),
        min_new_tokens=flat(requests.min_new_tokens),
        temperature=flat(temperature),
    )
    return rows, repeat(requests.prompt_mask)


def _rollouts(decoded: Decoded, rows: Rows, config: DiffusionConfig) -> Rollouts:
    """Cuts each row after its first stop token."""
    g, t = config.samples_per_prompt, config.max_new_tokens
    places = jnp.arange(t, dtype=jnp.int32)
    inside = places < rows.max_new_tokens[:, None]
    stops = is_stop_token(decoded.tokens, config) & inside
    stops_before = jnp.cumsum(stops, axis=-1) - stops
    mask = inside & (stops_before == 0)
    temperature = rows.temperature
    if temperature is None:
        temperature = jnp.zeros(len(mask), jnp.float32)

    def by_prompt(x: Array) -> Array:
        """[N, ...] -> [B, G, ...]."""
        return x.reshape(-1, g, *x.shape[1:])

    def kept(x: Array) -> Array:
        return by_prompt(jnp.where(mask, x, 0.0))

    stopped = stops.any(axis=-1)
    return Rollouts(
        tokens=by_prompt(jnp.where(mask, decoded.tokens, config.pad_token)),
        mask=by_prompt(mask),
        logprobs=kept(decoded.logprobs),
        model_logprobs=kept(decoded.model_logprobs),
        tempered_logprobs=kept(decoded.tempered_logprobs),
        entropy=kept(decoded.entropy),
        temperature=kept(temperature[:, None]),
        stop_reason=by_prompt(
            jnp.where(stopped, StopReason.STOP_TOKEN, StopReason.LENGTH).astype(jnp.int32)
        ),
        slot_steps=jnp.full(len(mask) // g, len(mask) // row_shards() * decoded.passes),
        fill_steps=by_prompt(jnp.where(mask, decoded.commit_step, -1)),
    )
