"""The weight of the KL follows what was measured, in the unit that was named."""

import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.kl_controllers import KL_CONTROLLERS, KL_UNITS, adaptive

KL = jnp.array([[1.0, 2.0, 3.0], [4.0, jnp.nan, jnp.nan], [jnp.nan] * 3])
MASK = jnp.array([[1, 1, 1], [1, 0, 0], [0, 0, 0]], bool)


def test_units():
    """Row sums 6 and 4, row means 2 and 4; the empty row is not there."""
    means = {name: float(unit(KL, MASK).mean()) for name, unit in KL_UNITS.items()}
    assert means == pytest.approx({"sequence_sum": 5.0, "token_mean": 3.0})
    for unit in KL_UNITS.values():
        parts = [unit(KL[:1], MASK[:1]), unit(KL[1:], MASK[1:])]
        total, count = (sum(x) for x in zip(*parts, strict=True))
        np.testing.assert_allclose([total, count], unit(KL, MASK))


@pytest.mark.parametrize(
    "measured, factor", [(6.0, 1.0), (6.6, 1.01), (60.0, 1.02), (0.0, 0.98), (5.4, 0.99)]
)
def test_relative_error_is_clipped_and_scaled_by_the_samples(measured, factor):
    got = adaptive(jnp.array(0.15), jnp.array(measured), jnp.array(1000))
    np.testing.assert_allclose(got, 0.15 * factor, rtol=1e-6)


def test_a_fixed_weight_stays_and_nothing_measured_moves_nothing():
    arguments = jnp.array(0.1), jnp.array(99.0), jnp.array(64)
    assert float(KL_CONTROLLERS["fixed"](*arguments)) == pytest.approx(0.1)
    nothing = jnp.array(jnp.nan)
    assert float(adaptive(jnp.array(0.1), nothing, jnp.array(0))) == pytest.approx(0.1)
    assert float(adaptive(jnp.array(0.0), jnp.array(9.0), jnp.array(64))) == 0.0


@pytest.mark.parametrize("field", ["kl_target", "kl_horizon", "kl_error_clip"])
def test_impossible_fields_are_errors(field):
    with pytest.raises(ValueError, match=f"{field} is 0.0"):
        adaptive(jnp.array(0.1), jnp.array(1.0), jnp.array(1), **{field: 0.0})
