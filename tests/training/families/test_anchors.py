"""Supervised stages whose loss runs the frozen reference beside the policy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.parallel.rules import put_rows
from rljax.training.families.supervised import Supervised
from rljax.training.run.models import Model
from rljax.training.update.beside import BESIDE
from rljax.training.update.optimizers import build_optimizer
from rljax.training.update.train_step import loss_and_gradient
from tests.training.steps import take_step


@pytest.fixture
def anchored(pieces):
    """anchored(*overrides) -> pieces, and the family with drawn parameters as its reference."""

    def build(*overrides):
        made = pieces("asft", "--config.asft.batch.sequences_per_update=8", *overrides)
        network = made.context.network
        params = network.init(jax.random.key(1), made.context.mesh)
        models = {"reference": Model("reference", network, "warmup", False, params)}
        context = dataclasses.replace(made.context, models=models)
        return made, Supervised(context, made.stage, params, 0)

    return build


def by_definition(network, params, reference, batch, weight):
    """DFT and the forward KL from whole logits."""

    def log_p(params):
        model = network.bind(params)
        hidden = model(batch["tokens"], batch["positions"], batch["segment_ids"]).hidden[:, :-1]
        return jax.nn.log_softmax((hidden @ model.vocabulary().T)[..., : network.config.vocab_size])

    policy, other = log_p(params), log_p(reference)
    own = jnp.take_along_axis(policy, batch["tokens"][:, 1:, None], axis=-1)[..., 0]
    divergence = (jnp.exp(other) * (other - policy)).sum(axis=-1)
    loss = -jax.lax.stop_gradient(jnp.exp(own)) * own + weight * divergence
    return loss[batch["mask"]].mean()


def test_the_loss_is_its_definition_in_any_number_of_micro_batches(anchored):
    made, family = anchored("--config.asft.objective.anchor_weight=0.3")
    network, beside = made.context.network, family.beside()
    batch = take_step(family, made.state, 1)[1].batches[0]
    placed = put_rows(batch, made.context.mesh)

    def gradients(parts):
        def loss(params, batch):
            return family.loss_fn({**params, BESIDE: beside}, batch)

        return jax.jit(lambda p, b: loss_and_gradient(loss, p, b, parts))(made.params, placed)

    (loss, metrics, gradient), (again, _, split) = gradients(1), gradients(4)
    expected, slope = jax.jit(
        jax.value_and_grad(lambda p: by_definition(network, p, beside["reference"], batch, 0.3))
    )(made.params)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert float(again) == pytest.approx(float(expected), rel=1e-5)
    for found in (gradient, split):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), found, slope
        )
    assert float(metrics["anchor_divergence"].mean()) > 0.01


@pytest.mark.slow
def test_an_update_brings_the_reference_and_packing_does_not_change_its_loss(anchored):
    losses = []
    for rows, packed in ((19, True), (55, False)):  # the same 55 demonstrations
        made, family = anchored(
            f"--config.asft.batch.sequences_per_update={rows}",
            f"--config.asft.data.packed={packed}",
        )
        batch = take_step(family, made.state, 1)[1].batches[0]
        update = family.make_update(build_optimizer(made.stage), None)
        _, metrics = update(made.state, {}, put_rows(batch, made.context.mesh))
        losses.append(float(metrics["loss"].mean()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
