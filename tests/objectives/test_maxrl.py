"""MaxRL: the step is a truncated maximum-likelihood gradient; enumerated over all groups."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import binom

from rljax.objectives.advantages.likelihood_scaled import group_mean_ratio


def advantages(scores, **fields):
    scores = jnp.asarray(scores, jnp.float32)
    mask = jnp.ones((len(scores), 1), bool)
    groups = jnp.zeros(len(scores), jnp.int32)
    return np.asarray(group_mean_ratio(scores[:, None], mask, groups, **fields))[:, 0]


def test_groups_of_the_paper_s_definition():
    np.testing.assert_allclose(advantages([1, 0, 0, 0]), [3, -1, -1, -1], rtol=1e-5)
    np.testing.assert_allclose(advantages([1, 1, 1, 0]), [1 / 3] * 3 + [-1], rtol=1e-5)
    assert advantages([0, 0]).tolist() == [0, 0] and advantages([1]).tolist() == [0]
    np.testing.assert_allclose(advantages([1, 1]), 0, atol=1e-5)
    assert advantages([0, 0], punish_failed_groups=True).tolist() == [-1, -1]


def expected_step(p, samples, **fields):
    """E[(1/G) sum A s] of a Bernoulli policy with a logit: scores 1 - p and -p."""
    total = 0.0
    for right in range(samples + 1):
        scores = [1] * right + [0] * (samples - right)
        score = np.where(np.array(scores) == 1, 1 - p, -p)
        step = (advantages(scores, **fields) * score).mean()
        total += binom.pmf(right, samples, p) * step
    return total


def truncated(p, order):
    """The gradient of J_T with respect to the logit."""
    return (1 - (1 - p) ** order) / p * p * (1 - p)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("samples", [2, 4, 8])
def test_the_expected_step_is_the_likelihood_s_series(p, samples):
    assert expected_step(p, samples) == pytest.approx(truncated(p, samples - 1), rel=1e-4)
    punished = expected_step(p, samples, punish_failed_groups=True)
    assert punished == pytest.approx(truncated(p, samples), rel=1e-4)
