"""Log-probabilities of answers behind sampled reasoning, for tests of evidence bounds."""

import jax
import jax.numpy as jnp

B, G, T = 3, 4, 5


def answers(seed=0):
    return -5.0 + 2.0 * jax.random.normal(jax.random.key(seed), (B, G))


ALL = jnp.ones((B, G), bool)
