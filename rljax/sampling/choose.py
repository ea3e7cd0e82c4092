"""The choice of one token for every row: what may come, the draw, and its log-probabilities."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.sampling.distribution import (
    EXCLUDED,
    TokenFilter,
    entropy,
    log_distribution,
    sloped_temperature,
    step_temperature,
    take,
    token_bias,
)
from rljax.sampling.guide_rules import penalised_repetitions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Penalties:
    """What repeats is made less likely, before bias, temperature and truncation.

    Attributes:
        repetition: positive logits of tokens that occur in prompt or completion are divided by it,
            negative ones multiplied (CTRL, arXiv:1909.05858, section 4.1); 1: off.
        presence: subtracted from the logits of tokens that occur in the completion.
        frequency: subtracted once for each occurrence in the completion.
    """

    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.repetition) and self.repetition > 0):
            raise ValueError(
                f"repetition must be > 0 (1 is off), got {self.repetition} (penalties.repetition)."
            )
        for field in ("presence", "frequency"):
            if not math.isfinite(getattr(self, field)):
                raise ValueError(
                    f"{field} must be finite (0 is off), got {getattr(self, field)} "
                    f"(penalties.{field})."
                )

    @property
    def active(self) -> bool:
        """Whether anything is penalised, so that occurrences are counted."""
        return self != Penalties()


# The blocks of a draw are padded to a multiple of this.
BLOCKS_MULTIPLE = 16


class Occurrences(NamedTuple):
    """What each row has seen, for penalties."""

    in_prompt: Array  # [N, V] bool
    written: Array  # [N, V] i32, times in the completion


class Choice(NamedTuple):
    """One token of every row; see `Rollouts` for the fields."""

    tokens: Array  # [N] i32
    logprobs: Array  # [N] f32
    model_logprobs: Array  # [N] f32
    tempered_logprobs: Array  # [N] f32
    entropy: Array  # [N] f32
    temperature: Array  # [N] f32
    top_logprobs: Array | None  # [N, k] f32
    top_tokens: Array | None  # [N, k] i32


def penalised(logits: Array, seen: Occurrences, penalties: Penalties) -> Array:
    """[N, V] -> [N, V]."""
    repeated = seen.in_prompt | (seen.written > 0)
    logits = penalised_repetitions(logits, repeated, penalties.repetition)
    logits = logits - penalties.presence * (seen.written > 0)
    return logits - penalties.frequency * seen.written


def choose(
    model_logits: Array,
    logits: Array,
    keys: Array,
    token_filter: TokenFilter,
    *,
    temperature: Array | None = None,
    slopes: Array | None = None,
    allowed: Array | None = None,
    top_k: int = 0,
) -> Choice:
    """Draws a token for every row.

    Args:
        model_logits: [N, V] f32, of the raw model.
        logits: [N, V] f32, after guidance and penalties; the same array where there are none.
        keys: [N] keys, one for this step of each row.
        token_filter: bias, temperature and truncation.
        temperature: [N] f32, instead of the filter's; rows with 0 take their likeliest token.
        slopes: [N, 4] f32, how the temperature follows the entropy (`sloped_temperature`).
        allowed: [N, V] bool, what may come next.
        top_k: alternatives of the raw model that are returned.

    Returns:
        The tokens and their statistics. Where nothing that is allowed has any probability left,
        one of the allowed tokens comes all the same.
    """
    changed = logits is not model_logits or allowed is not None
    if allowed is not None:
        logits = jnp.where(allowed, logits, EXCLUDED)
    own = temperature  # None: it is the filter's, a constant
    if slopes is not None:
        own = sloped_temperature(model_logits, token_filter, slopes)
    elif own is None and token_filter.entropy_temperature is not None:
        own = step_temperature(model_logits, token_filter)
    used = jnp.full(logits.shape[:1], token_filter.temperature) if own is None else own
    if token_filter.greedy and own is None:
        tokens = first_largest(logits + bias_of(token_filter, logits))
        zeros = jnp.zeros(tokens.shape)
        logprobs, spread = zeros, zeros
    else:
        # A greedy row is drawn at temperature 1, and the draw is not used: nothing is divided by 0.
        divisor = None if own is None else jnp.where(own > 0, own, 1.0)
        log_p = log_distribution(logits, token_filter, temperature=divisor)
        tokens = draw(log_p, keys)
        logprobs, spread = take(log_p, tokens), entropy(log_p)
        if temperature is not None:
            greedy = temperature == 0
            best = first_largest(logits + bias_of(token_filter, logits))
            tokens = jnp.where(greedy, best, tokens)
            logprobs, spread = (jnp.where(greedy, 0.0, x) for x in (logprobs, spread))
    if allowed is not None and token_filter.excludes:
        # Where every allowed token is forbidden by the filter, all tokens were equally likely.
        fits = jnp.take_along_axis(allowed, tokens[:, None], axis=1)[:, 0]
        tokens = jnp.where(fits, tokens, first_largest(allowed.astype(jnp.float32)))
    plain = not changed and token_filter.plain and own is None and not token_filter.greedy
    model_logprobs = logprobs
    if not plain or token_filter.temperature != 1:
        model_logprobs = log_softmax_at(model_logits, tokens)
    tempered = logprobs
    if not plain:
        divisor = jnp.where(used > 0, used, 1.0)[:, None]
        tempered = log_softmax_at(model_logits / divisor, tokens)
        tempered = jnp.where(used > 0, tempered, 0.0)
    top_logprobs = top_tokens = None
    if top_k:
        values, top_tokens = jax.lax.top_k(model_logits, top_k)
        top_logprobs = values - jax.nn.logsumexp(model_logits, axis=-1, keepdims=True)
    return Choice(
        tokens, logprobs, model_logprobs, tempered, spread, used, top_logprobs, top_tokens
    )


def log_softmax_at(logits: Array, tokens: Array) -> Array:
    """[N, V], [N] -> [N] f32, without holding the log-softmax."""
    return take(logits, tokens) - jax.nn.logsumexp(logits, axis=-1)


def draw(log_p: Array, keys: Array) -> Array:
    """[N, V] normalised log-probabilities and [N] keys -> [N] i32 tokens.

    By Gumbel noise (the largest of log p + Gumbel is a sample), first on the masses of blocks of
    about sqrt(V) tokens, then on the tokens of the chosen block: exact, with 2 sqrt(V) random
    numbers instead of V. As with plain Gumbel noise a rounding error of the log-probabilities
    changes the token only if the two best sums are that close; with an inverse distribution
    function it would be enough that any of V boundaries moves over the random number.
    """
    rows, vocab = log_p.shape
    size = block_size(vocab)
    blocks = -(-vocab // size)
    # As many as make the shards of a vocabulary hold whole blocks: none is gathered.
    filled = -(-blocks // BLOCKS_MULTIPLE) * BLOCKS_MULTIPLE
    padded = jnp.pad(log_p, ((0, 0), (0, filled * size - vocab)), constant_values=EXCLUDED)
    padded = padded.reshape(rows, filled, size)
    noise = jax.vmap(lambda key: jax.random.gumbel(key, (blocks + size,)))(keys)
    masses = jnp.log(jnp.exp(padded).sum(axis=-1))[:, :blocks]
    block = first_largest(masses + noise[:, :blocks])
    inside = jnp.take_along_axis(padded, block[:, None, None], axis=1)[:, 0]
    return block * size + first_largest(inside + noise[:, blocks:])


def block_size(vocab: int) -> int:
    """Tokens of a block: the power of 2 next above sqrt(V)."""
    return 2 ** math.ceil(math.log2(vocab) / 2)


def first_largest(x: Array) -> Array:
    """[N, A] -> [N] i32, the argmax as two plain reductions.

    XLA's CPU backend is slow at reducing pairs.
    """
    places = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
    best = x == x.max(axis=-1, keepdims=True)
    return jnp.where(best, places, x.shape[1] - 1).min(axis=-1)


def bias_of(token_filter: TokenFilter, logits: Array) -> Array | float:
    """[V] what the filter adds to the logits."""
    bias = token_bias(token_filter, logits.shape[-1])
    return 0.0 if bias is None else bias
