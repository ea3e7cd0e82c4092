"""From sums to the numbers of a step, and the noise of the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rljax.objectives.metrics import SumCount
from rljax.objectives.values import critic_loss
from rljax.training.update.metrics import mean_metrics, step_numbers
from rljax.training.update.state import TrainState
from rljax.training.update.train_step import make_train_step


def test_numbers_are_the_same_on_the_host_and_on_the_device():
    """Updates added up on either side; explained variance by hand."""
    returns = np.array([[1.0, 2.0], [3.0, 6.0]], np.float32)
    values = np.array([[1.0, 1.0], [3.0, 5.0]], np.float32)
    mask = np.ones((2, 2), bool)
    loss = jax.jit(lambda *rows: critic_loss(*rows, value_clip=None)[1])
    updates = [loss(*(x[i : i + 1] for x in (values, values, returns, mask))) for i in range(2)]
    skipped = SumCount(jnp.ones(()), jnp.ones(()))
    updates = [update | {"updates_skipped": skipped} for update in updates]
    host = mean_metrics(jax.device_get(updates))
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *updates)
    added = jax.tree.map(lambda x: x.sum(axis=0), stacked)
    device = jax.jit(step_numbers)(added)
    assert host.keys() == device.keys() and host["updates_skipped"] == 2
    for name, number in device.items():
        assert host[name] == pytest.approx(float(number), rel=1e-6), name
    assert host["explained_variance"] == pytest.approx(
        1 - (returns - values).var() / returns.var(), rel=1e-6
    )


def linear(params, batch):
    """The gradient is the weighted sum of the rows."""
    return jnp.sum(batch["weights"][:, None] * batch["x"] * params["w"]), {}


def noise_of(rows, micro_batches):
    """Numbers of one step on the mean over these rows."""
    zero = jnp.zeros((), jnp.int32)
    optimizer, params = optax.sgd(0.1), {"w": jnp.zeros(rows.shape[1])}
    state = TrainState(params, optimizer.init(params), zero, zero, zero)
    step = jax.jit(make_train_step(linear, optimizer, micro_batches=micro_batches))
    batch = {"x": jnp.asarray(rows), "weights": jnp.full(len(rows), 1 / len(rows))}
    return jax.device_get(step(state, {}, batch)[1])


def test_gradient_noise_of_micro_batches():
    """One row in each part: tr S is the variance of the rows, |G|^2 what is left of the norm."""
    rows = np.random.default_rng(0).normal(1.0, size=(8, 3)).astype(np.float32)
    variance, norm = rows.var(axis=0, ddof=1).sum(), (rows.mean(0) ** 2).sum()
    found = mean_metrics([noise_of(rows, 8)])
    assert found["gradient_norm"] == pytest.approx(np.sqrt(norm), rel=1e-5)
    assert found["gradient_variance"] == pytest.approx(variance, rel=1e-4)
    assert found["gradient_signal"] == pytest.approx(norm - variance / 8, rel=1e-4)
    scale = variance / (norm - variance / 8)
    assert found["gradient_noise_scale"] == pytest.approx(scale, rel=1e-4)
    # Parts of two rows say the same of the rows, by another estimate.
    parts = (rows[:4] + rows[4:]) / 2
    of_parts = mean_metrics([noise_of(rows, 4)])
    expected = 2 * parts.var(axis=0, ddof=1).sum()
    assert of_parts["gradient_variance"] == pytest.approx(expected, rel=1e-4)
    assert not any("noise" in name for name in mean_metrics([noise_of(rows, 1)]))
    rows[0, 0] = np.inf
    skipped = mean_metrics([noise_of(rows, 8)])
    assert skipped["updates_skipped"] == 1 and np.isnan(skipped["gradient_variance"])
