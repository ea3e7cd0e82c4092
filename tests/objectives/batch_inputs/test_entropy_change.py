import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from rljax.objectives.batch_inputs import TOKEN_WEIGHTS
from rljax.objectives.batch_inputs.entropy_change import entropy_change

N, T, V = 4, 25, 12


def policy():
    """Logits, tokens, their log-probabilities and entropies, advantages and a mask."""
    keys = jax.random.split(jax.random.key(0), 4)
    logits = 1.5 * jax.random.normal(keys[0], (N, T, V))
    tokens = jax.random.categorical(keys[1], logits)
    logp = jax.nn.log_softmax(logits)
    taken = jnp.take_along_axis(logp, tokens[..., None], -1)[..., 0]
    entropy = -(jnp.exp(logp) * logp).sum(-1)
    advantages = jax.random.normal(keys[2], (N, T))
    mask = jax.random.bernoulli(keys[3], 0.8, (N, T))
    return logits, tokens, taken, entropy, advantages, mask


def arrays():
    _, _, taken, entropy, advantages, mask = policy()
    return taken, taken - 0.1, entropy, advantages, mask


def exact_entropy_change(logits, tokens, advantages, old_logprobs):
    """First-order change of the entropy by a gradient step of size 1 on the logits of a softmax.

        dH = -A * p / p_old * [p (log p + H) - sum_j p_j^2 (log p_j + H)]

    It needs the vocabulary; `entropy_change` drops the sum.
    """
    logp = jax.nn.log_softmax(logits, axis=-1)
    p = jnp.exp(logp)
    entropy = -jnp.sum(p * logp, axis=-1, keepdims=True)
    pull = p * (logp + entropy)  # minus the gradient of the entropy in the logits

    def taken(values):
        return jnp.take_along_axis(values, tokens[..., None], axis=-1)[..., 0]

    weight = advantages * jnp.exp(taken(logp) - old_logprobs)
    return -weight * (taken(pull) - jnp.sum(p * pull, axis=-1))


def test_the_exact_change_is_the_derivative_of_the_entropy_along_the_step():
    with jax.enable_x64(True):
        logits, tokens, taken, _, advantages, _ = policy()
        logits = jnp.asarray(logits, float)
        old = jnp.asarray(taken - 0.2, float)
        ours = exact_entropy_change(logits, tokens, jnp.asarray(advantages, float), old)

        def objective(z):
            logp = jax.nn.log_softmax(z)
            lp = jnp.take_along_axis(logp, tokens[..., None], -1)[..., 0]
            return (advantages * jnp.exp(lp - old)).sum()

        def entropy(z):
            logp = jax.nn.log_softmax(z)
            return -(jnp.exp(logp) * logp).sum(-1)

        step = 1e-5 * jax.grad(objective)(logits)
        measured = (entropy(logits + step) - entropy(logits - step)) / 2e-5
        np.testing.assert_allclose(ours, measured, rtol=1e-4, atol=1e-7)


def test_omega_predicts_the_change_with_the_opposite_sign():
    logits, tokens, taken, entropy, advantages, _ = policy()
    exact = exact_entropy_change(logits, tokens, advantages, taken)
    omega = entropy_change(taken, taken, entropy, advantages, jnp.ones((N, T), bool))
    assert spearmanr(-np.ravel(omega), np.ravel(exact)).statistic > 0.7


def test_omega_is_odd_in_the_advantage_and_zero_where_nothing_happens():
    current, old, entropy, advantages, mask = arrays()
    omega = entropy_change(current, old, entropy, advantages, mask)
    flipped = entropy_change(current, old, entropy, -advantages, mask)
    np.testing.assert_array_equal(omega, -flipped)
    np.testing.assert_array_equal(jnp.where(mask, 0.0, omega), 0.0)
    uniform = jnp.full((N, T), -jnp.log(7.0))
    flat = entropy_change(uniform, uniform, -uniform, advantages, mask)
    np.testing.assert_allclose(flat, 0.0, atol=1e-6)


@pytest.mark.parametrize("name", ["steer_linear", "steer_exponential"])
def test_without_advantages_all_weights_agree(name):
    current, old, entropy, advantages, mask = arrays()
    weights = TOKEN_WEIGHTS[name](current, old, entropy, 0 * advantages, mask)
    np.testing.assert_allclose(weights, np.where(mask, 1.0, 0.0), rtol=1e-6)


@pytest.mark.parametrize("name", ["steer_linear", "steer_exponential"])
def test_equal_ends_are_the_plain_loss(name):
    ends = dict(steer_low=1.0) | (dict(steer_high=1.0) if name == "steer_linear" else {})
    np.testing.assert_array_equal(TOKEN_WEIGHTS[name](*arrays(), **ends), arrays()[-1])


def test_the_largest_change_weighs_least_and_none_weighs_most():
    current, old, entropy, advantages, mask = arrays()
    entropy = entropy.at[0, 0].set(-current[0, 0])  # log p = -H
    mask = mask.at[0, 0].set(True)
    size = jnp.where(mask, jnp.abs(entropy_change(current, old, entropy, advantages, mask)), -1)
    worst = jnp.unravel_index(size.argmax(), size.shape)
    for name, top in (("steer_linear", 1.2), ("steer_exponential", 1.0)):
        weights = TOKEN_WEIGHTS[name](current, old, entropy, advantages, mask)
        np.testing.assert_allclose(weights[0, 0], top, rtol=1e-6)
        np.testing.assert_allclose(weights[worst], 0.8, rtol=1e-6)


@pytest.mark.parametrize("name", ["steer_linear", "steer_exponential"])
def test_weights_move_with_their_rows_and_ignore_masked_slots(name):
    inputs = arrays()
    weights = TOKEN_WEIGHTS[name](*inputs)
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_array_equal(TOKEN_WEIGHTS[name](*(x[order] for x in inputs)), weights[order])
    mask = inputs[-1]
    spoilt = [
        jnp.where(mask, x, bad)
        for x, bad in zip(inputs[:4], (9.0, jnp.nan, jnp.inf, 1e9), strict=True)
    ]
    np.testing.assert_array_equal(TOKEN_WEIGHTS[name](*spoilt, mask), weights)
    empty = TOKEN_WEIGHTS[name](*inputs[:-1], jnp.zeros_like(mask))
    np.testing.assert_array_equal(empty, 0.0)


def test_small_changes_stay_near_one_only_with_the_floor():
    current, old, entropy, advantages, mask = arrays()
    small = (current, old, entropy, 1e-4 * advantages, mask)
    weigh = TOKEN_WEIGHTS["steer_exponential"]
    assert float(jnp.where(mask, weigh(*small), 1.0).min()) > 0.99
    paper = weigh(*small, steer_scale_floor=0.0)
    np.testing.assert_allclose(jnp.where(mask, paper, 1.0).min(), 0.8, rtol=1e-5)
