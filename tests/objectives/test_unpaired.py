"""Losses of labelled completions against their formulas, and what they know of the whole batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rljax.objectives.arrays import UNPAIRED_ARRAYS
from rljax.objectives.parts import inputs_of
from rljax.objectives.unpaired import UNPAIRED_LINKS, kl_estimate, running_mean, unpaired_loss

POLICY, REFERENCE = np.array([-4.0, -9.0, -2.0, -7.0]), np.array([-5.0, -7.0, -2.5, -7.0])
LABELS = np.array([True, True, False, False])
R = POLICY - REFERENCE  # 1, -2, 0.5, 0
Z = np.full(4, 0.4)


def s(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


CASES = [
    ("kto", (Z,), {}, np.where(LABELS, 1 - s(0.5 * (R - 0.4)), 1 - s(0.5 * (0.4 - R)))),
    (
        "kto",
        (Z,),
        dict(desirable_weight=1.33, undesirable_weight=0.5),
        np.where(LABELS, 1.33 * (1 - s(0.5 * (R - 0.4))), 0.5 * (1 - s(0.5 * (0.4 - R)))),
    ),
    ("apo_zero_unpaired", (), {}, np.where(LABELS, 1 - s(0.5 * R), s(0.5 * R))),
    (
        "bco",
        (Z,),
        {},
        np.where(LABELS, -np.log(s(0.5 * R - 0.4)), -np.log(s(-(0.5 * R - 0.4)))),
    ),
]


@pytest.mark.parametrize("name, more, fields, expected", CASES)
def test_losses(name, more, fields, expected):
    link = partial(UNPAIRED_LINKS[name], beta=0.5, **fields)
    given = (jnp.asarray(POLICY), jnp.asarray(REFERENCE), jnp.asarray(LABELS))
    np.testing.assert_allclose(link(*given, *map(jnp.asarray, more)), expected, rtol=2e-6)
    with jax.enable_x64(True):
        check_grads(lambda x: link(x, REFERENCE, LABELS, *more).sum(), (POLICY,), 1, ["rev"])
    frozen = jax.grad(lambda ref: link(given[0], ref, given[2], *more).sum())(given[1])
    np.testing.assert_array_equal(frozen, 0.0)
    with pytest.raises(ValueError, match="beta is 0.0; it must be > 0"):
        UNPAIRED_LINKS[name](*given, *more, beta=0.0)


# The one of steps reads tokens: test_unpaired_steps.py.
WHOLE = [name for name in UNPAIRED_LINKS if name != "step_kto"]


def test_every_link_has_its_formula_here():
    assert {name for name, *_ in CASES} == set(WHOLE)
    named = {name for link in UNPAIRED_LINKS.values() for name in inputs_of(link)}
    assert named <= set(UNPAIRED_ARRAYS)


@pytest.mark.parametrize("name", WHOLE)
def test_extreme_log_ratios_stay_finite(name):
    count = len(inputs_of(UNPAIRED_LINKS[name])) - 3
    link = partial(UNPAIRED_LINKS[name], beta=1.0)
    given = jnp.array([False, True, True, False]), *([jnp.zeros(4)] * count)
    value, gradient = jax.value_and_grad(lambda x: link(x, jnp.zeros(4), *given).sum())(
        jnp.array([1e3, 1e3, -1e3, -1e3])
    )
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_all_ratios_at_the_baseline_give_half_of_the_weights():
    found = UNPAIRED_LINKS["kto"](
        jnp.full(4, 0.4), jnp.zeros(4), jnp.asarray(LABELS), jnp.full(4, 0.4), desirable_weight=1.2
    )
    np.testing.assert_allclose(found, [0.6, 0.6, 0.5, 0.5])


def test_the_baseline():
    ratios = jnp.array([1.0, -0.4, 100.0])
    present = jnp.array([True, True, False])
    assert float(kl_estimate(ratios, present)) == pytest.approx(0.3)
    assert float(kl_estimate(-ratios, present)) == 0.0  # never below
    assert float(kl_estimate(ratios, jnp.zeros(3, bool))) == 0.0  # and never NaN


def test_the_running_mean_counts_every_completion_once():
    total, count, mean = running_mean(
        jnp.zeros(()), jnp.zeros(()), jnp.array([1.0, 2.0, 9.0]), jnp.array([True, True, False])
    )
    assert float(mean) == 1.5
    total, count, mean = running_mean(total, count, jnp.array([6.0]), jnp.array([True]))
    assert (float(total), float(count), float(mean)) == (9.0, 3.0, 3.0)
    *_, empty = running_mean(jnp.zeros(()), jnp.zeros(()), jnp.ones(2), jnp.zeros(2, bool))
    assert float(empty) == 0.0


def test_loss_and_metrics_of_completions():
    mask = jnp.array([[True, True], [True, False], [False, False]])
    logprobs = jnp.array([[-1.0, -2.0], [-4.0, np.nan], [np.nan, np.nan]])
    arrays = {
        "mask": mask,
        "logprobs": logprobs,
        "ref_sequence_logprobs": jnp.array([-5.0, -3.0, 0.0]),
        "labels": jnp.array([True, False, False]),
        "kl_baseline": jnp.zeros(3),
    }
    each, metrics = unpaired_loss(arrays, link=partial(UNPAIRED_LINKS["kto"], beta=0.5), beta=0.5)
    np.testing.assert_allclose(each, [1 - s(1.0), 1 - s(0.5), 0.5], rtol=1e-6)
    found = {name: float(metric.mean()) for name, metric in metrics.items()}
    assert found == pytest.approx(
        {
            "reward_desired": 1.0,
            "logprob_desired": -3.0,
            "reward_undesired": -0.5,
            "logprob_undesired": -4.0,
        }
    )
    # Without desired completions nothing is NaN.
    arrays["labels"] = jnp.zeros(3, bool)
    _, metrics = unpaired_loss(arrays, link=partial(UNPAIRED_LINKS["kto"], beta=0.5))
    assert float(metrics["reward_desired"].mean()) == 0.0
