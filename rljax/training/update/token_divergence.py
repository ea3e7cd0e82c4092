"""Policy and another model, slot by slot, over the whole vocabulary, without logits [N, T, V].

The logits of both models are computed for some slots at a time, compared and dropped; the backward
pass computes them again. The other model is constant.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.models.lora import has_adapters, without_adapters
from rljax.models.network import Network, Params
from rljax.objectives.divergences import divergence, full
from rljax.sampling.distribution import EXCLUDED
from rljax.training.update.logprobs import states_before
from rljax.training.update.token_statistics import TokenStatistics
from rljax.training.update.train_step import Batch
from rljax.training.update.vocabulary_chunks import (
    CHUNK_SLOTS,
    LOGITS_BYTES,
    chunked,
    most_probable,
    products,
    products_backward,
    whole_rows,
)

# (log p [..., V'], log q [..., V']) -> the divergence [...] of the policy p and the other model q.
Compare = Callable[[Array, Array], Array]

# What `TokenStatistics.more` holds of a comparison.
DIVERGENCE, OTHER_LOGPROBS = "other_divergence", "other_logprobs"


def make_compare(
    term: Callable[[Array, Array], Array], support: Callable = full, temperature: float = 1.0
) -> Compare:
    """The divergence with these terms on the classes of a support (objectives/divergences.py).

    Args:
        term: of `DIVERGENCES`, fields bound.
        support: of `SUPPORTS`, fields bound.
        temperature: of the other model's distribution.
    """

    def compare(policy_log: Array, other_log: Array) -> Array:
        if temperature != 1:
            other_log = jax.nn.log_softmax(other_log / temperature, axis=-1)
        return divergence(support(policy_log, other_log, between), term)

    return compare


class FrozenModel(NamedTuple):
    """A model that the loss runs beside the policy."""

    network: Network
    params: Params  # all of them


class States(NamedTuple):
    """What meets the vocabulary."""

    hidden: Array  # [N, T, D]
    vocabulary: Array  # [V', D]
    logit_softcap: float = 0.0


def mixed_states(first: States, second: States, share: float) -> States:
    """Two models as one whose logits are (1 - share) of the first and share of the second.

    Its distribution is their geometric mean, p^(1 - share) q^share, normalised. The logits are one
    product: of the hidden states side by side with the matrices side by side.

    Args:
        first: [N, T, D].
        second: [N, T, D'], with the same tokens. Neither may have a soft cap, whose mixture is no
            product.
        share: of the second, in [0, 1].
    """
    hidden = jnp.concatenate([(1 - share) * first.hidden, share * second.hidden], axis=-1)
    return States(hidden, jnp.concatenate([first.vocabulary, second.vocabulary], axis=-1))


def compared_statistics(
    network: Network,
    params: Params,
    others: Sequence[FrozenModel],
    rows: Batch,
    compare: Compare,
    *,
    other_rows: Batch | None = None,
    which: Array | None = None,
    policy_share: float = 0.0,
) -> TokenStatistics:
    """Statistics of the completions, and how far another model is from the policy on them.

    Of several models every one reads all rows, and each row is compared with its own.

    Args:
        network: of the policy.
        params: of the policy, differentiated.
        others: models with the policy's tokens, constant.
        rows: as for `completion_statistics`; temperatures are not read, both models are compared
            as they are.
        compare: of the distributions of a slot.
        other_rows: the same completions as the other models read them, behind other prompts, say;
            by default `rows`.
        which: the model of each row, its place among `others`, with the leading axis of the rows;
            by default the first.
        policy_share: of the policy's own logits, as it reads `other_rows`, in those that it is
            compared with (`mixed_states`); constant.

    Returns:
        With the axes of the mask; `more` holds `other_divergence`, differentiated, and
        `other_logprobs`, the other model's of the same tokens.
    """
    policy = network.bind(params)
    before, targets, routing = states_before(policy, rows)
    own = States(before, policy.vocabulary(), network.config.logit_softcap)
    shape, read = rows["mask"].shape, other_rows or rows
    live = _states_of(FrozenModel(network, params), read) if policy_share else None

    def compared(other: FrozenModel) -> TokenStatistics:
        states, size = _states_of(other, read), network.config.vocab_size
        if live is not None:
            states = mixed_states(states, live, policy_share)
        found = token_divergence(own, states, targets, compare, vocab_size=size)
        return jax.tree.map(lambda x: x.reshape(shape), found)

    first, *rest = map(compared, others)
    more = first.more
    for place, found in enumerate(rest, start=1):
        theirs = (which == place).reshape(-1, *[1] * (len(shape) - 1))
        more = {name: jnp.where(theirs, found.more[name], more[name]) for name in more}
    return first._replace(routing=routing, more=more)


def _states_of(other: FrozenModel, rows: Batch) -> States:
    """What a constant model says before each token of the completions."""
    network = network_for(other)
    model = network.bind(jax.lax.stop_gradient(other.params))
    before, _, _ = states_before(model, rows)
    return States(before, model.vocabulary(), network.config.logit_softcap)


def network_for(model: FrozenModel) -> Network:
    """The network of a frozen model, without adapters where its parameters have none."""
    return model.network if has_adapters(model.params) else without_adapters(model.network)


def token_divergence(
    policy: States,
    other: States,
    targets: Array,
    compare: Compare,
    *,
    vocab_size: int,
    logits_bytes: int = LOGITS_BYTES,
    chunk_slots: int = CHUNK_SLOTS,
) -> TokenStatistics:
    """Divergence of two models' next-token distributions, and statistics of chosen tokens.

    Args:
        policy: differentiated; [N, T, D].
        other: constant; its hidden states may have another width, [N, T, D'].
        targets: [N, T] i32, < vocab_size.
        compare: of the distributions of a slot.
        vocab_size: V, of both; further rows of the matrices belong to no token.
        logits_bytes: see `LOGITS_BYTES`.
        chunk_slots: see `CHUNK_SLOTS`.

    Returns:
        [N, T] each; see `compared_statistics`.
    """
    pair = 2 * len(policy.vocabulary)
    cut, _ = chunked(targets.shape, pair, logits_bytes, chunk_slots)
    head = _Head(compare, vocab_size, policy.logit_softcap, other.logit_softcap)
    given = cut.split(policy.hidden), policy.vocabulary
    constant = cut.split(other.hidden), other.vocabulary, cut.split(targets)
    found = _compared(head, *given, *jax.lax.stop_gradient(constant))
    logprobs, entropy, distance, greedy, others = jax.tree.map(cut.join, found)
    more = {DIVERGENCE: distance, OTHER_LOGPROBS: others}
    return TokenStatistics(logprobs, entropy, greedy, more=more)


def between(log_p: Array, count: int) -> Array:
    """[..., V'] -> [...], half-way between the `count`-th largest and the next one; -inf: all."""
    if count >= log_p.shape[-1]:
        return jnp.full(log_p.shape[:-1], -jnp.inf)
    values, _ = most_probable(log_p, count + 1)
    return (values[..., -2] + values[..., -1]) / 2


@dataclasses.dataclass(frozen=True)
class _Head:
    """What is static."""

    compare: Compare
    vocab_size: int
    policy_softcap: float
    other_softcap: float


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _compared(
    head: _Head,
    hidden: Array,
    vocabulary: Array,
    other_hidden: Array,
    other_vocabulary: Array,
    targets: Array,
) -> tuple[Array, ...]:
    """Chunks of slots, one after the other: log-probabilities, entropy, divergence, greedy, and
    the other model's log-probabilities.
    """
    weights = whole_rows(vocabulary, hidden.dtype)
    others = whole_rows(other_vocabulary, other_hidden.dtype)

    def chunk(given: tuple) -> tuple[Array, ...]:
        hidden, other_hidden, targets = given
        logits = products(hidden, weights, head.policy_softcap)
        other_log = _log_softmax(head, products(other_hidden, others, head.other_softcap))
        policy_log = _log_softmax(head, logits)
        tokens = jnp.arange(logits.shape[-1], dtype=targets.dtype)
        likeliest = policy_log == policy_log.max(axis=-1, keepdims=True)
        greedy = jnp.where(likeliest, tokens, logits.shape[-1]).min(axis=-1) == targets
        found = _learned(head, logits, other_log, targets)
        return *found, greedy, _taken(other_log, targets)

    return jax.lax.map(chunk, (hidden, other_hidden, targets))


def _forward(head: _Head, *given: Array) -> tuple:
    return _compared(head, *given), given


def _backward(head: _Head, given: tuple, cotangents: tuple) -> tuple:
    """Cotangents of the first three results; the others have none."""
    hidden, vocabulary, other_hidden, other_vocabulary, targets = given
    others = whole_rows(other_vocabulary, other_hidden.dtype)

    def bar(hidden: Array, weights: Array, rest: tuple) -> Array:
        other_hidden, targets, cotangents = rest
        logits = products(hidden, weights, head.policy_softcap)
        other_log = _log_softmax(head, products(other_hidden, others, head.other_softcap))
        _, pull = jax.vjp(lambda x: _learned(head, x, other_log, targets), logits)
        (found,) = pull(cotangents)
        cap = head.policy_softcap
        return found * (1 - jnp.square(logits / cap)) if cap else found

    rest = other_hidden, targets, cotangents[:3]
    return *products_backward(bar, hidden, vocabulary, rest), None, None, None


_compared.defvjp(_forward, _backward)


def _learned(
    head: _Head, logits: Array, other_log: Array, targets: Array
) -> tuple[Array, Array, Array]:
    """[..., V'] -> log-probabilities of the targets, entropy, divergence, [...] each."""
    policy_log = _log_softmax(head, logits)
    entropy = -(jnp.exp(policy_log) * policy_log).sum(axis=-1)
    return _taken(policy_log, targets), entropy, head.compare(policy_log, other_log)


def _log_softmax(head: _Head, logits: Array) -> Array:
    if logits.shape[-1] > head.vocab_size:
        real = jnp.arange(logits.shape[-1]) < head.vocab_size
        logits = jnp.where(real, logits, EXCLUDED)
    return jax.nn.log_softmax(logits, axis=-1)


def _taken(log_p: Array, targets: Array) -> Array:
    """The targets' entries; a sum, as a gather would collect the shards of the vocabulary."""
    chosen = jnp.arange(log_p.shape[-1], dtype=targets.dtype) == targets[..., None]
    return jnp.where(chosen, log_p, 0.0).sum(axis=-1)
