"""Step-KTO: a completion and its steps, against sums by hand and against KTO."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rljax.objectives.parts import inputs_of
from rljax.objectives.unpaired import UNPAIRED_LINKS, kl_estimate, step_sums, unpaired_loss

STEP_KTO, BETA = UNPAIRED_LINKS["step_kto"], 0.5
RNG = np.random.default_rng(0)
IDS = np.array([[0, 0, 1, 2, 2, -1], [0, 1, 1, -1, -1, -1], [-1] * 6, [0, 0, 0, 0, 0, 0]])
MASK = np.array([[True] * 6, [True] * 4 + [False] * 2, [True] * 2 + [False] * 4, [True] * 6])
RATIOS = np.where(MASK, RNG.normal(size=IDS.shape), 0.0)
COUNTED = np.arange(6) < np.array([3, 2, 0, 1])[:, None]
STEP_LABELS = COUNTED & np.array([[1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0] * 6, [1] + [0] * 5])
STEP_LABELS = STEP_LABELS.astype(bool)
LABELS, LABELLED = np.array([True, False, True, False]), np.array([True, True, True, False])
Z, Z_STEPS = 0.3, 0.1


def arrays(ratios=RATIOS, **changes):
    """What the link reads; log-ratios are the policy's log-probabilities plus 2."""
    given = {
        "mask": MASK,
        "logprobs": ratios - 2.0,
        "ref_logprobs": np.full(IDS.shape, -2.0),
        "labels": LABELS,
        "labelled": LABELLED,
        "step_ids": IDS,
        "step_labels": STEP_LABELS,
        "step_counted": COUNTED,
        "kl_baseline": np.full(4, Z),
        "step_baseline": np.full(4, Z_STEPS),
    }
    return {name: jnp.asarray(array) for name, array in (given | changes).items()}


def loss(given=None, **fields):
    given = arrays() if given is None else given
    link = partial(STEP_KTO, beta=BETA, **fields)
    return link(*(given[name] for name in inputs_of(link)))


def v(r, z, right, up=1.0, down=1.0):
    x = BETA * (r - z)
    return up / (1 + np.exp(x)) if right else down / (1 + np.exp(-x))


def by_hand(up=1.0, down=1.0, outcome=1.0, step=1.0, reduce=np.mean):
    found = []
    for n in range(4):
        whole = v(RATIOS[n].sum(), Z, LABELS[n], up, down) if LABELLED[n] else 0.0
        each = [
            v(RATIOS[n][IDS[n] == h].sum(), Z_STEPS, STEP_LABELS[n, h], up, down)
            for h in range(6)
            if COUNTED[n, h]
        ]
        found.append(outcome * whole + step * (reduce(each) if each else 0.0))
    return found


@pytest.mark.parametrize(
    "fields, words",
    [
        ({}, {}),
        (dict(desirable_weight=1.3, undesirable_weight=0.7), dict(up=1.3, down=0.7)),
        (dict(outcome_weight=0.5, step_weight=2.0), dict(outcome=0.5, step=2.0)),
        (dict(step_reduction="sum"), dict(reduce=np.sum)),
    ],
)
def test_values_by_hand(fields, words):
    np.testing.assert_allclose(loss(**fields), by_hand(**words), rtol=1e-6)


def test_gradients():
    with jax.enable_x64(True):
        check_grads(lambda x: loss(arrays(x)).sum(), (RATIOS,), 1, ["rev"])
        given = arrays()
        frozen = jax.grad(lambda ref: loss(given | {"ref_logprobs": ref}).sum())
        np.testing.assert_array_equal(frozen(given["ref_logprobs"]), 0.0)


def test_without_the_steps_it_is_kto():
    kto = partial(UNPAIRED_LINKS["kto"], beta=BETA)
    expected = kto(RATIOS.sum(axis=1), np.zeros(4), LABELS, np.full(4, Z))
    given = arrays(labelled=np.ones(4, bool))
    np.testing.assert_allclose(loss(given, step_weight=0.0), expected, rtol=1e-5)
    # All of it one step that is labelled as the outcome is: KTO twice.
    whole = arrays(
        labelled=np.ones(4, bool),
        step_ids=np.where(MASK, 0, -1),
        step_counted=np.arange(6) < np.ones((4, 1)),
        step_labels=LABELS[:, None] & (np.arange(6) < 1),
        step_baseline=np.full(4, Z),
    )
    np.testing.assert_allclose(loss(whole), 2 * expected, rtol=1e-5)


def test_where_the_policy_is_the_reference():
    zero = dict(kl_baseline=np.zeros(4), step_baseline=np.zeros(4))
    found = loss(arrays(np.zeros(IDS.shape), **zero), desirable_weight=1.2, undesirable_weight=0.6)
    # (lambda of the outcome + mean lambda of the steps) / 2.
    expected = [(1.2 + (1.2 + 0.6 + 1.2) / 3) / 2, (0.6 + (0.6 + 1.2) / 2) / 2, 0.6, 0.6]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_steps_add_up_to_the_completion():
    full = np.where(IDS < 0, 0, IDS)
    sums = step_sums(jnp.asarray(RATIOS), jnp.asarray(full))
    np.testing.assert_allclose(sums.sum(axis=1), RATIOS.sum(axis=1), rtol=1e-5, atol=1e-6)
    found = step_sums(jnp.asarray(RATIOS), jnp.asarray(IDS))
    first = [RATIOS[0, :2].sum(), RATIOS[0, 2], RATIOS[0, 3:5].sum()]
    np.testing.assert_allclose(found[0, :3], first, rtol=1e-5)
    np.testing.assert_array_equal(found[2], 0.0)


def test_padding_changes_nothing():
    padded = {
        name: jnp.pad(array, ((0, 0), (0, 3)), constant_values=-1 if name == "step_ids" else 0)
        if array.ndim == 2
        else array
        for name, array in arrays().items()
    }
    np.testing.assert_allclose(loss(padded), loss(), rtol=1e-6)


def test_the_reference_point_of_steps_is_a_mean_over_all_steps():
    sums = step_sums(jnp.asarray(RATIOS), jnp.asarray(IDS))
    each = [RATIOS[n][IDS[n] == h].sum() for n in range(4) for h in range(6) if COUNTED[n, h]]
    assert abs(np.mean(each)) > 0.01
    found = float(kl_estimate(sums, jnp.asarray(COUNTED)))
    assert found == pytest.approx(max(np.mean(each), 0.0), rel=1e-5)
    assert float(kl_estimate(-sums, jnp.asarray(COUNTED))) == pytest.approx(
        max(-np.mean(each), 0.0), rel=1e-5
    )


def test_metrics_leave_out_what_has_no_label():
    given = arrays() | {"ref_sequence_logprobs": jnp.asarray(-2.0 * MASK.sum(axis=1))}
    _, metrics = unpaired_loss(given, link=partial(STEP_KTO, beta=BETA), beta=BETA)
    found = {name: float(metric.mean()) for name, metric in metrics.items()}
    sums = RATIOS.sum(axis=1)
    assert found["reward_desired"] == pytest.approx(BETA * sums[[0, 2]].mean(), rel=1e-5)
    assert found["reward_undesired"] == pytest.approx(BETA * sums[1], rel=1e-5)
    steps = np.asarray(step_sums(jnp.asarray(RATIOS), jnp.asarray(IDS)))
    right, wrong = COUNTED & STEP_LABELS, COUNTED & ~STEP_LABELS
    assert found["reward_right_steps"] == pytest.approx(BETA * steps[right].mean(), rel=1e-5)
    assert found["reward_wrong_steps"] == pytest.approx(BETA * steps[wrong].mean(), rel=1e-5)


def test_impossible_settings_are_errors():
    with pytest.raises(ValueError, match="beta is -1.0; it must be > 0"):
        STEP_KTO(*(arrays()[name] for name in inputs_of(STEP_KTO)), beta=-1.0)
    with pytest.raises(ValueError, match="step_reduction is 'max'; it must be 'mean' or 'sum'"):
        loss(step_reduction="max")
