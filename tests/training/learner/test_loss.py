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


def weights_of_hpt(failing):
    """[3, 4, 3]: weights of three prompts with 3 samples and a demonstration of 1, 2 or 3 tokens.

    Args:
        failing: of each prompt, whether no sample of it is right.
    """
    config = complete(
        {
            "stages": ("rl",),
            "data": {"tasks": ({"name": "chain_sum"},)},
            "rl": {
                "method": "hpt",
                "batch": {"prompts_per_step": 3, "samples_per_prompt": 3},
                "objective": {"supervised_weight": 0.5},
            },
        }
    )
    (stage,) = validate(config)
    shown = np.tile(np.arange(4) == 3, (3, 1))
    lengths = np.where(shown, np.array([1, 2, 3])[:, None], 3)
    present = np.arange(3) < lengths[..., None]
    failing = np.array(failing)[:, None]
    batch = {
        "mask": present & (shown == failing)[..., None],
        "sampled": present & ~shown[..., None],
        "demonstration": shown,
    }
    flat = {name: jnp.asarray(x.reshape(12, *x.shape[2:])) for name, x in batch.items()}
    return np.asarray(PolicyLoss(None, stage).prepare({}, flat)["weights"]).reshape(3, 4, 3)


def test_a_demonstration_weighs_the_same_however_many_prompts_fail():
    """arXiv:2509.04419: a mean over prompts, each with its samples or with its demonstration."""
    samples, token = 1 / 9 / 3, 0.5 / 3  # over 9 rows and T = 3; over 3 prompts
    for failing in ([True, False, False], [True, True, False], [True, True, True]):
        weights = weights_of_hpt(failing)
        for prompt, fails in enumerate(failing):
            tokens = prompt + 1  # of the demonstration
            shown = np.where(np.arange(3) < tokens, token / tokens, 0.0) * fails
            np.testing.assert_allclose(weights[prompt, 3], shown, rtol=1e-6)
            np.testing.assert_allclose(weights[prompt, :3], samples * (not fails), rtol=1e-6)
