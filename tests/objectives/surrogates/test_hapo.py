import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.surrogates import adaptive_clip, clipped, redistributed
from rljax.objectives.surrogates.hapo import hapo

MASK = jnp.array([[True, True, True, True], [True, True, True, False]])
LOG_RATIO = jnp.array([[0.3, -0.3, 0.02, 0.0], [0.26, 2.5, 0.0, jnp.nan]])
ADVANTAGES = jnp.array([[1.0], [-1.5]]) * MASK
LEVEL = jnp.array([[1.0, -1.0, 0.4, 0.0], [0.6, -0.5, -1.0, jnp.nan]])


def test_switched_off_it_is_the_clipped_loss_bit_for_bit():
    ours = hapo(
        LOG_RATIO, LOG_RATIO, ADVANTAGES, MASK, LEVEL, entropy_clip=0.0, entropy_advantage=0.0
    )[0]
    plain = clipped(LOG_RATIO, LOG_RATIO, ADVANTAGES, MASK, clip_high=0.28, dual_clip=10.0)[0]
    np.testing.assert_array_equal(ours, plain)


def test_on_policy_only_uncertain_tokens_keep_their_advantage():
    """Every token is neutral: A for h > 0, A * (1 + h) for h <= 0, nothing for the lowest."""
    widths = 0.2 * jnp.ones((1, 4))
    level = jnp.array([[1.0, 0.3, -0.25, -1.0]])
    got = redistributed(
        2.0 * jnp.ones((1, 4)), level, jnp.ones((1, 4)), widths, widths, entropy_advantage=1.0
    )
    np.testing.assert_allclose(got, [[2.0, 2.0, 1.5, 0.0]], rtol=1e-6)


def test_moving_tokens_are_amplified_where_uncertain_and_left_alone_elsewhere():
    widths = 0.2 * jnp.ones((1, 3))
    ratio = jnp.array([[1.15, 0.85, 1.15]])
    level = jnp.array([[0.5, 1.0, -0.5]])
    got = redistributed(jnp.ones((1, 3)), level, ratio, widths, widths, entropy_advantage=1.0)
    np.testing.assert_allclose(got, [[1.5, 2.0, 1.0]], rtol=1e-6)


def test_the_clip_range_widens_down_for_certain_and_up_for_uncertain_tokens():
    low, high = adaptive_clip(
        jnp.array([-1.0, 0.0, 0.5]), clip_low=0.2, clip_high=0.28, entropy_clip=1.0
    )
    np.testing.assert_allclose(low, [0.4, 0.2, 0.2], rtol=1e-6)
    np.testing.assert_allclose(high, [0.28, 0.28, 0.42], rtol=1e-6)


def test_a_token_within_its_wider_range_keeps_its_gradient():
    slope = jax.grad(lambda x: hapo(x, x, ADVANTAGES, MASK, LEVEL)[0].sum())(LOG_RATIO)
    # e^0.3 = 1.35 is above 1.28, but not above 1 + 0.28 * 2.
    assert slope[0, 0] < 0
    assert np.isfinite(slope).all() and slope[1, 3] == 0


def test_slopes_are_in_the_unit_interval():
    with pytest.raises(ValueError, match="entropy_clip is 1.5"):
        hapo(LOG_RATIO, LOG_RATIO, ADVANTAGES, MASK, LEVEL, entropy_clip=1.5)
