"""What the loss knows of a whole batch before it is split."""

import jax.numpy as jnp
import numpy as np

from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.training.learner.loss import PolicyLoss
from rljax.training.learner.needs import stores_old

MASK = np.array([[1, 1, 0], [1, 1, 1], [1, 1, 0], [0, 0, 0]], bool)


def loss_of(method, **objective):
    config = complete(
        {
            "stages": ("rl",),
            "data": {"tasks": ({"name": "chain_sum"},)},
            "rl": {"method": method, "objective": objective},
        }
    )
    (stage,) = validate(config)
    return PolicyLoss(None, stage)  # with one update a step it prepares without the network


def test_a_sample_that_the_policy_has_left_is_not_pushed_down():
    loss = loss_of("grpo", token_weight="off_policy", off_policy_divergence=0.1)
    assert stores_old(loss.stage)
    # Row 0 has risen, rows 1 and 2 have fallen by 0.5 a token; row 1 is to rise.
    gap = np.array([0.5, -0.5, -0.5, 0.0])[:, None]
    advantages = np.array([-1.0, 1.0, -1.0, 0.0])[:, None]
    batch = {
        "mask": MASK,
        "behavior_logprobs": np.full(MASK.shape, -2.0),
        "old_logprobs": np.full(MASK.shape, -2.0) + gap,
        "advantages": np.where(MASK, advantages, 0.0),
        "correction": np.full(MASK.shape, 0.5),
    }
    assert set(batch) <= loss.reads
    made = loss.prepare({}, {name: jnp.asarray(array) for name, array in batch.items()})
    expected = np.array([0.5, 0.5, 0.0, 0.5])
    np.testing.assert_array_equal(made["correction"][:3, 0], expected[:3])
    # What is left out still counts where losses are averaged.
    np.testing.assert_allclose(made["weights"].sum(axis=1), [1 / 3, 1 / 3, 1 / 3, 0], rtol=1e-6)
