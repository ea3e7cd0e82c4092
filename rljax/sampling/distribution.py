"""The distribution that tokens are sampled from, used by the sampler and by the trainer.

Both sides call the same functions, so that the log-probability that the sampler reports is the one
that the trainer recomputes, under every filter. One exception remains: a token at the very edge of
a truncation (its mass ends within float rounding of top_p, say) may be kept by one side only.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

# Finite, so that 0 * log p stays 0 and gradients stay finite; exp(EXCLUDED - max) is exactly 0.
EXCLUDED = -1e30


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenFilter:
    """Temperature and truncation, applied in this order; the defaults leave the model's softmax.

    Each truncation sees the renormalised result of the one before it.

    Attributes:
        temperature: logits are divided by it; 0 means greedy.
        top_k: keep the k most probable tokens (0: all). Ties with the k-th are kept.
        top_p: keep the smallest set of likeliest tokens whose mass reaches p (arXiv:1904.09751).
        min_p: keep tokens with probability >= min_p times the largest (arXiv:2407.01082).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        checks = {
            "temperature": (self.temperature >= 0, ">= 0 (0 is greedy)"),
            "top_k": (self.top_k >= 0, ">= 0 (0 keeps all)"),
            "top_p": (0 < self.top_p <= 1, "in (0, 1]"),
            "min_p": (0 <= self.min_p < 1, "in [0, 1)"),
        }
        for field, (ok, allowed) in checks.items():
            if not ok:
                raise ValueError(
                    f"{field} must be {allowed}, got {getattr(self, field)} "
                    f"(config.<stage>.sampling.{field})."
                )

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature == 0

    @property
    def truncates(self) -> bool:
        """Whether any token can be excluded."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


def kept_tokens(logits: Array, token_filter: TokenFilter) -> Array:
    """[..., V] tempered f32 logits -> [..., V] bool, True where a token may be sampled."""
    keep = jnp.ones(logits.shape, bool)
    if 0 < token_filter.top_k < logits.shape[-1]:
        kth = jax.lax.top_k(logits, token_filter.top_k)[0][..., -1:]
        keep = logits >= kth
    if token_filter.top_p < 1:
        remaining = jnp.where(keep, logits, EXCLUDED)
        order = jnp.flip(jnp.sort(remaining, axis=-1), axis=-1)
        probabilities = jax.nn.softmax(order, axis=-1)
        mass_before = jnp.cumsum(probabilities, axis=-1) - probabilities
        # The last kept token is the first whose cumulative mass reaches p: mass before it is < p.
        threshold = jnp.min(
            jnp.where(mass_before < token_filter.top_p, order, jnp.inf), axis=-1, keepdims=True
        )
        keep &= logits >= threshold
    if token_filter.min_p > 0:
        largest = jnp.max(logits, axis=-1, keepdims=True)
        keep &= logits >= largest + jnp.log(token_filter.min_p)
    return keep


def log_distribution(logits: Array, token_filter: TokenFilter, taken: Array | None = None) -> Array:
    """Normalised log-probabilities of the distribution sampled from.

    Args:
        logits: [..., V] raw logits of the model.
        token_filter: with temperature > 0.
        taken: [...] i32, tokens that were sampled earlier, perhaps under older parameters. They are
            always kept, else one that has since left the truncated set would have log-prob -inf.

    Returns:
        [..., V] f32; excluded tokens hold about `EXCLUDED`. Which tokens are kept is a constant for
        the gradient.

    Raises:
        ValueError: for a greedy filter, whose distribution has no density.
    """
    if token_filter.greedy:
        raise ValueError("Greedy decoding (temperature 0) has no log-probabilities to train on.")
    logits = logits.astype(jnp.float32) / token_filter.temperature
    if token_filter.truncates:
        keep = kept_tokens(jax.lax.stop_gradient(logits), token_filter)
        if taken is not None:
            keep |= jax.nn.one_hot(taken, logits.shape[-1], dtype=bool)
        logits = jnp.where(keep, logits, EXCLUDED)
    return jax.nn.log_softmax(logits, axis=-1)


def entropy(log_probabilities: Array) -> Array:
    """[..., V] normalised log-probabilities -> [...] entropy in nats."""
    return -jnp.sum(jnp.exp(log_probabilities) * log_probabilities, axis=-1)


def take(log_probabilities: Array, tokens: Array) -> Array:
    """[..., V], [...] i32 -> [...] log-probability of each token."""
    return jnp.take_along_axis(log_probabilities, tokens[..., None], axis=-1)[..., 0]
