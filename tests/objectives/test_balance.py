"""Balancing the load of experts: hand values, gradients, and routers that are far from balance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.balance import auxiliary_loss, bias_update, max_violation
from rljax.parallel.mesh import make_mesh


def count(choices, experts):
    """[..., E] f32."""
    return jnp.asarray(np.bincount(np.ravel(choices), minlength=experts), jnp.float32)


# --- auxiliary loss ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "counts, probabilities, tokens, loss",
    [
        ([2, 2, 2, 2], [1, 1, 1, 1], 4, 0.1),  # even: alpha, whatever K is
        ([4, 0, 0, 0], [4, 0, 0, 0], 4, 0.4),  # collapsed: alpha * E
        ([4, 0, 0, 0], [1, 1, 1, 1], 4, 0.1),  # collapsed choices of an undecided router
        ([3, 1, 0, 0], [2, 1, 0.5, 0.5], 4, 0.1 * 4 * (0.75 * 0.5 + 0.25 * 0.25)),
        ([0, 0, 0, 0], [0, 0, 0, 0], 0, 0.0),  # nothing but padding
    ],
)
def test_auxiliary_loss_matches_hand_values(counts, probabilities, tokens, loss):
    arrays = (jnp.asarray(value, jnp.float32) for value in (counts, probabilities, tokens))
    np.testing.assert_allclose(auxiliary_loss(*arrays, alpha=0.1), loss, rtol=1e-6)


def test_the_gradient_of_the_auxiliary_loss_goes_through_probabilities_only():
    counts, tokens = jnp.array([3.0, 1.0, 2.0, 0.0]), jnp.float32(3)

    def loss(counts, sums):
        return auxiliary_loss(counts, sums, tokens, alpha=0.5)

    by_counts, by_sums = jax.grad(loss, argnums=(0, 1))(counts, jnp.array([1.0, 0.7, 0.3, 1.0]))
    np.testing.assert_array_equal(by_counts, 0.0)
    # alpha E f_i / tokens: fuller experts lose more probability
    np.testing.assert_allclose(by_sums, 0.5 * 4 * counts / 6 / 3, rtol=1e-6)


def test_descending_the_auxiliary_loss_evens_out_a_skewed_router():
    x = jax.random.normal(jax.random.key(0), (256, 6))
    x = x.at[:, 0].set(1.0)  # a feature that all tokens share
    router = 0.1 * jax.random.normal(jax.random.key(1), (6, 4)) + jnp.eye(6, 4) * 2

    def loads(router):
        probabilities = jax.nn.softmax(x @ router)
        choices = jax.lax.top_k(probabilities, 1)[1]
        return jnp.sum(jax.nn.one_hot(choices, 4), axis=(0, 1)), probabilities.sum(axis=0)

    gradient = jax.jit(jax.grad(lambda router: auxiliary_loss(*loads(router), 256.0, alpha=1.0)))
    before = max_violation(loads(router)[0])
    for _ in range(100):
        router -= 0.5 * gradient(router)
    after = max_violation(loads(router)[0])
    assert before > 1 and after < 0.2


# --- bias ----------------------------------------------------------------------------------------


def test_bias_update_and_max_violation_match_hand_values():
    counts = jnp.array([[1.0, 2.0, 6.0], [3.0, 3.0, 3.0], [0.0, 4.0, 2.0], [0.0, 0.0, 0.0]])
    update = [[1, 1, -1], [0, 0, 0], [1, -1, 0], [0, 0, 0]]
    np.testing.assert_allclose(bias_update(counts, rate=0.01), 0.01 * np.array(update), rtol=1e-6)
    assert bias_update(counts, rate=0.01).sum() > 0  # more gain than lose: no zero-sum step
    np.testing.assert_array_equal(bias_update(counts, rate=0.0), 0.0)
    np.testing.assert_allclose(max_violation(counts), [1.0, 0.0, 1.0, 0.0])


@pytest.mark.parametrize("experts", [3, 7, 60, 384])
@pytest.mark.parametrize("load", [1, 7, 12_345])
def test_an_even_load_moves_no_bias(experts, load):
    # A mean that is rounded would be a little above or below.
    assert not np.any(jax.jit(bias_update)(jnp.full(experts, load, jnp.float32)))


def test_a_dead_expert_gains_one_step_each_time():
    bias = jnp.zeros(4)
    for step in range(1, 6):
        bias += bias_update(jnp.array([5.0, 0.0, 3.0, 4.0]), rate=0.001)
        np.testing.assert_allclose(bias[1], 0.001 * step, rtol=1e-6)


def route(scores, bias, choices=2):
    return np.asarray(jax.lax.top_k(scores + bias, choices)[1])


def test_a_constant_added_to_all_biases_changes_no_choice():
    scores = jax.nn.sigmoid(jax.random.normal(jax.random.key(0), (64, 8)))
    bias = 0.1 * jax.random.normal(jax.random.key(1), (8,))
    np.testing.assert_array_equal(route(scores, bias), route(scores, bias + 0.5))


def test_bias_updates_balance_a_skewed_router_and_keep_it_balanced():
    rate, experts, offset = 0.01, 8, 0.2
    draw = jax.jit(lambda key: jax.nn.sigmoid(0.5 * jax.random.normal(key, (1024, experts))))
    skew = offset * (jnp.arange(experts) < 2)  # two experts score higher by 0.2
    bias, violations, biases = jnp.zeros(experts), [], []
    for step in range(100):
        counts = count(route(draw(jax.random.key(step)) + skew, bias), experts)
        violations.append(float(max_violation(counts)))
        bias += bias_update(counts, rate=rate)
        biases.append(np.asarray(bias))
    settled = int(offset / rate)
    assert violations[0] > 1
    # By an order of magnitude within about offset / rate steps, and it stays so.
    assert np.mean(violations[2 * settled :]) < violations[0] / 10
    # Then it oscillates by steps of the rate: the favoured experts end lower by their offset.
    last = np.array(biases[2 * settled :])
    assert np.ptp(last - last.mean(axis=1, keepdims=True), axis=0).max() < 6 * rate
    found = last[:, 2:].mean() - last[:, :2].mean()
    np.testing.assert_allclose(found, offset, atol=2 * rate)


def test_counts_of_devices_are_added_before_the_sign_is_taken():
    choices = np.random.default_rng(0).choice(4, size=(8, 32), p=[0.4, 0.3, 0.2, 0.1])
    whole = bias_update(count(choices, 4))
    parts = jnp.stack([count(part, 4) for part in choices])
    np.testing.assert_array_equal(bias_update(parts.sum(axis=0)), whole)
    assert np.any(bias_update(parts).mean(axis=0) != whole)  # which the sign of each is not
    each = jax.shard_map(
        lambda part: bias_update(jax.lax.psum(part[0], "data")),
        in_specs=jax.P("data"),
        out_specs=jax.P(),
    )
    with jax.set_mesh(make_mesh({"data": 8}, devices=jax.devices()[:8])):
        np.testing.assert_array_equal(jax.jit(each)(parts), whole)
