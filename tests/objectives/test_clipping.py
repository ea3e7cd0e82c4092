import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rljax.objectives.parts import apply, inputs_of
from rljax.objectives.ratios import RATIOS
from rljax.objectives.surrogates import SURROGATES, clipped, clipped_tokens

# Surrogates of a token's log-probability; those of draws of masks have tests of their own.
OF_TOKENS = [name for name, part in SURROGATES.items() if "draw_logprobs" not in inputs_of(part)]
ONE = jnp.ones((1, 1))
TRUE = ONE.astype(bool)


def value_and_slope(ratio, advantage, **settings):
    """Loss and its derivative in the log-probability, for one token."""

    def loss(logprob):
        log_ratio = RATIOS["token"](logprob * ONE, 0 * ONE, TRUE)
        return clipped(log_ratio, logprob * ONE, advantage * ONE, TRUE, **settings)[0].sum()

    return jax.value_and_grad(loss)(jnp.log(ratio))


@pytest.mark.parametrize(
    "ratio, advantage, loss, slope",
    [
        (1.1, 1.0, -1.1, -1.1),
        (2.0, 1.0, -1.28, 0.0),
        (0.5, 1.0, -0.5, -0.5),  # moved the wrong way: still pulled back
        (1.1, -1.0, 1.1, 1.1),
        (0.5, -1.0, 0.8, 0.0),
        (2.0, -1.0, 2.0, 2.0),  # moved the wrong way: still pushed down
        (2.0, 0.0, 0.0, 0.0),
        (1.27, 2.0, -2.54, -2.54),
    ],
)
def test_clipped_hand_values(ratio, advantage, loss, slope):
    got = value_and_slope(ratio, advantage, clip_low=0.2, clip_high=0.28)
    np.testing.assert_allclose(got, [loss, slope], rtol=1e-6)


@pytest.mark.parametrize(
    "ratio, advantage, loss, slope",
    [
        (2.0, -1.0, 2.0, 2.0),
        (4.0, -1.0, 3.0, 0.0),
        (4.0, 1.0, -1.2, 0.0),
        (0.5, -1.0, 0.8, 0.0),
    ],
)
def test_dual_clip_hand_values(ratio, advantage, loss, slope):
    np.testing.assert_allclose(
        value_and_slope(ratio, advantage, dual_clip=3.0), [loss, slope], rtol=1e-6
    )


def test_a_kl_to_the_old_policy_by_hand():
    """r = 2, A = 1: the clip keeps 1.2 without gradient; 1 / 2 - 1 + log 2 has slope 1 - 1 / 2."""

    def loss(log_ratio):
        mask = jnp.array([[True, False]])
        each, metrics = SURROGATES["clipped_old_kl"](
            log_ratio, log_ratio, jnp.ones((1, 2)), mask, old_kl_weight=0.1
        )
        return each.sum(), metrics

    log_ratio = jnp.log(jnp.array([[2.0, 7.0]]))
    (value, metrics), slope = jax.value_and_grad(loss, has_aux=True)(log_ratio)
    assert float(value) == pytest.approx(-1.2 + 0.1 * (np.log(2) - 0.5), rel=1e-6)
    np.testing.assert_allclose(slope, [[0.05, 0.0]], rtol=1e-6)
    assert float(metrics["old_kl"].mean()) == pytest.approx(np.log(2) - 0.5, rel=1e-6)


def grid():
    """Every sign and branch in one [3, 8] array, away from the kinks."""
    ratios = jnp.array([0.3, 0.7, 0.9, 1.0, 1.1, 1.5, 2.5, 5.0])
    advantages = jnp.array([-1.5, 0.0, 0.7])
    log_ratio, advantage = jnp.meshgrid(jnp.log(ratios), advantages)
    return log_ratio, advantage, jnp.ones(log_ratio.shape, bool).at[:, 3].set(False)


@pytest.mark.parametrize("dual_clip", [None, 3.0])
def test_the_loss_is_the_published_max_and_min(dual_clip):
    log_ratio, advantage, mask = grid()
    ratio = jnp.exp(log_ratio)
    expected = jnp.maximum(-advantage * ratio, -advantage * jnp.clip(ratio, 0.8, 1.28))
    if dual_clip:
        expected = jnp.where(advantage < 0, jnp.minimum(expected, -advantage * dual_clip), expected)
    settings = dict(clip_low=0.2, clip_high=0.28, dual_clip=dual_clip)
    loss, _ = clipped(log_ratio, log_ratio, advantage, mask, **settings)
    np.testing.assert_allclose(loss, jnp.where(mask, expected, 0.0), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dual_clip", [None, 3.0])
def test_clipped_tokens_are_those_without_gradient(dual_clip):
    log_ratio, advantage, mask = grid()
    settings = dict(clip_low=0.2, clip_high=0.28, dual_clip=dual_clip)
    slope = jax.grad(lambda x: clipped(x, x, advantage, mask, **settings)[0].sum())(log_ratio)
    dropped = clipped_tokens(log_ratio, advantage, mask, **settings)
    np.testing.assert_array_equal(slope == 0, dropped | (advantage == 0) | ~mask)
    assert not bool((dropped & ~mask).any())


def test_shares_are_reported_for_each_side():
    log_ratio, advantage, mask = grid()
    _, metrics = clipped(
        log_ratio, log_ratio, advantage, mask, clip_low=0.2, clip_high=0.28, dual_clip=3.0
    )
    totals = {name: (float(m.total), float(m.count)) for name, m in metrics.items()}
    # Below 0.8: 0.3 and 0.7; above 1.28: 1.5, 2.5 and 5; above 3: 5. 7 columns by 3 rows count.
    assert totals["clip_share_low"] == (2.0, 21.0)
    assert totals["clip_share_high"] == (3.0, 21.0)
    assert totals["dual_clip_share"] == (1.0, 21.0)
    ratios = [0.3, 0.7, 0.9, 1.1, 1.5, 2.5, 5.0]
    np.testing.assert_allclose(metrics["ratio_mean"].mean(), np.mean(ratios), rtol=1e-6)
    assert "dual_clip_share" not in clipped(log_ratio, log_ratio, advantage, mask)[1]


@pytest.mark.parametrize("name", OF_TOKENS)
def test_on_policy_every_surrogate_has_the_gradient_minus_advantage(name, with_batch_inputs):
    logprobs = jax.random.normal(jax.random.key(0), (3, 4))
    # The geometric mean has one advantage per row.
    shape = (3, 1) if name == "geometric_mean" else (3, 4)
    advantages = jnp.broadcast_to(jax.random.normal(jax.random.key(1), shape), (3, 4))
    mask = jax.random.bernoulli(jax.random.key(2), 0.7, (3, 4))
    arrays = with_batch_inputs(
        dict(logprobs=logprobs, old_logprobs=logprobs, advantages=advantages, mask=mask)
    )
    for ratio in RATIOS.values():

        def loss(lp, ratio=ratio):
            inputs = arrays | dict(logprobs=lp)
            inputs["log_ratio"] = apply(ratio, inputs)
            return apply(SURROGATES[name], inputs)[0].sum()

        np.testing.assert_allclose(
            jax.jit(jax.grad(loss))(logprobs), jnp.where(mask, -advantages, 0.0), rtol=1e-5
        )


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("name", OF_TOKENS)
def test_masked_slots_may_hold_anything(name, ratio, with_batch_inputs):
    mask = jnp.array([[True, False, False, False]])
    poison = jnp.array([[-1.0, -jnp.inf, jnp.nan, jnp.inf]])
    arrays = with_batch_inputs(
        dict(
            logprobs=poison,
            old_logprobs=jnp.where(mask, -1.1, -jnp.inf),
            advantages=jnp.where(mask, 1.0, jnp.nan),
            mask=mask,
        )
    )
    arrays |= {
        key: jnp.where(mask, value, jnp.nan)
        for key, value in arrays.items()
        if value.dtype == poison.dtype and key not in ("logprobs", "old_logprobs")
    }

    def loss(lp):
        inputs = arrays | dict(logprobs=lp)
        inputs["log_ratio"] = apply(RATIOS[ratio], inputs)
        return apply(SURROGATES[name], inputs)[0].sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(poison)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[:, 1:], 0.0)


def test_token_ratio_is_clamped_and_reads_the_old_policy():
    logprobs, old = jnp.array([[-1.0, -1.0, 0.0]]), jnp.array([[-1.5, -0.5, -50.0]])
    mask = jnp.ones((1, 3), bool)
    np.testing.assert_allclose(RATIOS["token"](logprobs, old, mask), [[0.5, -0.5, 20.0]])
    slope = jax.grad(lambda lp: RATIOS["token"](lp, old, mask).sum())(logprobs)
    np.testing.assert_array_equal(slope, [[1.0, 1.0, 0.0]])
    constant = jax.grad(lambda o: RATIOS["token"](logprobs, o, mask).sum())(old)
    np.testing.assert_array_equal(constant, 0.0)


def test_ratio_to_itself_is_one_whatever_the_old_policy():
    mask = jnp.array([[True, True, False]])
    logprobs = jnp.array([[-1.0, -3.0, -5.0]])
    value = RATIOS["none"](logprobs, logprobs + 2.0, mask)
    np.testing.assert_array_equal(value, 0.0)
    slope = jax.grad(lambda lp: RATIOS["none"](lp, logprobs, mask).sum())(logprobs)
    np.testing.assert_array_equal(slope, mask.astype(float))


@pytest.mark.parametrize("dual_clip", [None, 3.0])
def test_gradients_agree_with_finite_differences(dual_clip):
    log_ratio, advantage, mask = grid()
    with jax.enable_x64(True):
        x, a = np.asarray(log_ratio, np.float64) + 0.01, np.asarray(advantage, np.float64)
        loss = jax.jit(lambda x: clipped(x, x, a, mask, dual_clip=dual_clip)[0].sum())
        check_grads(loss, (x,), 1, ["rev"])


def test_jit_agrees():
    log_ratio, advantage, mask = grid()
    loss, metrics = clipped(log_ratio, log_ratio, advantage, mask, dual_clip=3.0)
    jitted, jitted_metrics = jax.jit(lambda x: clipped(x, x, advantage, mask, dual_clip=3.0))(
        log_ratio
    )
    np.testing.assert_allclose(jitted, loss, rtol=1e-6)
    for name, metric in metrics.items():
        np.testing.assert_allclose(jitted_metrics[name], metric, rtol=1e-6)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(clip_low=-0.1), "clip_low is -0.1"),
        (dict(clip_high=-0.1), "clip_high is -0.1"),
        (dict(dual_clip=1.0), "dual_clip is 1.0"),
    ],
)
def test_impossible_clips_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        clipped(ONE, ONE, ONE, TRUE, **settings)
    with pytest.raises(ValueError, match=message):
        clipped_tokens(ONE, ONE, TRUE, **settings)
