import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.batch_inputs import BATCH_INPUTS, TOKEN_WEIGHTS, weight_metrics
from rljax.objectives.batch_inputs.covariance import token_covariance
from rljax.objectives.surrogates import SURROGATES, clipped_tokens

N, T = 5, 8


def batch():
    keys = jax.random.split(jax.random.key(4), 5)
    mask = jax.random.bernoulli(keys[0], 0.7, (N, T)).at[1].set(False)
    logprobs = -3 * jax.random.uniform(keys[1], (N, T))

    def spoil(x):
        return jnp.where(mask, x, jnp.nan)

    return dict(
        current_logprobs=spoil(logprobs),
        old_logprobs=spoil(logprobs + 0.3 * jax.random.normal(keys[2], (N, T))),
        advantages=spoil(jax.random.normal(keys[3], (N, T))),
        mask=mask,
        noise=jax.random.uniform(keys[4], (N, T)),
    )


def covariance_inputs(arrays):
    return tuple(arrays[name] for name in ("current_logprobs", "advantages", "mask"))


def test_covariances_add_up_to_the_covariance_of_the_batch():
    arrays = batch()
    mask = np.asarray(arrays["mask"])
    got = token_covariance(*covariance_inputs(arrays))
    a, b = (np.asarray(arrays[name])[mask] for name in ("advantages", "current_logprobs"))
    np.testing.assert_allclose(got.sum() / mask.sum(), np.cov(a, b, bias=True)[0, 1], rtol=1e-4)
    np.testing.assert_array_equal(np.asarray(got)[~mask], 0.0)


@pytest.mark.parametrize("share", [0.0, 2e-4, 0.2, 1.0])
def test_kl_cov_takes_the_top_share_and_at_least_one(share):
    arrays = batch()
    mask = np.asarray(arrays["mask"])
    chosen = BATCH_INPUTS["high_covariance"](*covariance_inputs(arrays), covariance_share=share)
    values = np.asarray(token_covariance(*covariance_inputs(arrays)))
    count = max(1, int(mask.sum() * share))
    assert chosen.sum() == count
    top = np.sort(values[mask])[::-1][:count]
    np.testing.assert_allclose(np.sort(values[np.asarray(chosen)])[::-1], top)


def test_without_tokens_nothing_is_chosen():
    arrays = batch() | dict(mask=jnp.zeros((N, T), bool))
    assert not BATCH_INPUTS["high_covariance"](*covariance_inputs(arrays)).any()


def test_kl_cov_without_penalty_is_the_unclipped_policy_gradient():
    arrays = batch()
    log_ratio = arrays["current_logprobs"] - arrays["old_logprobs"]
    inputs = (log_ratio, log_ratio, arrays["advantages"], arrays["mask"])
    ours, _ = SURROGATES["kl_cov"](*inputs, arrays["mask"], covariance_kl_weight=0.0)
    np.testing.assert_array_equal(ours, SURROGATES["unclipped"](*inputs)[0])


def test_kl_cov_penalises_the_distance_of_chosen_tokens():
    x = jnp.array([[0.5, -0.5, 0.5]])
    chosen, mask = jnp.array([[True, True, False]]), jnp.ones((1, 3), bool)
    slope = jax.grad(
        lambda x: SURROGATES["kl_cov"](x, x, 0 * x, mask, chosen, covariance_kl_weight=2.0)[0].sum()
    )(x)
    np.testing.assert_allclose(slope, [[2.0, -2.0, 0.0]])


def clip_cov(arrays, **settings):
    names = ("current_logprobs", "old_logprobs", "advantages", "mask", "noise")
    return TOKEN_WEIGHTS["clip_cov"](*(arrays[name] for name in names), **settings)


def test_clip_cov_drops_candidates_only_and_so_many():
    arrays = batch()
    covariance = token_covariance(*covariance_inputs(arrays))
    log_ratio = arrays["current_logprobs"] - arrays["old_logprobs"]
    stopped = clipped_tokens(log_ratio, arrays["advantages"], arrays["mask"])
    candidates = arrays["mask"] & ~stopped & (covariance > 0.1) & (covariance < 5.0)
    bounds = dict(covariance_low=0.1, covariance_high=5.0)
    np.testing.assert_array_equal(
        clip_cov(arrays, covariance_share=1.0, **bounds), 1.0 - candidates
    )
    few = clip_cov(arrays, covariance_share=0.1, **bounds)
    assert int((few == 0).sum()) == int(0.1 * arrays["mask"].sum())
    assert bool((candidates | (few == 1)).all())
    metrics = weight_metrics(few, arrays["mask"])
    assert metrics["token_weight_zero_share"].total == (few == 0).sum()


def test_clip_cov_chooses_by_noise():
    arrays = batch()
    settings = dict(covariance_share=0.1, covariance_low=-9.0, covariance_high=9.0)
    first = clip_cov(arrays, **settings)
    other = clip_cov(arrays | dict(noise=1 - arrays["noise"]), **settings)
    assert (first == 0).sum() == (other == 0).sum()
    assert bool((first != other).any())


@pytest.mark.parametrize("high", [1.0, 0.5])
def test_clip_cov_with_empty_bounds_is_ppo(high):
    weights = clip_cov(batch(), covariance_low=1.0, covariance_high=high, covariance_share=1.0)
    np.testing.assert_array_equal(weights, 1.0)


def test_a_share_is_a_share():
    with pytest.raises(ValueError, match="covariance_share is 20"):
        BATCH_INPUTS["high_covariance"](*covariance_inputs(batch()), covariance_share=20)
