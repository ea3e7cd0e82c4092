"""A tabular policy, rewards of all its completions, and what a step is given of them."""

import contextlib

import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.learner import tabular
from tests.training.learner.tabular import (
    PROMPTS,
    Given,
    completions,
    exact,
    random_table,
)

EVERY = completions()
TABLE, OTHER, REFERENCE = (random_table(seed) for seed in (0, 1, 2))
NUMBERS = np.random.default_rng(3)
REWARDS = NUMBERS.normal(size=(PROMPTS, len(EVERY.tokens)))
GRADED = NUMBERS.choice([0.0, 0.4, 1.0], REWARDS.shape)  # 1 is right
SUM = {"aggregation": "sequence_mean_token_sum"}
POLICY = exact(TABLE, EVERY)


def few(names, *fast):
    """All names, those that are not listed as slow ones."""
    return [name if name in fast else pytest.param(name, marks=pytest.mark.slow) for name in names]


def quiet_unless_useless(estimator):
    """A KL without a gradient is warned of."""
    return pytest.warns(UserWarning) if estimator == "k1" else contextlib.nullcontext()


def assert_gradient(found, expected):
    """Equal up to what float32 leaves of them."""
    scale = np.abs(expected).max()
    assert scale > 1e-3  # something was compared
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-6 * scale)


CRITIC = {"critic": {"trunk": "shared"}}


def carried(stage):
    """What a step knows besides: numbers that make any dependence on them visible."""
    found = {"baseline": jnp.float32(0.3), "greedy_scores": jnp.array([0.7, -0.4])}
    if stage.objective.choices["value_target"] == "none":
        return found
    learner = tabular.Learner.create(tabular.Tabular(), stage)
    critic = learner.first_carried({"table": jnp.asarray(TABLE)})["critic"]
    head = {"kernel": jnp.array([[0.5], [-0.3], [0.8]]), "bias": jnp.array([0.2])}
    return found | {"critic": critic.replace(params={"value_head": head})}


def given_to(stage, rewards=REWARDS, **more):
    return Given(TABLE, EVERY, rewards, carried=carried(stage), **more)
