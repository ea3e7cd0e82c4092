"""The joint ratio of a macro action."""

import jax
import jax.numpy as jnp
import numpy as np

from rljax.objectives.credit.segment_ratio import segment
from rljax.objectives.ratios import token

OLD = jnp.full((2, 5), -1.0)
LOGPROBS = jnp.array([[-0.9, -1.2, -0.7, -1.0, 5.0], [30.0, -1.0, -1.0, -1.0, -1.0]])
MASK = jnp.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], bool)
IDS = jnp.array([[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]])


def test_value_is_the_sum_over_the_segment():
    got = segment(LOGPROBS, OLD, MASK, IDS)
    np.testing.assert_allclose(got[0], [-0.1, -0.1, 0.3, 0.3, 0.0], atol=1e-6)
    np.testing.assert_allclose(got[1], [20.0, 20.0, 0, 0, 0])


def test_gradient_is_that_of_one_term_per_macro_action():
    weights = jnp.array([2.0, 3.0])  # an advantage per segment of row 0

    def tokens(logprobs):
        ratio = jnp.exp(segment(logprobs, OLD, MASK, IDS))
        return (jnp.where(MASK, ratio, 0.0) * weights[IDS]).sum()

    def joint(logprobs):
        log_ratio = (logprobs - OLD)[0]
        return 2.0 * jnp.exp(log_ratio[:2].sum()) + 3.0 * jnp.exp(log_ratio[2:4].sum())

    np.testing.assert_allclose(
        jax.grad(tokens)(LOGPROBS)[0], jax.grad(joint)(LOGPROBS)[0], rtol=1e-5
    )
    np.testing.assert_array_equal(jax.grad(tokens)(LOGPROBS)[1], 0.0)  # beyond the clamp


def test_a_segment_per_token_is_the_token_ratio():
    ids = jnp.broadcast_to(jnp.arange(5), (2, 5))

    def pull(f):
        return jax.vjp(f, LOGPROBS)

    (ours, backward), (theirs, reference) = (
        pull(lambda x: segment(x, OLD, MASK, ids)),
        pull(lambda x: token(x, OLD, MASK)),
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    ones = jnp.ones_like(ours)
    np.testing.assert_allclose(backward(ones)[0][0], reference(ones)[0][0])
