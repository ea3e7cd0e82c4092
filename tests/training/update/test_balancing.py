"""Load balancing inside a training stage: the loss's share, what is counted, and the train step."""

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from orbax.checkpoint import v1 as ocp
from rich.console import Console

from rljax.models.config import ModelConfig
from rljax.models.moe import Routing, choose_experts
from rljax.models.network import Network
from rljax.objectives.balance import auxiliary_loss, max_violation
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import put_rows
from rljax.reporting.files import read_rows
from rljax.reporting.glossary import METRICS
from rljax.training import loop
from rljax.training.update.balancing import balance_loss
from rljax.training.update.state import create_state, state_shardings
from rljax.training.update.train_step import EXPERT_COUNTS, loss_and_gradient, make_train_step

CONFIG = ModelConfig(
    vocab_size=13,
    layers=2,
    width=16,
    heads=4,
    kv_heads=2,
    head_dim=8,
    mlp_width=24,
    experts=4,
    experts_per_token=2,
    expert_width=8,
    router_bias=True,
    router_bias_rate=0.01,
    router_aux_weight=0.1,
)
ROUTING = Routing(
    counts=jnp.array([[4.0, 2, 1, 1], [2.0, 2, 2, 2]]),
    probabilities=jnp.array([[2.5, 1, 0.25, 0.25], [1.0, 1, 1, 1]]),
    tokens=jnp.array([4.0, 4.0]),
)


def test_a_dense_model_adds_nothing(tiny_network):
    loss, metrics = balance_loss(tiny_network().config, None, micro_batches=2)
    assert loss == 0 and metrics == {}


@pytest.mark.parametrize("micro_batches", [1, 4])
def test_loss_and_metrics_match_hand_values(micro_batches):
    loss, metrics = balance_loss(CONFIG, ROUTING, micro_batches=micro_batches)
    first = 4 * (0.5 * 0.625 + 0.25 * 0.25 + 2 * 0.125 * 0.0625)
    np.testing.assert_allclose(loss, 0.1 / micro_batches * (first + 1) / 2, rtol=1e-6)
    np.testing.assert_allclose(metrics["balance_loss"].mean(), (first + 1) / 2, rtol=1e-6)
    np.testing.assert_array_equal(metrics[EXPERT_COUNTS].total, ROUTING.counts)


def rows(count=8, slots=6, seed=0):
    """Rows of which one is half padding."""
    rng = np.random.default_rng(seed)
    segments = np.ones((count, slots), np.int32)
    segments[0, : slots // 2] = 0
    return {
        "tokens": rng.integers(0, 13, (count, slots)).astype(np.int32),
        "positions": np.maximum(segments.cumsum(axis=1) - 1, 0).astype(np.int32),
        "segment_ids": segments,
    }


def loss_of(network, micro_batches, params, batch):
    """Balancing alone."""
    model = network.bind(params)
    routing = model(batch["tokens"], batch["positions"], batch["segment_ids"]).routing
    return balance_loss(network.config, routing, micro_batches=micro_batches)


@functools.cache
def network_and_params():
    network = Network.create(CONFIG)
    mesh = make_mesh({"data": 1}, devices=jax.devices()[:1])
    params = jax.device_get(network.init(jax.random.key(0), mesh))
    params["blocks"]["mlp"]["router"] = params["blocks"]["mlp"]["router"] * 4
    return network, params


def routed_tokens(micro_batches, params, batch):
    """Balancing of a single layer whose tokens come straight from the embedding."""
    router, present = params["blocks"]["mlp"]["router"][0], batch["segment_ids"].reshape(-1, 1) > 0
    x = params["embedding"][batch["tokens"].reshape(-1)]
    choice = choose_experts(x, router, None, CONFIG)
    chosen = jax.nn.one_hot(choice.experts, CONFIG.experts).sum(axis=1)

    def count(array):
        return jnp.where(present, array, 0.0).sum(axis=0)[None]

    routing = Routing(count(chosen), count(choice.probabilities), present.sum()[None])
    return balance_loss(CONFIG, routing, micro_batches=micro_batches)


def test_the_loss_of_a_batch_is_the_mean_of_its_parts_and_counts_add_up():
    _, params = network_and_params()
    params, batch = jax.tree.map(jnp.asarray, params), rows()

    @functools.partial(jax.jit, static_argnums=1)
    def evaluate(batch, parts):
        loss_fn = functools.partial(routed_tokens, parts)
        return loss_and_gradient(loss_fn, params, batch, parts)

    whole_loss, whole, _ = evaluate(batch, 1)
    loss, metrics, gradient = evaluate(batch, 2)
    # Parts are every second row (train_step.split_micro_batches).
    halves = [evaluate({k: v[i::2] for k, v in batch.items()}, 1) for i in range(2)]
    np.testing.assert_allclose(loss, (halves[0][0] + halves[1][0]) / 2, rtol=1e-6)
    jax.tree.map(
        lambda g, a, b: np.testing.assert_allclose(g, (a + b) / 2, rtol=1e-4, atol=1e-6),
        gradient,
        halves[0][2],
        halves[1][2],
    )
    np.testing.assert_array_equal(metrics[EXPERT_COUNTS].total, whole[EXPERT_COUNTS].total)
    assert metrics[EXPERT_COUNTS].total.sum() == 2 * (batch["segment_ids"] > 0).sum()
    # Parts with the same load and as many tokens make the loss of the whole batch.
    twice = {name: np.repeat(array, 2, axis=0) for name, array in rows(4).items()}
    np.testing.assert_allclose(evaluate(twice, 2)[0], evaluate(twice, 1)[0], rtol=1e-6)
    assert abs(float(loss - whole_loss)) > 1e-6  # and other parts do not


def run_steps(sizes, micro_batches, config=CONFIG, count=2):
    """Router biases, routers and metrics after some steps with the balancing loss alone."""
    _, params = network_and_params()
    network, optimizer = Network.create(config), optax.sgd(0.1)
    mesh = make_mesh(sizes, devices=jax.devices()[: int(np.prod(list(sizes.values())))])
    loss_fn = functools.partial(loss_of, network, micro_batches)
    step = make_train_step(
        loss_fn, optimizer, micro_batches=micro_batches, router_bias_rate=config.router_bias_rate
    )
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, network.shardings(mesh))
        state = create_state(placed, optimizer, state_shardings(network, optimizer, mesh))
        for number in range(count):
            state, metrics = jax.jit(step)(state, {}, put_rows(rows(seed=number), mesh))
    return jax.device_get((state.params["blocks"]["mlp"], metrics))


def test_a_train_step_moves_the_bias_by_the_counts_of_the_whole_batch():
    network, params = network_and_params()
    moved, metrics = run_steps({"data": 1}, 2, count=1)
    _, found = jax.jit(functools.partial(loss_of, network, 1))(params, rows())
    counts = np.asarray(found[EXPERT_COUNTS].total)
    expected = 0.01 * np.sign(counts.mean(axis=1, keepdims=True) - counts)
    np.testing.assert_allclose(moved["router_bias"], expected, rtol=1e-6)
    assert np.abs(expected).max() > 0 and EXPERT_COUNTS not in metrics
    np.testing.assert_allclose(
        metrics["max_violation"].mean(), max_violation(counts).mean(), rtol=1e-6
    )
    assert np.abs(moved["router"] - params["blocks"]["mlp"]["router"]).max() > 0


@pytest.mark.slow
def test_balancing_does_not_depend_on_the_number_of_devices():
    one, one_metrics = run_steps({"data": 1}, 1)
    many, many_metrics = run_steps({"fsdp": 2, "expert": 2, "tensor": 2}, 1)
    np.testing.assert_array_equal(one["router_bias"], many["router_bias"])
    for name in ("router", "gate", "down"):
        np.testing.assert_allclose(one[name], many[name], rtol=0, atol=1e-5)
    for name in ("balance_loss", "max_violation"):
        np.testing.assert_allclose(one_metrics[name], many_metrics[name], rtol=1e-5)


def test_the_weight_scales_the_loss_and_zero_switches_it_off():
    off = ModelConfig(**{**CONFIG.__dict__, "router_aux_weight": 0.0, "router_bias_rate": 0.0})
    loss, metrics = balance_loss(off, ROUTING, micro_batches=1)
    assert loss == 0 and metrics["balance_loss"].mean() > 1
    gradient = jax.grad(
        lambda p: balance_loss(off, ROUTING._replace(probabilities=p), micro_batches=1)[0]
    )(ROUTING.probabilities)
    np.testing.assert_array_equal(gradient, 0.0)
    np.testing.assert_allclose(
        balance_loss(CONFIG, ROUTING, micro_batches=1)[0],
        0.1 * auxiliary_loss(*ROUTING, alpha=1.0).mean(),
        rtol=1e-6,
    )


EXPERTS = {
    "experts": 4,
    "experts_per_token": 2,
    "expert_width": 16,
    "router_bias": True,
    "router_bias_rate": 0.01,
    "router_aux_weight": 0.01,
}


def test_a_run_with_experts_balances_and_reports(one_device_runs, tiny_config, tmp_path):
    config = tiny_config(
        "reinforce",
        *(f"--config.model.{name}={value}" for name, value in EXPERTS.items()),
        "--config.reinforce.steps=3",
        "--config.reinforce.batch.sequences_per_micro_batch=16",
    )
    loop.run(config, tmp_path / "run", Console(file=io.StringIO()))
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")
    steps = [row for row in rows if row["kind"] == "train"]
    assert len(steps) == 3
    for row in steps:
        assert 0 <= row["max_violation"] <= 1  # E / K - 1
        assert 0.9 < row["balance_loss"] < 2
        assert row["sampler_trainer_gap"] < 1e-5
        assert EXPERT_COUNTS not in row
    assert {"balance_loss", "max_violation"} <= METRICS.keys()
    saved = tmp_path / "run" / "checkpoints" / "reinforce" / "3"
    params = ocp.load(saved, checkpointable_name="state")["params"]
    bias = np.asarray(params["blocks"]["mlp"]["router_bias"])
    # One update a step: three steps of the rate, up or down.
    np.testing.assert_allclose(bias / 0.01, np.round(bias / 0.01), atol=1e-4)
    assert 0 < np.abs(bias).max() <= 0.03 + 1e-6
