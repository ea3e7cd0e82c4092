"""Log-probability, entropy and rank of chosen tokens without holding logits [N, T, V].

The logits of some slots at a time are computed, reduced and dropped. What is kept of a slot is its
log-normaliser and its entropy; the backward pass computes the logits again, unless there are so few
that they are kept as well. With x the biased and tempered logits of a slot, y its chosen token, K
the tokens that the sampler's filter keeps and p the softmax over K,

    logprob = x_y - log sum_K exp(x)        d logprob / d x_v = [v = y] - p_v
    entropy = -sum_K p log p                d entropy / d x_v = -p_v (log p_v + entropy)

so both cotangents meet in one array of d logits, and an entropy that is only reported costs no
matrix product of its own. K and the temperature of a slot are constants for the gradient.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.moe import Routing
from rljax.sampling.distribution import EXCLUDED, TokenFilter, divisor, kept_tokens, token_bias
from rljax.training.update.vocabulary_chunks import (
    CHUNK_SLOTS,
    LOGITS_BYTES,
    chunked,
    most_probable,
    pad,
    products,
    products_backward,
    shards,
    whole_rows,
)


class TokenStatistics(NamedTuple):
    """What is known of chosen tokens, all with the same leading axes [...], [N, T] say."""

    logprobs: Array  # [...] f32
    entropy: Array  # [...] f32, nats, of the distribution that the token was drawn from
    greedy: Array  # [...] bool, whether the token is the most probable one (the first of equals)
    top_logprobs: Array | None = None  # [..., k] f32, descending; without gradient
    top_tokens: Array | None = None  # [..., k] i32
    routing: Routing | None = None  # of the trunk that made the hidden states
    more: Mapping[str, Array] | None = None  # what else an estimator says of tokens, by name, [...]


def token_arrays(statistics: TokenStatistics) -> dict[str, Array]:
    """What parts may read of statistics, by name (objectives/arrays.py), all with the same axes."""
    names = ("logprobs", "entropy", "greedy")
    return {name: getattr(statistics, name) for name in names} | dict(statistics.more or {})


def token_statistics(
    hidden: Array,
    vocabulary: Array,
    targets: Array,
    token_filter: TokenFilter,
    *,
    vocab_size: int,
    temperature: Array | None = None,
    logit_softcap: float = 0.0,
    top_k: int = 0,
    logits_bytes: int = LOGITS_BYTES,
    chunk_slots: int = CHUNK_SLOTS,
) -> TokenStatistics:
    """Statistics of the targets under the filtered softmax of `hidden @ vocabulary.T`.

    Equal to `log_distribution(logits, token_filter, taken=targets, temperature=temperature)` and
    what follows from it (sampling/distribution.py), in values and in gradients. Logits, softmax and
    the gradient of the vocabulary matrix are accumulated in float32; the factors of the matrix
    products are in the dtype of `hidden`. Rows stay on their devices, and so do the shards of the
    vocabulary: only `top_k` looks at more than sums and maxima over it.

    tokamax.linear_softmax_cross_entropy_loss is not used: it returns one scalar, the sum or mean of
    the negative log-probabilities, and knows neither entropy, temperature nor truncation.

    Args:
        hidden: [N, T, D] in the compute dtype, differentiated.
        vocabulary: [V', D] in the parameters' dtype, differentiated; V' >= vocab_size, further rows
            belong to no token.
        targets: [N, T] i32, chosen tokens, < vocab_size; always kept, even forbidden ones.
        token_filter: with temperature > 0, unless `temperature` is given. Which tokens it keeps and
            what its entropy rule makes of the logits are constants for the gradient.
        vocab_size: V.
        temperature: [N, T] f32, of each slot, instead of the filter's and of its entropy rule; not
            differentiated. Slots with 0 get finite values without a meaning.
        logit_softcap: logits become c tanh(logits / c) first, before any bias; 0: off.
        top_k: number of most probable tokens to return for every slot.
        logits_bytes: see `LOGITS_BYTES`. Where all logits fit, they are kept for the backward pass
            instead of being computed again.
        chunk_slots: see `CHUNK_SLOTS`.

    Raises:
        ValueError: for a greedy filter, a top_k that is not in 0..V, a biased or forbidden token
            that is not in 0..V-1, or temperatures of another shape than the targets.
    """
    if token_filter.greedy and temperature is None:
        raise ValueError("Greedy decoding (temperature 0) has no log-probabilities to train on.")
    if temperature is not None and temperature.shape != targets.shape:
        raise ValueError(
            f"temperature must have the shape of targets {targets.shape}, got {temperature.shape}."
        )
    if not 0 <= top_k <= vocab_size:
        raise ValueError(f"top_k must be in 0..{vocab_size} (vocab_size), got {top_k}.")
    cut, fits = chunked(targets.shape, len(vocabulary), logits_bytes, chunk_slots)
    head = _Head(token_filter, vocab_size, logit_softcap, top_k, keeps_logits=fits)
    given = None if temperature is None else cut.split(temperature)
    statistics = _statistics(head, cut.split(hidden), vocabulary, cut.split(targets), given)
    return TokenStatistics(*(None if part is None else cut.join(part) for part in statistics))


@dataclasses.dataclass(frozen=True)
class _Head:
    """What is static."""

    token_filter: TokenFilter
    vocab_size: int
    logit_softcap: float
    top_k: int
    keeps_logits: bool


class _Kept(NamedTuple):
    """What the backward pass needs to know of a slot."""

    log_mass: Array  # [...] log-normaliser
    entropy: Array  # [...]
    temperature: Array | None  # [..., 1] where it is not the filter's
    threshold: Array | None  # [...] truncation excludes what is below
    logits: Array | None  # [..., V'] of the model, where they are kept


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _statistics(
    head: _Head, hidden: Array, vocabulary: Array, targets: Array, temperature: Array | None
) -> tuple:
    """Chunks of slots, one after the other: see `_chunk_statistics`."""
    return _forward(head, hidden, vocabulary, targets, temperature)[0]


def _forward(
    head: _Head, hidden: Array, vocabulary: Array, targets: Array, temperature: Array | None
) -> tuple:
    weights = whole_rows(vocabulary, hidden.dtype)
    statistics, kept = jax.lax.map(
        lambda chunk: _chunk_statistics(head, weights, *chunk), (hidden, targets, temperature)
    )
    return statistics, (hidden, vocabulary, targets, kept)


def _backward(head: _Head, saved: tuple, cotangents: tuple) -> tuple:
    """Cotangents of the log-probabilities and entropies; the other statistics have none."""
    hidden, vocabulary, targets, kept = saved

    def bar(hidden: Array, weights: Array, rest: tuple) -> Array:
        return _logits_bar(head, hidden, weights, *rest)

    hidden_bar, vocabulary_bar = products_backward(
        bar, hidden, vocabulary, (targets, kept, cotangents[0], cotangents[1])
    )
    return hidden_bar, vocabulary_bar, None, None


_statistics.defvjp(_forward, _backward)


def _chunk_statistics(
    head: _Head, weights: Array, hidden: Array, targets: Array, temperature: Array | None
) -> tuple:
    """[..., D], [...] -> the first five fields of `TokenStatistics`, and what is kept."""
    raw = products(hidden, weights, head.logit_softcap)
    tokens = jnp.arange(raw.shape[-1], dtype=targets.dtype)
    chosen = tokens == targets[..., None]
    divided_by = divisor(_exclude_padding(head, raw), head.token_filter, temperature)
    logits = _tempered(head, raw, divided_by)
    threshold = _threshold(head, logits) if head.token_filter.truncates else None
    logits = _exclude(head, logits, chosen, threshold)
    largest = logits.max(axis=-1, keepdims=True)
    log_mass = jnp.log(jnp.exp(logits - largest).sum(axis=-1)) + largest[..., 0]
    # Not from the exponentials above: shared by two sums they would be stored.
    log_p = logits - log_mass[..., None]
    entropy = -(jnp.exp(log_p) * log_p).sum(axis=-1)
    if shards("vocab") == 1:
        logprobs = jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    else:  # a gather would collect the shards of the vocabulary, a sum does not
        logprobs = jnp.where(chosen, log_p, 0.0).sum(axis=-1)
    first = jnp.where(logits == largest, tokens, raw.shape[-1]).min(axis=-1)
    top = None, None
    if head.top_k:
        top = most_probable(log_p, head.top_k)
    kept = _Kept(
        log_mass,
        entropy,
        divided_by if isinstance(divided_by, Array) else None,
        threshold,
        raw if head.keeps_logits else None,
    )
    return (logprobs, entropy, first == targets, *top), kept


def _logits_bar(
    head: _Head,
    hidden: Array,
    weights: Array,
    targets: Array,
    kept: _Kept,
    logprob_bar: Array,
    entropy_bar: Array,
) -> Array:
    """The cotangent of the products hidden @ weights.T, [..., V'] f32."""
    raw = products(hidden, weights, head.logit_softcap) if kept.logits is None else kept.logits
    chosen = jnp.arange(raw.shape[-1], dtype=targets.dtype) == targets[..., None]
    divided_by = head.token_filter.temperature if kept.temperature is None else kept.temperature
    logits = _exclude(head, _tempered(head, raw, divided_by), chosen, kept.threshold)
    log_p = logits - kept.log_mass[..., None]
    surprise = entropy_bar[..., None] * (log_p + kept.entropy[..., None])
    bar = jnp.where(chosen, logprob_bar[..., None], 0.0)
    bar -= jnp.exp(log_p) * (logprob_bar[..., None] + surprise)
    if head.logit_softcap:
        bar *= 1 - jnp.square(raw / head.logit_softcap)
    return bar / divided_by


def _tempered(head: _Head, logits: Array, divided_by: Array | float) -> Array:
    """The model's logits -> those that truncation sees; forbidden tokens are not excluded yet."""
    if head.token_filter.logit_bias:
        bias = _bias(head, logits.shape[-1])
        logits = logits + jnp.where(bias > EXCLUDED, bias, 0.0)
    return logits / divided_by


def _bias(head: _Head, size: int) -> Array | None:
    """`token_bias` for every row of the matrix, [V']."""
    bias = token_bias(head.token_filter, head.vocab_size)
    return None if bias is None else pad(bias, 0, size)


def _exclude(
    head: _Head, logits: Array, chosen: Array | bool, threshold: Array | None = None
) -> Array:
    """Logits with EXCLUDED for rows of the matrix without a token and for forbidden and truncated
    tokens, unless they are chosen.
    """
    if head.token_filter.excludes:
        logits = jnp.where((_bias(head, logits.shape[-1]) > EXCLUDED) | chosen, logits, EXCLUDED)
    if threshold is not None:
        logits = jnp.where((logits >= threshold[..., None]) | chosen, logits, EXCLUDED)
    return _exclude_padding(head, logits)


def _exclude_padding(head: _Head, logits: Array) -> Array:
    if logits.shape[-1] == head.vocab_size:
        return logits
    return jnp.where(jnp.arange(logits.shape[-1]) < head.vocab_size, logits, EXCLUDED)


def _threshold(head: _Head, logits: Array) -> Array:
    """[..., V'] -> [...]: the kept tokens are those that are not below.

    It lies half-way between the kept and the excluded tokens, so that logits which the backward
    pass computes again, perhaps rounded differently, fall on the same side. Where no token is
    excluded it is -inf.
    """

    logits = _exclude(head, logits, chosen=False)
    keep = kept_tokens(logits, head.token_filter)
    lowest = jnp.where(keep, logits, jnp.inf).min(axis=-1)
    highest = jnp.where(keep, -jnp.inf, logits).max(axis=-1)
    middle = (lowest + highest) / 2
    between = (middle > highest) | jnp.isneginf(highest)
    return jnp.where(between, middle, lowest)
