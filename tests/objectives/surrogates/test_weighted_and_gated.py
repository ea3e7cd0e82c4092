"""Hand values and limits of the surrogates that do not clip as PPO does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.aggregation import sequence_mean_token_mean
from rljax.objectives.surrogates import SURROGATES, clipped

ONE = jnp.ones((1, 1))
TRUE = ONE.astype(bool)


def value_and_slope(name, ratio, advantage, *extra, logprob=-1.0, **settings):
    """Loss of one token and its derivative in the log-probability."""

    def loss(lp):
        log_ratio = (lp - logprob + jnp.log(ratio)) * ONE
        arguments = (log_ratio, lp * ONE, advantage * ONE, TRUE)
        return SURROGATES[name](*arguments, *extra, **settings)[0].sum()

    return jax.jit(jax.value_and_grad(loss))(logprob)


@pytest.mark.parametrize(
    "ratio, advantage, settings, weight",
    [
        (1.1, 1.0, {}, 1.1),
        (2.0, 1.0, {}, 1.2),
        (2.0, -1.0, {}, 1.2),  # the weight is clipped whatever the sign, never the gradient
        (0.1, 1.0, {}, 0.1),
        (0.1, -1.0, dict(clip_low=0.2), 0.8),
        (0.1, 1.0, dict(clip_low=10.0), 0.1),
        (7.0, 2.0, dict(clip_high=4.0), 5.0),
    ],
)
def test_cispo_hand_values(ratio, advantage, settings, weight):
    got = value_and_slope("cispo", ratio, advantage, **settings)
    np.testing.assert_allclose(got, [weight * advantage, -weight * advantage], rtol=1e-5)


@pytest.mark.parametrize("advantage, tau", [(2.0, 1.0), (-1.0, 1.05)])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 3.0])
def test_sapo_hand_values(advantage, tau, ratio):
    gate = 1 / (1 + np.exp(-tau * (ratio - 1)))
    value = -advantage * 4 / tau * gate
    slope = -advantage * 4 * gate * (1 - gate) * ratio
    np.testing.assert_allclose(value_and_slope("sapo", ratio, advantage), [value, slope], rtol=1e-5)


@pytest.mark.parametrize("advantage, k, rate", [(1.0, 2.0, 3.0), (-1.0, 3.0, 2.0)])
@pytest.mark.parametrize("ratio", [0.3, 1.0, 4.0])
def test_vespo_weighs_with_the_gamma_shape(advantage, k, rate, ratio):
    weight = ratio**k * np.exp(rate * (1 - ratio))
    got = value_and_slope("vespo", ratio, advantage)
    np.testing.assert_allclose(got, [weight * advantage, -weight * advantage], rtol=2e-5)


def test_vespo_looks_at_the_whole_row():
    log_ratio = jnp.array([[0.4, -0.1, 9.0]])
    mask = jnp.array([[True, True, False]])
    _, metrics = SURROGATES["vespo"](log_ratio, log_ratio, jnp.ones((1, 3)), mask)
    expected = np.exp(0.3) ** 2 * np.exp(3 * (1 - np.exp(0.3)))
    np.testing.assert_allclose(metrics["sequence_weight_mean"].mean(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "old, new, advantage, kept",
    [
        (0.5, 0.64, 1.0, True),
        (0.5, 0.66, 1.0, False),
        (0.5, 0.34, 1.0, True),  # moved the wrong way
        (0.5, 0.34, -1.0, False),
        (0.5, 0.66, -1.0, True),
        (1e-4, 1e-3, 1.0, True),  # a ratio of 10, a difference of nothing
    ],
)
def test_total_variation_mask(old, new, advantage, kept):
    got = value_and_slope(
        "dppo_tv", new / old, advantage, jnp.log(old) * ONE, logprob=float(np.log(new))
    )
    weight = new / old if kept else 0.0
    np.testing.assert_allclose(
        got, [-weight * advantage * np.log(new), -weight * advantage], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    "old, new, advantage, kept",
    [
        (0.5, 0.6, 1.0, True),  # kl 0.0204
        (0.5, 0.7, 1.0, False),  # 0.0872
        (0.5, 0.7, -1.0, True),
        (0.5, 0.3, -1.0, False),
        (1.0, 1.0, 1.0, True),
        (1.0, 0.9, -1.0, False),  # 0.105
    ],
)
def test_kl_mask(old, new, advantage, kept):
    got = value_and_slope(
        "dppo_kl", new / old, advantage, jnp.log(old) * ONE, logprob=float(np.log(new))
    )
    weight = new / old if kept else 0.0
    np.testing.assert_allclose(got[1], -weight * advantage, rtol=1e-4, atol=1e-6)


def test_the_ratio_of_a_kept_token_is_capped():
    extra = (jnp.log(1e-4) * ONE,)
    got = value_and_slope("dppo_tv", 50.0, 1.0, *extra, logprob=float(np.log(5e-3)))
    np.testing.assert_allclose(got[1], -20.0, rtol=1e-5)


def test_the_quadratic_penalty_pulls_back():
    got = value_and_slope("dro", np.exp(0.6), 2.0, quadratic_weight=0.5)
    np.testing.assert_allclose(got, [2.0 + 0.25 * 0.36, -2.0 + 0.5 * 0.6], rtol=1e-5)


@pytest.mark.parametrize("advantage", [1.5, -0.7])
@pytest.mark.parametrize("ratio", [0.5, 0.9, 1.0, 1.15, 1.4, 2.0, 5.0])
@pytest.mark.parametrize("cap", [1.1, 1.5, 3.0])
def test_capped_clip_is_the_published_minimum(advantage, ratio, cap):
    got = value_and_slope("clipped_capped", ratio, advantage, clip_high=0.28, ratio_cap=cap)
    clip = np.clip(ratio, 0.8, 1.28)
    expected = -min(min(ratio, cap) * advantage, clip * advantage)
    np.testing.assert_allclose(got[0], expected, rtol=1e-5)
    # The gradient is dropped exactly where the value does not move with the ratio.
    step = 1e-3 * ratio
    moved = -min(min(ratio + step, cap) * advantage, np.clip(ratio + step, 0.8, 1.28) * advantage)
    assert (got[1] == 0) == (abs(moved - expected) < 1e-9)


def test_a_high_cap_is_the_dual_clip():
    ratio = jnp.log(jnp.array([[0.3, 0.9, 1.5, 4.0]]))
    for sign in (1.0, -1.0):
        arguments = (ratio, ratio, sign * jnp.ones((1, 4)), jnp.ones((1, 4), bool))
        expected = clipped(*arguments, dual_clip=3.0)[0]
        ours = SURROGATES["clipped_capped"](*arguments, ratio_cap=3.0)[0]
        np.testing.assert_array_equal(ours, expected)


def test_geometric_mean_hand_values():
    log_ratio = jnp.array([[0.1, 0.9, -0.6, 5.0], [-0.9, 0.7, 0.0, 0.0]])
    mask = jnp.array([[True, True, True, False], [True, True, False, False]])
    advantages = jnp.array([[2.0], [-1.0]]) * mask

    def total(x):
        loss, metrics = SURROGATES["geometric_mean"](x, x, advantages, mask)
        return (sequence_mean_token_mean(mask) * loss).sum(), metrics

    (loss, metrics), slope = jax.value_and_grad(total, has_aux=True)(log_ratio)
    rows = np.array([-2.0 * np.exp((0.1 + 0.4 - 0.6) / 3), np.exp((-0.4 + 0.7) / 2)])
    np.testing.assert_allclose(loss, rows.mean(), rtol=1e-6)
    # Per row: its loss / (rows * length), 0 on clipped tokens.
    expected = [[rows[0] / 6, 0.0, rows[0] / 6, 0.0], [0.0, rows[1] / 4, 0.0, 0.0]]
    np.testing.assert_allclose(slope, expected, rtol=1e-6)
    totals = {name: float(metric.total) for name, metric in metrics.items()}
    assert totals["clip_share_high"] == 1 and totals["clip_share_low"] == 1
    assert totals["outside_share_positive"] == 2 and totals["outside_share_negative"] == 2


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("cispo", dict(clip_high=-1.0), "clip_high is -1.0"),
        ("clipped_capped", dict(ratio_cap=0.0), "ratio_cap is 0.0"),
        ("sapo", dict(sapo_temperature_positive=0.0), "sapo_temperature_positive is 0.0"),
        ("vespo", dict(vespo_rate_negative=-1.0), "vespo_rate_negative is -1.0"),
        ("geometric_mean", dict(log_clip_low=-0.1), "log_clip_low is -0.1"),
        ("dro", dict(quadratic_weight=-0.1), "quadratic_weight is -0.1"),
    ],
)
def test_impossible_fields_are_errors(name, settings, message):
    with pytest.raises(ValueError, match=message):
        SURROGATES[name](ONE, ONE, ONE, TRUE, **settings)
