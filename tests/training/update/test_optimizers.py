"""Optimizers and schedules by hand values, and the fields that each of them reads."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.models.config import LoRAConfig
from rljax.models.lora import flatten
from rljax.training.update.optimizers import (
    OPTIMIZERS,
    SCHEDULES,
    build_critic_optimizer,
    build_optimizer,
    decayed,
    make_optimizer,
    make_schedule,
)

PARAMS = {"w": jnp.array([2.0, -4.0]), "scale": jnp.array([1.0])}
GRADIENT = {"w": jnp.array([0.5, -2.0]), "scale": jnp.array([0.1])}


def stage_with(steps=10, **optimizer):
    """A resolved supervised stage with these optimizer settings."""
    stage = dict(method="sft", steps=steps, optimizer=optimizer)
    data = dict(tasks=(dict(name="chain_sum"),))
    (resolved,) = validate(complete(ConfigDict(dict(stages=("fit",), data=data, fit=stage))))
    return resolved


def run(optimizer, steps=1, gradient=GRADIENT):
    state, params = optimizer.init(PARAMS), PARAMS
    for _ in range(steps):
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


# --- optimizers ----------------------------------------------------------------------------------


def adamw_by_hand(steps, learning_rate, b1, b2, epsilon, weight_decay):
    w, g = np.array([2.0, -4.0]), np.array([0.5, -2.0])
    m = v = np.zeros(2)
    for t in range(1, steps + 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        direction = m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + epsilon)
        w = w - learning_rate * (direction + weight_decay * w)
    return w


def test_adamw_equals_its_definition():
    fields = dict(b1=0.8, b2=0.9, epsilon=0.1, weight_decay=0.3)
    found = run(OPTIMIZERS["adamw"](0.01, **fields), steps=3)
    np.testing.assert_allclose(found["w"], adamw_by_hand(3, 0.01, **fields), rtol=1e-6)


def test_lion_equals_its_definition():
    optimizer = OPTIMIZERS["lion"](0.01, b1=0.9, b2=0.99, weight_decay=0.5)
    w, m = np.array([2.0, -4.0]), np.zeros(2)
    g = np.array([0.5, -2.0])
    for _ in range(3):
        direction = np.sign(0.9 * m + 0.1 * g)
        w, m = w - 0.01 * (direction + 0.5 * w), 0.99 * m + 0.01 * g
    np.testing.assert_allclose(run(optimizer, steps=3)["w"], w, rtol=1e-6)


def test_rmsprop_adds_epsilon_outside_the_root():
    # As torch.optim.RMSprop, which the original DPO code uses: g / (sqrt(v) + epsilon).
    small = {"w": jnp.array([1e-4, -2e-4]), "scale": jnp.array([0.0])}
    optimizer = OPTIMIZERS["rmsprop"](0.1, decay=0.99, epsilon=1e-8)
    w, v, g = np.array([2.0, -4.0]), np.zeros(2), np.array([1e-4, -2e-4])
    for _ in range(2):
        v = 0.99 * v + 0.01 * g**2
        w = w - 0.1 * g / (np.sqrt(v) + 1e-8)
    np.testing.assert_allclose(run(optimizer, 2, small)["w"], w, rtol=1e-5)


def test_sgd_momentum_is_heavy_ball():
    g = np.array([0.5, -2.0])
    plain = run(OPTIMIZERS["sgd"](0.1), 2)["w"]
    heavy = run(OPTIMIZERS["sgd"](0.1, momentum=0.9), 2)["w"]
    np.testing.assert_allclose(plain, np.array([2.0, -4.0]) - 0.1 * 2 * g, rtol=1e-6)
    np.testing.assert_allclose(heavy, np.array([2.0, -4.0]) - 0.1 * (1 + 1.9) * g, rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_weight_decay_exempts_norm_scales(name):
    still = {"w": jnp.zeros(2), "scale": jnp.zeros(1)}
    found = run(OPTIMIZERS[name](0.1, weight_decay=0.5), 1, still)
    np.testing.assert_allclose(found["w"], np.array([2.0, -4.0]) * (1 - 0.1 * 0.5), rtol=1e-6)
    np.testing.assert_array_equal(found["scale"], PARAMS["scale"])


def test_default_weight_decay_is_none():
    still = {"w": jnp.zeros(2), "scale": jnp.zeros(1)}
    for name, build in OPTIMIZERS.items():
        np.testing.assert_array_equal(run(build(0.1), 1, still)["w"], PARAMS["w"], err_msg=name)


@pytest.mark.parametrize(
    "fields",
    [
        dict(tied_embeddings=False, attention_bias=True, query_key_norm="head"),
        dict(head="value", head_bias=True, lora=LoRAConfig(rank=2, alpha=2)),
    ],
)
def test_decay_mask_of_a_network_is_false_for_its_norms_and_biases_only(fields, tiny_network):
    mask = flatten(decayed(tiny_network(**fields).shapes))
    exempt = {path[-1] for path, decays in mask.items() if not decays}
    assert exempt == {"scale", "head_bias" if "head" in fields else "bias"}
    kept = {"embedding", "kernel"} | (
        {"head", "lora_a", "lora_b"} if "head" in fields else {"output"}
    )
    assert {path[-1] for path, decays in mask.items() if decays} == kept


@pytest.mark.parametrize("clip_norm, factor", [(0.0, 1.0), (100.0, 1.0), (1.0, 5**-0.5)])
def test_clipping_scales_the_whole_gradient(clip_norm, factor):
    gradient = {"w": jnp.array([1.0, 0.0]), "scale": jnp.array([2.0])}  # norm sqrt(5)
    found = run(make_optimizer(optax.sgd(1.0), clip_norm), 1, gradient)
    np.testing.assert_allclose(found["w"], [2 - factor, -4], rtol=1e-6)
    np.testing.assert_allclose(found["scale"], [1 - 2 * factor], rtol=1e-5)


# --- schedules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "decay, warmup, updates, expected",  # learning rate 1.0 of updates 0, 1, 2, ...
    [
        ("constant", 0, 4, [1, 1, 1, 1]),
        ("constant", 1, 4, [1, 1, 1, 1]),
        ("constant", 4, 6, [0.25, 0.5, 0.75, 1, 1, 1]),
        ("linear", 0, 4, [1, 0.75, 0.5, 0.25, 0]),
        ("linear", 2, 6, [0.5, 1, 1, 0.75, 0.5, 0.25, 0, 0]),
        ("cosine", 0, 4, [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0]),
        ("constant", 5, 3, [0.2, 0.4, 0.6]),  # a stage shorter than its warm-up
    ],
)
def test_schedule_by_hand(decay, warmup, updates, expected):
    schedule = make_schedule(SCHEDULES[decay], 1.0, warmup, updates)
    found = [float(schedule(step)) for step in range(len(expected))]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_end_fraction_is_the_last_rate_over_the_peak():
    for name in ("linear", "cosine"):
        schedule = SCHEDULES[name](2.0, 10, end_fraction=0.1)
        np.testing.assert_allclose(
            [schedule(0), schedule(10), schedule(99)], [2, 0.2, 0.2], rtol=1e-6
        )


# --- build_optimizer -----------------------------------------------------------------------------


def test_built_optimizer_follows_the_stage():
    optimizer = build_optimizer(
        stage_with(
            steps=6,
            name="adamw",
            learning_rate=0.5,
            schedule="linear",
            warmup_updates=2,
            clip_norm=0.0,
            b1=0.8,
            b2=0.9,
            epsilon=0.1,
            weight_decay=0.3,
        )
    )
    np.testing.assert_allclose(
        [optimizer.schedule(update) for update in range(6)], [0.25, 0.5, 0.5, 0.375, 0.25, 0.125]
    )
    expected = adamw_by_hand(1, 0.25, b1=0.8, b2=0.9, epsilon=0.1, weight_decay=0.3)
    np.testing.assert_allclose(run(optimizer)["w"], expected, rtol=1e-6)


def test_schedule_counts_updates_not_steps():
    stage = dict(
        method="grpo",
        steps=2,
        batch=dict(
            prompts_per_step=4, samples_per_prompt=4, sequences_per_update=8, epochs_per_step=2
        ),
        optimizer=dict(learning_rate=1.0, schedule="linear"),
    )
    data = dict(tasks=(dict(name="chain_sum"),))
    (resolved,) = validate(complete(ConfigDict(dict(stages=("rl",), data=data, rl=stage))))
    schedule = build_optimizer(resolved).schedule
    np.testing.assert_allclose([schedule(0), schedule(4), schedule(8)], [1, 0.5, 0])


@pytest.mark.parametrize(
    "settings, words",
    [
        (dict(name="adamv"), ["'adamv'", "Did you mean 'adamw'", "config.fit.optimizer.name"]),
        (dict(schedule="cosin"), ["'cosin'", "'cosine'", "config.fit.optimizer.schedule"]),
        (dict(name="sgd", b1=0.9), ["b1=0.9", "never read", "momentum", "config.fit.optimizer"]),
        (dict(name="adamw", momentum=0.5), ["momentum=0.5", "never read", "b1"]),
        (dict(name="lion", epsilon=1e-8), ["epsilon", "never read", "weight_decay"]),
        (dict(end_fraction=0.5), ["end_fraction=0.5", "never read", "constant"]),
    ],
)
def test_bad_optimizer_settings_are_named(settings, words):
    with pytest.raises(ValueError) as error:
        build_optimizer(stage_with(**settings))
    for word in words:
        assert word in str(error.value)


def test_a_field_of_the_chosen_schedule_is_read():
    optimizer = build_optimizer(
        stage_with(steps=4, learning_rate=1.0, schedule="cosine", end_fraction=0.5)
    )
    np.testing.assert_allclose([optimizer.schedule(0), optimizer.schedule(4)], [1.0, 0.5])


@pytest.mark.parametrize("name", ["adamw", "lion"])
def test_the_first_moment_can_be_bfloat16(name):
    """Half its bytes; the second moment and the updates stay float32, and close."""
    params = {"w": jnp.linspace(-1.0, 1.0, 64)}
    gradient = {"w": jnp.sin(jnp.arange(64.0))}
    updates = {}
    for dtype in ("float32", "bfloat16"):
        optimizer = OPTIMIZERS[name](lambda count: 1e-2, moment_dtype=dtype)
        state = optimizer.init(params)
        for _ in range(5):
            changes, state = optimizer.update(gradient, state, params)
        updates[dtype] = changes["w"]
        assert state[0].mu["w"].dtype == dtype and changes["w"].dtype == jnp.float32
        assert name == "lion" or state[0].nu["w"].dtype == jnp.float32
    np.testing.assert_allclose(updates["bfloat16"], updates["float32"], rtol=2e-2, atol=1e-8)


def test_the_policys_schedule_leaves_out_updates_of_the_critic_alone():
    """8 updates, the first 4 of the critic alone: the policy's rate falls over the last 4."""
    stage = dict(
        method="ppo",
        steps=4,
        batch=dict(prompts_per_step=4, samples_per_prompt=4, sequences_per_update=8),
        critic=dict(warmup_updates=4, learning_rate=2.0),
        optimizer=dict(learning_rate=1.0, schedule="linear"),
    )
    data = dict(tasks=(dict(name="chain_sum"),))
    (resolved,) = validate(complete(ConfigDict(dict(stages=("rl",), data=data, rl=stage))))
    policy, critic = build_optimizer(resolved).schedule, build_critic_optimizer(resolved).schedule
    assert resolved.batch.updates_per_step == 2
    np.testing.assert_allclose([policy(0), policy(2), policy(4)], [1, 0.5, 0])
    np.testing.assert_allclose([critic(0), critic(4), critic(8)], [2, 1, 0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_rate_is_that_of_the_next_update(name):
    optimizer = build_optimizer(
        stage_with(steps=4, name=name, learning_rate=1.0, schedule="linear", clip_norm=1.0)
    )
    state = optimizer.init(PARAMS)
    for rate in (1.0, 0.75, 0.5):
        np.testing.assert_allclose(optimizer.rate(state), rate)
        _, state = optimizer.update(GRADIENT, state, PARAMS)
