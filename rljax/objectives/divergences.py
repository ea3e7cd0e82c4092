"""How far the next-token distribution p of the policy is from another one, q.

    forward_kl      KL(q || p) = sum_v q log(q / p)            gradient in the logits   p - q
    reverse_kl      KL(p || q) = sum_v p log(p / q)            p (log(p / q) - KL(p || q))
    jensen_shannon  b KL(q || m) + (1 - b) KL(p || m), m = b q + (1 - b) p
                                                               (1 - b) p (log(p / m) - KL(p || m))

q is a teacher's or a reference's, constant. Each divergence is a term of one token that is summed
over the vocabulary, so the terms serve a class of many tokens as well: that of the tokens outside a
top-k is one more term.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.parts import check_field

# Log of nothing, in float32 a number that can be subtracted from itself.
NOTHING = -1e30

# (log-probabilities [..., V], k) -> what lies between the k-th largest of each slot and the next
# one, [...]: so a program that computes them twice finds the same tokens above.
Between = Callable[[Array, int], Array]


def forward_kl(policy_log: Array, other_log: Array) -> Array:
    """Terms q log(q / p) of KL(q || p), which covers all that the other one says.

    Args:
        policy_log: [...] f32, log p, differentiated.
        other_log: [...] f32, log q.
    """
    return jnp.exp(other_log) * (other_log - policy_log)


def reverse_kl(policy_log: Array, other_log: Array) -> Array:
    """Terms p log(p / q) of KL(p || q), which stays where the other one says something.

    Args:
        policy_log: [...] f32, log p, differentiated.
        other_log: [...] f32, log q.
    """
    return jnp.exp(policy_log) * (policy_log - other_log)


def jensen_shannon(policy_log: Array, other_log: Array, *, other_share: float = 0.5) -> Array:
    """Terms of the generalised Jensen-Shannon divergence (GKD, arXiv:2306.13649).

    Near its ends it tends to 0, as b KL(q || p) and (1 - b) KL(p || q): the ends themselves are
    the options forward_kl and reverse_kl, on another scale.

    Args:
        policy_log: [...] f32, log p, differentiated.
        other_log: [...] f32, log q.
        other_share: b, the weight of q in the mixture m.

    Raises:
        ValueError: for a share outside of (0, 1).
    """
    allowed = "between 0 and 1; its ends are the options forward_kl and reverse_kl"
    check_field("other_share", other_share, lambda x: 0 < x < 1, allowed)
    log_share, log_rest = jnp.log(other_share), jnp.log1p(-other_share)
    mixture = jnp.logaddexp(policy_log + log_rest, other_log + log_share)
    ours = reverse_kl(policy_log, mixture)
    return other_share * forward_kl(mixture, other_log) + (1 - other_share) * ours


DIVERGENCES = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jensen_shannon": jensen_shannon,
}


class Classes(NamedTuple):
    """Both distributions on the classes that are compared."""

    policy: Array  # [..., V] log p of single tokens
    other: Array  # [..., V] log q
    kept: Array | None = None  # [..., V] bool, the tokens that are a class; None: all
    rest: tuple[Array, Array] | None = None  # [...] log p and log q of all others together


def full(policy_log: Array, other_log: Array, between: Between) -> Classes:
    """The whole vocabulary.

    Args:
        policy_log: [..., V] f32, normalised.
        other_log: [..., V] f32, normalised.
        between: not called.
    """
    return Classes(policy_log, other_log)


def teacher_top_k(
    policy_log: Array,
    other_log: Array,
    between: Between,
    *,
    support_tokens: int = 64,
    support_rest: bool = True,
) -> Classes:
    """The tokens that the other distribution finds likeliest; what a forward KL wants.

    Args:
        policy_log: [..., V] f32, normalised.
        other_log: [..., V] f32, normalised.
        between: see `Between`.
        support_tokens: k; of equal probabilities all are taken.
        support_rest: whether all other tokens together are one more class, which makes the
            gradient of a forward KL exact on the k tokens; else both sides are normalised on them,
            and nothing trains the mass outside.
    """
    kept = other_log >= between(other_log, support_tokens)[..., None]
    return _restricted(policy_log, other_log, kept, support_rest)


def policy_top_k(
    policy_log: Array,
    other_log: Array,
    between: Between,
    *,
    support_tokens: int = 64,
    support_rest: bool = True,
) -> Classes:
    """The tokens that the policy finds likeliest (SDPO, arXiv:2601.20802); for a reverse KL.

    Args:
        policy_log: [..., V] f32, normalised.
        other_log: [..., V] f32, normalised.
        between: see `Between`.
        support_tokens: as for `teacher_top_k`.
        support_rest: as for `teacher_top_k`.
    """
    likely = jax.lax.stop_gradient(policy_log)
    kept = likely >= between(likely, support_tokens)[..., None]
    return _restricted(policy_log, other_log, kept, support_rest)


SUPPORTS = {"full": full, "teacher_top_k": teacher_top_k, "policy_top_k": policy_top_k}


def divergence(classes: Classes, term: Callable[[Array, Array], Array]) -> Array:
    """Sums the terms of all classes.

    Args:
        classes: of a support.
        term: of `DIVERGENCES`, fields bound.

    Returns:
        [...] f32, nats.
    """
    terms = term(classes.policy, classes.other)
    if classes.kept is None:
        return terms.sum(axis=-1)
    total = jnp.where(classes.kept, terms, 0.0).sum(axis=-1)
    return total if classes.rest is None else total + term(*classes.rest)


def _restricted(policy_log: Array, other_log: Array, kept: Array, rest: bool) -> Classes:
    sides = policy_log, other_log
    if rest:
        # Not 1 minus the mass of the kept ones, of which little would be left.
        outside = tuple(_log_mass(jnp.where(kept, NOTHING, side)) for side in sides)
        return Classes(policy_log, other_log, kept, outside)
    inside = [side - _log_mass(jnp.where(kept, side, NOTHING))[..., None] for side in sides]
    return Classes(*inside, kept)


def _log_mass(log_probabilities: Array) -> Array:
    return jax.nn.logsumexp(log_probabilities, axis=-1)
