"""Divergences against numbers computed by hand, and what each support does to them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.divergences import (
    DIVERGENCES,
    divergence,
    forward_kl,
    full,
    jensen_shannon,
    policy_top_k,
    reverse_kl,
    teacher_top_k,
)

P, Q = (0.5, 0.3, 0.2), (0.2, 0.3, 0.5)
ROWS = {
    "forward_kl": (forward_kl, 0.274887, (0.3, 0.0, -0.3)),
    "reverse_kl": (reverse_kl, 0.274887, (0.320702, -0.082466, -0.238236)),
    "half": (jensen_shannon, 0.066414, (0.072565, -0.009962, -0.062603)),
    "low": (
        functools.partial(jensen_shannon, other_share=0.1),
        0.024425,
        (0.026501, -0.000806, -0.025695),
    ),
    "high": (
        functools.partial(jensen_shannon, other_share=0.9),
        0.024425,
        (0.027957, -0.006521, -0.021436),
    ),
}


def between(log_p, count):
    """The k-th largest itself lies between it and the next one."""
    return jnp.sort(log_p, axis=-1)[..., -min(count, log_p.shape[-1])]


def value_and_gradient(term, support=full, p=P, q=Q):
    """Of one slot, the gradient in the policy's logits."""

    def value(logits):
        policy = jax.nn.log_softmax(logits)
        return divergence(support(policy, jnp.log(jnp.array(q)), between), term)

    found, gradient = jax.value_and_grad(value)(jnp.log(jnp.array(p)))
    return float(found), np.asarray(gradient)


@pytest.mark.parametrize("name", ROWS)
def test_values_and_gradients_of_three_tokens(name):
    term, value, gradient = ROWS[name]
    found, slope = value_and_gradient(term)
    assert found == pytest.approx(value, abs=1e-6)
    np.testing.assert_allclose(slope, gradient, atol=1e-6)


@pytest.mark.parametrize("name", ROWS)
def test_it_is_zero_with_its_gradient_where_both_are_equal(name):
    found, slope = value_and_gradient(ROWS[name][0], p=Q)
    assert found == pytest.approx(0.0, abs=1e-7)
    np.testing.assert_allclose(slope, 0.0, atol=1e-7)


SUPPORTED = {
    "teacher, normalised": (forward_kl, teacher_top_k, 2, False, (0.0, 0.225, -0.225)),
    "teacher, normalised, reverse": (reverse_kl, teacher_top_k, 2, False, (0.0, 0.21991, -0.21991)),
    "teacher, with the rest": (forward_kl, teacher_top_k, 2, True, (0.3, 0.0, -0.3)),
    "policy, normalised": (reverse_kl, policy_top_k, 2, False, (0.214756, -0.214756, 0.0)),
    "one and the rest": (forward_kl, teacher_top_k, 1, True, (0.1875, 0.1125, -0.3)),
    "one and the rest, reverse": (
        reverse_kl,
        teacher_top_k,
        1,
        True,
        (0.138629, 0.083178, -0.221807),
    ),
}


@pytest.mark.parametrize("name", SUPPORTED)
def test_gradients_on_the_likeliest_tokens(name):
    term, support, count, rest, gradient = SUPPORTED[name]
    support = functools.partial(support, support_tokens=count, support_rest=rest)
    np.testing.assert_allclose(value_and_gradient(term, support)[1], gradient, atol=1e-6)


def test_one_token_alone_says_nothing():
    support = functools.partial(teacher_top_k, support_tokens=1, support_rest=False)
    found, slope = value_and_gradient(forward_kl, support)
    assert found == 0.0 and not slope.any()


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("support", [teacher_top_k, policy_top_k])
def test_fewer_classes_are_never_farther_apart(name, support):
    rng = np.random.default_rng(0)
    for _ in range(20):
        p, q = rng.dirichlet(np.ones(6), 2)
        whole = value_and_gradient(DIVERGENCES[name], p=p, q=q)[0]
        found = [
            value_and_gradient(
                DIVERGENCES[name], functools.partial(support, support_tokens=count), p, q
            )[0]
            for count in (1, 3, 5, 6)
        ]
        assert found[0] <= found[1] + 1e-6 <= found[2] + 2e-6 <= whole + 4e-6
        # With one token outside, the rest is that token; with none, nothing.
        assert found[2] == pytest.approx(whole, rel=1e-4, abs=1e-6)
        assert found[3] == pytest.approx(whole, rel=1e-4, abs=1e-6)


def test_tokens_that_are_impossible_have_no_part():
    """Rows of a padded matrix are excluded by a logit of -1e30."""
    for term, value, gradient in ROWS.values():

        def compared(logits, term=term):
            policy = jax.nn.log_softmax(jnp.append(logits, -1e30))
            other = jax.nn.log_softmax(jnp.append(jnp.log(jnp.array(Q)), -1e30))
            return divergence(full(policy, other, between), term)

        found, slope = jax.value_and_grad(compared)(jnp.log(jnp.array(P)))
        assert float(found) == pytest.approx(value, abs=1e-6)
        np.testing.assert_allclose(slope, gradient, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_the_ends_of_jensen_shannon_are_other_options(share):
    with pytest.raises(ValueError, match="forward_kl and reverse_kl"):
        jensen_shannon(jnp.zeros(1), jnp.zeros(1), other_share=share)
