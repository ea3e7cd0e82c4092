import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.supervised import entropy_loss, nll, token_noiser

V = 4
MASK = jnp.array([[True, True, False]])
TOKENS = jnp.array([[2, 0, -100]])
LOGITS = jax.random.normal(jax.random.key(0), (1, 3, V)).at[0, 2].set(jnp.nan)
NOISE = jax.random.uniform(jax.random.key(1), (1, 3, V)).at[0, 2].set(jnp.nan)


def expected(weight, share):
    logp = np.asarray(jax.nn.log_softmax(LOGITS))
    losses = []
    for t, token in enumerate([2, 0]):
        z = np.asarray(NOISE)[0, t].copy()
        z[token] = 0.0
        z /= z.sum()
        losses.append(-(1 - share) * logp[0, t, token] - weight * (z * logp[0, t]).sum())
    return [[*losses, 0.0]]


def test_the_paper_weighs_the_noise_once_and_the_code_twice():
    ours, _ = token_noiser(LOGITS, TOKENS, MASK, NOISE, noise_share=0.3)
    np.testing.assert_allclose(ours, expected(0.3, 0.3), rtol=1e-5)
    code, _ = token_noiser(LOGITS, TOKENS, MASK, NOISE, noise_share=0.3, noise_weight="squared")
    np.testing.assert_allclose(code, expected(0.09, 0.3), rtol=1e-5)


def test_without_noise_it_is_the_likelihood():
    logp = jax.nn.log_softmax(LOGITS)
    taken = jnp.take_along_axis(logp, jnp.maximum(TOKENS, 0)[..., None], -1)[..., 0]
    ours, metrics = token_noiser(LOGITS, TOKENS, MASK, NOISE, noise_share=0.0)
    plain, plain_metrics = nll(taken, MASK)
    np.testing.assert_allclose(ours, plain, rtol=1e-6)
    np.testing.assert_allclose(metrics["nll"].mean(), plain_metrics["nll"].mean(), rtol=1e-6)


def test_the_target_gets_no_noise():
    """With all the weight on noise, raising the target's logit raises the loss."""

    def loss(x):
        return token_noiser(x, TOKENS, MASK, NOISE, noise_share=1.0)[0].sum()

    slope = jax.grad(loss)(LOGITS)
    p = jax.nn.softmax(LOGITS)
    np.testing.assert_allclose(slope[0, 0, 2], p[0, 0, 2], rtol=1e-5)
    np.testing.assert_array_equal(slope[0, 2], 0.0)


def test_entropy_of_certain_and_of_uniform_policies():
    logits = jnp.stack([jnp.array([0.0, -jnp.inf, -jnp.inf, -jnp.inf]), jnp.zeros(V)])[None]
    loss, _ = entropy_loss(logits, jnp.ones((1, 2), bool))
    np.testing.assert_allclose(loss, [[0.0, np.log(V)]], atol=1e-6)
    slope = jax.grad(lambda x: entropy_loss(x, MASK)[0].sum())(LOGITS)
    assert np.isfinite(slope).all()
    np.testing.assert_array_equal(slope[0, 2], 0.0)


@pytest.mark.parametrize("settings", [dict(noise_share=1.5), dict(noise_weight="cubed")])
def test_impossible_fields_are_errors(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=name):
        token_noiser(LOGITS, TOKENS, MASK, NOISE, **settings)
