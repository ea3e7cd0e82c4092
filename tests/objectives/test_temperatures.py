"""Temperatures of the next step, through the sampler's own formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.batch_inputs.entropy_level import entropy_level, entropy_statistics
from rljax.objectives.temperatures import by_entropy
from rljax.sampling.distribution import TokenFilter, entropy, sloped_temperature

LOGS = np.array([[-3.0, -1.0, 0.0, np.nan], [0.5, 1.0, -2.0, 7.0]])
MASK = np.array([[True, True, True, False], [True, True, True, False]])
PIVOT = dict(entropy_pivot=0.6)  # the fourth of the sorted logs -3, -2, -1, 0, 0.5, 1: 0


def logits_of(entropies):
    """[n, 8] logits with these entropies in nats: one token against seven equal ones."""
    found = []
    for wanted in entropies:
        low, high = 0.0, 60.0
        for _ in range(200):
            middle = (low + high) / 2
            p = np.array([np.exp(middle), *np.ones(7)]) / (np.exp(middle) + 7)
            low, high = (middle, high) if -(p * np.log(p)).sum() > wanted else (low, middle)
        found.append([middle, *np.zeros(7)])
    return jnp.array(found, jnp.float32)


def temperature_of(logs, temperature=1.0, **fields):
    slopes = by_entropy(jnp.exp(LOGS), MASK, **PIVOT, **fields)
    logits = logits_of(np.exp(logs)) * temperature
    return sloped_temperature(logits, TokenFilter(temperature=temperature), slopes)


def test_the_step_before_decides_which_entropy_is_high():
    got = temperature_of([-3.0, -1.5, 0.0, 0.5])
    np.testing.assert_allclose(got, 1 + 0.05 * np.array([-1, -0.5, 0, 0.5]), rtol=1e-4)
    # Beyond the lowest of the step before it stays where it is.
    np.testing.assert_allclose(temperature_of([-9.0], 0.7), 0.7 * 0.95, rtol=1e-4)


def test_its_own_tokens_have_their_levels():
    statistics = entropy_statistics(jnp.exp(LOGS), MASK, **PIVOT)
    assert float(statistics.highest) > 0 > float(statistics.lowest)
    levels = entropy_level(jnp.exp(LOGS), MASK, **PIVOT)
    # An entropy over 8 tokens is at most log 8.
    seen = MASK & (LOGS < 0.7)
    got = temperature_of(LOGS[seen], temperature_slope=0.2)
    np.testing.assert_allclose(got, 1 + 0.2 * np.asarray(levels)[seen], rtol=1e-4)


def test_the_second_version_divides_by_the_spread():
    logs = np.array([-3.0, -1.5, 0.0, 0.5])
    got = temperature_of(logs, 0.8, temperature_slope=0.1, temperature_scaled=False)
    spread = np.sqrt((LOGS[MASK] ** 2).mean())
    np.testing.assert_allclose(got, 0.8 * (1 + 0.1 * logs / spread), rtol=1e-4)
    steep = temperature_of([-9.0], temperature_slope=0.9, temperature_scaled=False)
    np.testing.assert_allclose(steep, 0.1, rtol=1e-4)  # and not negative


@pytest.mark.parametrize(
    "slopes",
    [
        by_entropy(jnp.full((2, 4), 0.7), MASK),
        by_entropy(jnp.exp(LOGS), np.zeros_like(MASK)),
        by_entropy(jnp.exp(LOGS), np.zeros_like(MASK), temperature_scaled=False),
        jnp.zeros(4),
    ],
    ids=["equal entropies", "nothing sampled", "nothing sampled, unscaled", "first step"],
)
def test_where_nothing_is_known_the_temperature_stays(slopes):
    logits = logits_of([0.01, 0.7, 1.9])
    assert np.ptp(entropy(jax.nn.log_softmax(logits))) > 1
    got = sloped_temperature(logits, TokenFilter(temperature=0.6), slopes)
    np.testing.assert_array_equal(got, np.float32(0.6))


@pytest.mark.parametrize("slope", [-0.1, 1.0])
def test_a_slope_out_of_range_is_named(slope):
    with pytest.raises(ValueError, match=f"temperature_slope is {slope}"):
        by_entropy(jnp.exp(LOGS), MASK, temperature_slope=slope)
