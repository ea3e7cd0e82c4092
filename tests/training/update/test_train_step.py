"""The update: same for every micro-batch split, safe against non-finite numbers, compiled once."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rljax.objectives.aggregation import AGGREGATIONS
from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.supervised import nll
from rljax.parallel.rules import put_rows
from rljax.sampling.distribution import TokenFilter
from rljax.training.update.logprobs import completion_statistics
from rljax.training.update.optimizers import Optimizer, sgd
from rljax.training.update.rows import completion_rows
from rljax.training.update.state import create_state, state_shardings
from rljax.training.update.train_step import (
    jit_train_step,
    loss_and_gradient,
    make_train_step,
    split_micro_batches,
)


def uneven_batch(aggregation="token_mean", rows=8, seed=0):
    """Completions of 0 to 6 tokens; weights belong to the whole batch."""
    rng = np.random.default_rng(seed)
    lengths = rng.permutation(rows) % 7
    mask = np.arange(6) < lengths[:, None]
    batch = completion_rows(
        rng.integers(0, 13, (rows, 4)),
        np.ones((rows, 4), bool),
        rng.integers(0, 13, (rows, 6)),
        mask,
    )
    batch["weights"] = np.asarray(AGGREGATIONS[aggregation](jnp.asarray(mask)))
    return jax.tree.map(jnp.asarray, batch)


def make_loss(network):
    def loss_fn(params, batch):
        statistics = completion_statistics(network, params, batch, TokenFilter())
        logprobs, entropy, greedy = statistics[:3]
        loss, metrics = nll(logprobs, batch["mask"])
        metrics["entropy"] = masked(entropy, batch["mask"])
        metrics["token_accuracy"] = masked(greedy, batch["mask"])
        return jnp.sum(batch["weights"] * loss), metrics

    return loss_fn


def jit_step(network, loss_fn, optimizer, mesh, *, micro_batches):
    """The step as the train loop jits it, of a network without adapters."""
    return jit_train_step(network, loss_fn, optimizer, mesh, micro_batches=micro_batches)


def first_state(network, optimizer, mesh, seed=0):
    shardings = state_shardings(network, optimizer, mesh)
    return create_state(network.init(jax.random.key(seed), mesh), optimizer, shardings)


# --- micro-batches -------------------------------------------------------------------------------


def test_parts_take_every_nth_row():
    parts = split_micro_batches({"x": jnp.arange(6)}, 3)["x"]
    np.testing.assert_array_equal(parts, [[0, 3], [1, 4], [2, 5]])


@pytest.mark.parametrize(
    "aggregation, splits", [("token_mean", (2, 4, 8)), ("sequence_mean_token_mean", (4,))]
)
def test_loss_metrics_and_gradient_are_the_same_for_every_split(
    tiny_network, one_device, aggregation, splits
):
    network = tiny_network()
    params = network.init(jax.random.key(0), one_device)
    batch = uneven_batch(aggregation)
    evaluate = jax.jit(
        lambda params, batch, parts: loss_and_gradient(make_loss(network), params, batch, parts),
        static_argnums=2,
    )
    loss, metrics, gradient = evaluate(params, batch, 1)
    assert metrics["entropy"].count == batch["mask"].sum()
    for parts in splits:
        other = evaluate(params, batch, parts)
        np.testing.assert_allclose(other[0], loss, rtol=1e-6)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), other[1], metrics)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), other[2], gradient
        )


def test_gradient_of_bfloat16_parameters_is_float32_in_every_split(tiny_network, one_device):
    network = tiny_network(param_dtype="bfloat16")
    batch = uneven_batch()
    for parts in (1, 2):
        _, _, gradient = jax.eval_shape(
            lambda params, parts=parts: loss_and_gradient(make_loss(network), params, batch, parts),
            network.shapes,
        )
        assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}


def test_bfloat16_state_keeps_its_types_and_learns(tiny_network, one_device, compilations):
    network, optimizer = tiny_network(param_dtype="bfloat16"), optax.adamw(1e-2)
    state = first_state(network, optimizer, one_device)
    moments = state.optimizer_state[0]
    assert {leaf.dtype for leaf in jax.tree.leaves((moments.mu, moments.nu))} == {
        jnp.dtype("float32")
    }
    step = jit_step(network, make_loss(network), optimizer, one_device, micro_batches=2)
    types = jax.tree.map(lambda leaf: leaf.dtype, state)
    losses = []
    with compilations() as programs:
        for _ in range(5):
            state, metrics = step(state, {}, put_rows(uneven_batch(), one_device))
            losses.append(float(metrics["loss"].mean()))
            assert jax.tree.map(lambda leaf: leaf.dtype, state) == types
    assert losses[-1] < losses[0] - 0.3 and programs.count("jit(step)") == 1


# --- the update ----------------------------------------------------------------------------------


def quadratic(params, batch):
    """sum_n weight * (x_n . w)^2 / 2 with a NaN or infinity wherever the batch holds one."""
    loss = jnp.sum(batch["weights"] * 0.5 * (batch["x"] @ params["w"]) ** 2)
    return loss, {"rows": SumCount(jnp.sum(batch["weights"]), jnp.ones(()))}


class Linear:
    """As much of a Network as a TrainState needs."""

    shapes = {"w": jax.ShapeDtypeStruct((2,), jnp.float32)}

    @staticmethod
    def shardings(mesh):
        return {"w": jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())}


def linear_state(optimizer, mesh):
    shardings = state_shardings(Linear, optimizer, mesh)
    return create_state({"w": jnp.array([1.0, 2.0])}, optimizer, shardings)


GOOD = {"x": jnp.array([[1.0, 1.0], [0.0, 2.0]]), "weights": jnp.array([1.0, 0.5])}


def test_one_update_by_hand(one_device):
    optimizer = optax.sgd(0.1)
    step = make_train_step(quadratic, optimizer, micro_batches=1)
    state, metrics = step(linear_state(optimizer, one_device), {}, GOOD)
    # x.w = 3 and 4; loss 1 * 4.5 + 0.5 * 8; gradient 3 * [1, 1] + 0.5 * 4 * [0, 2].
    np.testing.assert_allclose(metrics["loss"].mean(), 8.5)
    np.testing.assert_allclose(metrics["gradient_norm"].mean(), np.hypot(3, 7), rtol=1e-6)
    np.testing.assert_allclose(state.params["w"], [0.7, 1.3], rtol=1e-6)
    assert (state.updates, state.skipped, state.skipped_in_a_row) == (1, 0, 0)
    assert metrics["updates_skipped"] == (0, 1)


@pytest.mark.parametrize("micro_batches", [1, 2])
@pytest.mark.parametrize(
    "field, value",
    [
        ("weights", [1.0, np.nan]),  # the loss
        ("x", [[1.0, 1.0], [np.inf, 2.0]]),
        ("x", [[1e19, 1e19], [0.0, 2.0]]),  # a finite gradient whose squared norm overflows
    ],
)
def test_non_finite_update_is_skipped_and_counted(one_device, micro_batches, field, value):
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1))
    step = jax.jit(make_train_step(quadratic, optimizer, micro_batches=micro_batches))
    state, _ = step(linear_state(optimizer, one_device), {}, GOOD)
    bad = {**GOOD, field: jnp.array(value)}
    before = jax.device_get(state)
    for count in (1, 2):
        state, metrics = step(state, {}, bad)
        for name in ("params", "optimizer_state", "carried"):
            jax.tree.map(np.testing.assert_array_equal, getattr(state, name), getattr(before, name))
        assert (state.updates, state.skipped, state.skipped_in_a_row) == (1 + count, count, count)
        assert metrics["updates_skipped"] == (1, 1)
        assert metrics["loss"] == (0, 0) and metrics["gradient_norm"] == (0, 0)
    state, _ = step(state, {}, GOOD)  # it goes on, and the run of failures is over
    assert (state.updates, state.skipped, state.skipped_in_a_row) == (4, 2, 0)
    # As if the bad updates had never happened.
    expected, _ = step(jax.tree.map(jnp.asarray, before), {}, GOOD)
    np.testing.assert_array_equal(state.params["w"], expected.params["w"])
    np.testing.assert_array_equal(state.optimizer_state[1][0].count, 2)


def test_the_logged_rate_is_that_of_updates_that_were_made(one_device):
    """Skipped updates, and those without a token, take nothing from the schedule."""

    def halves(count):
        return 0.5**count

    made = sgd(halves)
    optimizer = Optimizer(made.init, made.update, halves)
    state = linear_state(optimizer, one_device)
    step = jax.jit(make_train_step(quadratic, optimizer, micro_batches=1))
    rates = []
    for weight, learns in ((1.0, True), (np.nan, True), (1.0, False), (1.0, True)):
        batch = {**GOOD, "weights": jnp.full(2, weight), "mask": jnp.full(2, learns)}
        state, metrics = step(state, {}, batch)
        rate = metrics["learning_rate"]
        rates.append(float(rate.total) if rate.count else None)
    assert rates == [1.0, None, None, 0.5]


def test_state_is_donated_and_the_step_traced_once(tiny_network, one_device, compilations):
    network, optimizer = tiny_network(), optax.adamw(1e-3)
    traces, loss = [], make_loss(network)

    def counted(params, batch):
        traces.append(1)
        return loss(params, batch)

    step = jit_step(network, counted, optimizer, one_device, micro_batches=1)
    state = first_state(network, optimizer, one_device)
    with compilations() as programs:
        for seed in range(4):
            old, (state, _) = state, step(state, {}, put_rows(uneven_batch(seed=seed), one_device))
            assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
    assert len(traces) == programs.count("jit(step)") == 1 and state.updates == 4
