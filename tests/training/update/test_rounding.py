"""bfloat16 parameters: stochastic rounding against float32 and against rounding to nearest."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rljax.objectives.metrics import SumCount
from rljax.training.update.rounding import apply_updates, stochastic_round
from rljax.training.update.state import TrainState, first_moments
from rljax.training.update.train_step import make_train_step


def as_float(x):
    return np.asarray(x.astype(jnp.float32))


def test_the_mean_over_draws_is_the_number():
    numbers = jnp.array([1.001, -1.001, 3.14159, 1e-20, -7e20, 0.1])
    x = jnp.tile(numbers[:, None], (1, 100_000))
    drawn = as_float(stochastic_round(x, key=jax.random.key(0)))
    low = as_float((jax.lax.bitcast_convert_type(x, jnp.uint32) >> 16 << 16).view(jnp.float32))
    ulp = np.abs(2.0 ** np.floor(np.log2(np.abs(np.asarray(numbers)))) * 2**-7)[:, None]
    assert (np.abs(drawn - np.asarray(x)) < ulp).all()
    assert all(len(set(row)) == 2 for row in drawn) and (np.abs(low) <= np.abs(x)).all()
    # The standard error of a mean of 1e5 draws is at most 0.5 / sqrt(1e5) = 0.0016 ulp.
    error = np.abs(drawn.astype(np.float64).mean(axis=1) - np.asarray(numbers, np.float64))
    assert (error / ulp[:, 0] < 0.006).all()


def test_numbers_that_need_no_rounding_stay():
    exact = jnp.array([0.0, -0.0, 1.0, -2.5, 2.0**-126, jnp.inf, -jnp.inf, jnp.nan])
    for seed in range(20):
        found = stochastic_round(exact, key=jax.random.key(seed))
        np.testing.assert_array_equal(as_float(found), exact)
    largest = jnp.finfo(jnp.bfloat16).max.astype(jnp.float32)
    assert as_float(stochastic_round(largest, key=jax.random.key(0))) == largest


def test_leaves_and_updates_draw_different_noise_and_devices_the_same(mesh_2x2x2):
    leaf = jnp.full((64, 8), 1.001, jnp.bfloat16)
    params = {"a": leaf, "b": {"a": leaf}}
    changes = jax.tree.map(lambda x: jnp.full(x.shape, 0.002), params)
    run = jax.jit(lambda params, key: apply_updates(params, changes, key=key))
    one = run(params, jax.random.key(0))
    assert jnp.any(one["a"] != one["b"]["a"])
    assert jnp.any(one["a"] != run(params, jax.random.key(1))["a"])
    place = jax.sharding.NamedSharding(mesh_2x2x2, jax.sharding.PartitionSpec("fsdp", "tensor"))
    sharded = run(jax.device_put(params, place), jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, one, sharded)
    alone = apply_updates(
        {"b": {"a": leaf}}, {"b": {"a": changes["b"]["a"]}}, key=jax.random.key(0)
    )
    np.testing.assert_array_equal(alone["b"]["a"], one["b"]["a"])


def test_float32_parameters_are_added_as_they_are():
    params, changes = {"w": jnp.float32(1.0)}, {"w": jnp.float32(1e-7)}
    found = apply_updates(params, changes, key=jax.random.key(0))
    assert found["w"] == optax.apply_updates(params, changes)["w"] != 1.0


def run(dtype, key, updates=10, learning_rate=1e-6):
    """Parameters after some updates of AdamW with a gradient that points one way."""
    start = np.random.default_rng(0).uniform(0.02, 0.1, 40_000)
    params = {"w": jnp.asarray(start, dtype)}
    optimizer = optax.adamw(learning_rate, weight_decay=0.0)

    def loss(params, batch):
        total = jnp.sum(batch["x"]) * jnp.sum(params["w"].astype(jnp.float32))
        return total, {"rows": SumCount(jnp.ones(()), jnp.ones(()))}

    zero = jnp.zeros((), jnp.int32)
    state = TrainState(params, first_moments(optimizer, params), zero, zero, zero)
    step = jax.jit(make_train_step(loss, optimizer, micro_batches=1, rounding_key=key))
    for _ in range(updates):
        state, _ = step(state, {}, {"x": jnp.ones(1)})
    return np.asarray(params["w"], np.float64), np.asarray(state.params["w"], np.float64)


def test_small_updates_are_lost_to_nearest_and_kept_on_average_by_stochastic_rounding():
    before, exact = run(jnp.float32, None)
    drift = (exact - before).mean()
    assert drift == pytest.approx(-1e-5, rel=1e-2)
    before, nearest = run(jnp.bfloat16, None)
    assert (nearest == before).mean() > 0.9
    before, random = run(jnp.bfloat16, jax.random.key(0))
    # 40,000 parameters of up to 2^-11 ulp-steps: the mean is known to about 1 %.
    assert (random - before).mean() == pytest.approx(drift, rel=0.1)
