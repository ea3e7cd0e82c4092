"""How far the best policy under a KL is from a policy that solves a prompt at some rate.

The reward is 0 or 1, p the success rate of the policy pi_0, b the weight of the KL. The best policy
is pi* = pi_0 exp(r / b) / Z with Z = 1 - p + p e^(1/b): all that one prompt can teach, which is
why filters keep prompts of middling difficulty (arXiv:2504.03380).
"""

import jax.numpy as jnp
from jax import Array


def kl_to_optimum(success: Array, inverse_weight: Array) -> Array:
    """KL(pi_0 || pi*) = log Z - p / b, nats.

    Args:
        success: p in [0, 1].
        inverse_weight: 1 / b > 0.
    """
    return _log_partition(success, inverse_weight) - success * inverse_weight


def kl_from_optimum(success: Array, inverse_weight: Array) -> Array:
    """KL(pi* || pi_0) = p* / b - log Z, with p* = p e^(1/b) / Z; arguments as above."""
    log_partition = _log_partition(success, inverse_weight)
    return success * jnp.exp(inverse_weight - log_partition) * inverse_weight - log_partition


def kl_second_order(success: Array, inverse_weight: Array) -> Array:
    """p (1 - p) / (2 b^2): both of them for a large b.

    It is largest at p = 1/2; the exact distance under a strong reward is not, and from p = 1/2 on
    this is no lower bound of it.
    """
    return success * (1 - success) * inverse_weight**2 / 2


def _log_partition(success: Array, inverse_weight: Array) -> Array:
    return jnp.log1p(success * jnp.expm1(inverse_weight))
