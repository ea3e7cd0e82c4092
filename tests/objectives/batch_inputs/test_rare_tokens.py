import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.batch_inputs import BATCH_INPUTS
from rljax.objectives.batch_inputs.rare_tokens import (
    not_noise,
    proxy_log_distribution,
    proxy_logprobs,
    without_noise,
)
from rljax.objectives.surrogates import SURROGATES
from rljax.sampling.distribution import TokenFilter, log_distribution, take

N, T = 4, 10
RARE = BATCH_INPUTS["rare_negatives"]


def batch():
    keys = jax.random.split(jax.random.key(2), 4)
    mask = jax.random.bernoulli(keys[0], 0.8, (N, T)).at[3].set(False)
    logprobs = -4 * jax.random.uniform(keys[1], (N, T))
    advantages = jax.random.normal(keys[2], (N, T))
    old = logprobs + 0.5 * jax.random.normal(keys[3], (N, T))
    return logprobs, old, advantages, mask


def lp_reg(logprobs, rare, proxy, **settings):
    _, old, advantages, mask = batch()
    inputs = (logprobs - old, logprobs, advantages, mask, proxy, rare)
    return SURROGATES["lp_reg"](*inputs, **settings)[0]


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 1.0])
def test_the_rarest_negative_tokens_are_found(share):
    logprobs, _, advantages, mask = batch()
    rare = RARE(logprobs, advantages, mask, rare_share=share)
    negative = np.asarray(mask & (advantages < 0))
    count = int(share * negative.sum())
    count = count if count > 1 else 0
    assert rare.sum() == count
    expected = np.sort(np.asarray(logprobs)[negative])[:count]
    np.testing.assert_array_equal(np.sort(np.asarray(logprobs)[np.asarray(rare)]), expected)


def test_the_papers_quantile_is_over_all_tokens():
    logprobs, _, advantages, mask = batch()
    rare = RARE(logprobs, advantages, mask, rare_share=0.5, rare_among="all")
    median = np.sort(np.asarray(logprobs)[np.asarray(mask)])[int(0.5 * mask.sum()) - 1]
    np.testing.assert_array_equal(rare, mask & (advantages < 0) & (logprobs <= median))


def test_without_negative_tokens_it_is_the_plain_loss():
    logprobs, old, advantages, mask = batch()
    rare = RARE(logprobs, jnp.abs(advantages), mask, rare_share=1.0)
    assert not rare.any()
    plain = SURROGATES["clipped"](
        logprobs - old, logprobs, advantages, mask, clip_low=1.0, clip_high=9.0
    )[0]
    np.testing.assert_array_equal(lp_reg(logprobs, rare, logprobs + 1.0), plain)


def test_a_weight_of_zero_only_takes_the_clip_away():
    logprobs, old, advantages, mask = batch()
    rare = RARE(logprobs, advantages, mask, rare_share=0.5)
    far = dict(clip_low=0.05, clip_high=0.05)  # so that there is something to clip
    inputs = (logprobs - old, logprobs, advantages, mask)
    expected = jnp.where(
        rare, SURROGATES["unclipped"](*inputs)[0], SURROGATES["clipped"](*inputs, **far)[0]
    )
    got = lp_reg(logprobs, rare, logprobs + 1.0, proxy_weight=0.0, **far)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_the_pull_is_upwards_zero_at_the_proxy_and_never_on_noise():
    logprobs = jnp.full((1, 3), -3.0)
    proxy = jnp.array([[-2.5, -3.0, -jnp.inf]])
    mask = jnp.ones((1, 3), bool)

    def pull(lp, proxy):
        with_, without = (
            SURROGATES["lp_reg"](0 * lp, lp, -jnp.ones((1, 3)), mask, proxy, mask, proxy_weight=w)
            for w in (1.0, 0.0)
        )
        return (with_[0] - without[0]).sum()

    slope, to_proxy = jax.grad(pull, (0, 1))(logprobs, proxy)
    np.testing.assert_allclose(slope, [[1 - np.exp(0.5), 0.0, 0.0]], rtol=1e-5)
    np.testing.assert_array_equal(to_proxy, 0.0)


LOGITS = jnp.log(jnp.array([[0.6, 0.3, 0.09, 0.01], [0.25, 0.25, 0.25, 0.25]]))


@pytest.mark.parametrize("rule", ["min_p", "fixed"])
def test_the_proxy_is_a_distribution_above_the_policy_on_what_it_keeps(rule):
    kept = not_noise(LOGITS, proxy_threshold=0.05, proxy_rule=rule)
    proxy = proxy_log_distribution(LOGITS, proxy_threshold=0.05, proxy_rule=rule)
    np.testing.assert_allclose(jnp.exp(proxy).sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(kept, [[True, True, True, False], [True] * 4])
    assert bool((jnp.where(kept, proxy - LOGITS, 0.0) >= -1e-6).all())
    assert proxy[0, 3] < -9000


def test_thresholds_at_both_ends():
    np.testing.assert_allclose(
        proxy_log_distribution(LOGITS, proxy_threshold=0.0), LOGITS, rtol=1e-6
    )
    strict = jnp.exp(proxy_log_distribution(LOGITS, proxy_threshold=1.0))
    np.testing.assert_allclose(strict, [[1, 0, 0, 0], [0.25] * 4], atol=1e-6)


def test_where_everything_is_noise_the_likeliest_stays():
    settings = dict(proxy_threshold=0.7, proxy_rule="fixed")
    assert not not_noise(LOGITS, **settings).any()
    proxy = jnp.exp(proxy_log_distribution(LOGITS, **settings))
    np.testing.assert_allclose(proxy, [[1, 0, 0, 0], [0.25] * 4], atol=1e-6)


def test_chosen_tokens_and_no_gradient_into_the_proxy():
    tokens = jnp.array([[1, 3]])
    got = proxy_logprobs(LOGITS[None], tokens, proxy_threshold=0.05)
    np.testing.assert_allclose(got, [[np.log(0.3 / 0.99), np.log(0.25)]], rtol=1e-5)
    slope = jax.grad(lambda x: proxy_logprobs(x, tokens).sum())(LOGITS[None])
    np.testing.assert_array_equal(slope, 0.0)


def test_a_scoring_pass_with_the_filter_gives_the_proxy():
    logits = 2 * jax.random.normal(jax.random.key(5), (6, 20, 9))
    tokens = jax.random.randint(jax.random.key(6), (6, 20), 0, 9)
    scored = log_distribution(logits, TokenFilter(min_p=0.1), taken=tokens)
    got = without_noise(take(scored, tokens), scored.max(axis=-1), proxy_threshold=0.1)
    expected = proxy_logprobs(logits, tokens, proxy_threshold=0.1)
    tail = np.asarray(expected < -9000)
    assert 0.2 < tail.mean() < 0.8
    np.testing.assert_array_equal(np.asarray(got) < -9000, tail)
    np.testing.assert_allclose(got[~tail], expected[~tail], rtol=1e-4, atol=1e-6)
    # Without it the tail would look kept, and likelier than under the policy.
    assert bool((take(scored, tokens) > take(jax.nn.log_softmax(logits), tokens)).any())


def test_on_policy_the_whole_policy_as_proxy_pulls_nothing():
    logprobs, _, advantages, mask = batch()
    rare = RARE(logprobs, advantages, mask, rare_share=1.0)

    def grad(w):
        return jax.grad(lambda lp: lp_reg(lp, rare, logprobs, proxy_weight=w).sum())

    np.testing.assert_array_equal(grad(1.0)(logprobs), grad(0.0)(logprobs))
