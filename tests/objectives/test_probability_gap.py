import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.parts import apply
from rljax.objectives.policy_gradient import policy_gradient_loss
from rljax.objectives.ratios import RATIOS
from rljax.objectives.surrogates import SURROGATES

NAN = np.nan


def logs(probabilities):
    """Logarithms of one row; what is masked may be 0 or no probability at all."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return jnp.asarray(np.log(probabilities))[None]


def evaluate(option, policy, sampler, advantages, mask=None, ref=None, **fields):
    """Loss, gradient in the log-probabilities and metrics of one row of probabilities."""
    policy, sampler = np.atleast_1d(policy), np.atleast_1d(sampler)
    mask = np.ones(policy.shape, bool) if mask is None else np.asarray(mask, bool)
    given = {
        "behavior_logprobs": logs(sampler),
        "old_logprobs": logs(sampler),
        "advantages": jnp.asarray(np.broadcast_to(advantages, policy.shape) * 1.0)[None],
        "mask": jnp.asarray(mask)[None],
    }
    if ref is not None:
        given["ref_logprobs"] = logs(ref)
    surrogate = functools.partial(SURROGATES[option], **fields)

    def total(logprobs):
        loss, metrics = policy_gradient_loss(
            given | {"logprobs": logprobs}, ratio=RATIOS["token"], surrogate=surrogate
        )
        return loss.sum(), metrics

    (loss, metrics), gradient = jax.value_and_grad(total, has_aux=True)(logs(policy))
    return float(loss), np.asarray(gradient[0]), metrics


@pytest.mark.parametrize(
    "policy, sampler, advantage, kept",
    [
        (0.8, 0.4, 1.0, False),  # rose by .4
        (0.8, 0.7, 1.0, True),
        (2e-6, 1e-6, 1.0, True),  # the same ratio of 2, but no difference
        (0.4, 0.8, 1.0, True),  # moved the wrong way
        (0.4, 0.8, -1.0, False),
        (0.8, 0.4, -1.0, True),
        (0.4, 0.8, 0.0, False),
    ],
)
def test_what_is_dropped(policy, sampler, advantage, kept):
    loss, gradient, metrics = evaluate("probability_gap", policy, sampler, advantage)
    x, ratio = np.log(policy / sampler), policy / sampler
    # The quadratic term stays on tokens that are dropped.
    assert loss == pytest.approx(-kept * advantage * ratio + 1e-3 * x**2, rel=1e-5)
    assert gradient[0] == pytest.approx(-kept * advantage * ratio + 2e-3 * x, rel=1e-4, abs=1e-7)
    assert metrics["dropped_share"].mean() == (not kept)
    side = "dropped_share_high" if advantage > 0 else "dropped_share_low"
    assert metrics[side].mean() == (not kept)


def test_metrics_of_dropped_and_kept():
    policy, sampler = [0.8, 0.4, 0.5, 0.5], [0.4, 0.8, 0.25, 0.5]
    _, _, metrics = evaluate("probability_gap", policy, sampler, [1, -1, 1, 1], mask=[1, 1, 1, 0])

    def k3(r):
        return r - 1 - np.log(r)

    found = {name: float(m.mean()) for name, m in metrics.items()}
    assert found["dropped_share"] == pytest.approx(1.0)
    assert found["dropped_positive_share"] == pytest.approx(2 / 3)
    assert found["dropped_negative_share"] == pytest.approx(1 / 3)
    assert found["mismatch_kl_dropped"] == pytest.approx((2 * k3(2.0) + k3(0.5)) / 3, rel=1e-5)
    assert found["mismatch_kl_kept"] == 0


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_both_sides_are_bounded_whatever_the_advantage(advantage):
    policy, sampler = np.array([0.5, 0.3, 0.45]), 0.4 * np.ones(3)
    _, gradient, _ = evaluate(
        "probability_gap_both", policy, sampler, advantage, probability_bound=0.08
    )
    slope = np.array([0.0, 0.0, -advantage * 1.125]) + 2e-3 * np.log(policy / sampler)
    np.testing.assert_allclose(gradient, slope, rtol=1e-4)


def test_distillation_follows_the_reference():
    policy, sampler, ref = np.array([0.5, 0.1, 0.2]), np.array([0.5, 0.4, 0.2]), [0.7, 0.9, 0.1]
    loss, gradient, metrics = evaluate("reference_distillation", policy, sampler, NAN, ref=ref)
    advantage = np.log(ref / policy)
    kept = np.array([1, 0, 1])  # the second fell by .3
    np.testing.assert_allclose(
        gradient, -kept * advantage * policy / sampler + 2e-3 * np.log(policy / sampler), rtol=1e-4
    )
    assert metrics["reference_kl"].mean() == pytest.approx(-advantage.mean(), rel=1e-5)


def test_distillation_steps_down_the_kl():
    """In expectation over own samples the gradient is that of KL(policy || reference)."""
    ref = jnp.log(jnp.array([0.2, 0.5, 0.3]))
    logits = jnp.array([0.3, -0.2, 0.1])
    policy = jax.nn.softmax(logits)

    def expected_loss(logits):
        logprobs = jax.nn.log_softmax(logits)[:, None]
        old = jax.lax.stop_gradient(logprobs)
        mask = jnp.ones((3, 1), bool)
        loss, _ = SURROGATES["reference_distillation"](
            logprobs - old, logprobs, old, ref[:, None], mask
        )
        return policy @ loss[:, 0]

    def kl(logits):
        logprobs = jax.nn.log_softmax(logits)
        return jnp.exp(logprobs) @ (logprobs - ref)

    np.testing.assert_allclose(jax.grad(expected_loss)(logits), jax.grad(kl)(logits), atol=1e-6)


@pytest.mark.parametrize("option", ["probability_gap", "probability_gap_both"])
def test_on_policy_the_gradient_is_minus_the_advantage(option):
    _, gradient, metrics = evaluate(option, [0.3, 0.6], [0.3, 0.6], [1.5, -0.5])
    np.testing.assert_allclose(gradient, [-1.5, 0.5], rtol=1e-6)
    assert metrics["dropped_share"].mean() == 0


@pytest.mark.parametrize(
    "option", ["probability_gap", "probability_gap_both", "reference_distillation"]
)
def test_masked_slots_may_hold_anything(option):
    ref = np.array([0.3, NAN, 0.0])
    loss, gradient, metrics = evaluate(
        option, [0.5, NAN, 0.0], [0.4, 0.0, NAN], [1.0, NAN, np.inf], mask=[1, 0, 0], ref=ref
    )
    assert np.isfinite(loss) and np.isfinite(gradient).all() and not gradient[1:].any()
    assert all(np.isfinite(m.total) for m in metrics.values())
    loss, gradient, _ = evaluate(option, [0.5], [0.4], [1.0], mask=[0], ref=[0.3])
    assert loss == 0 and not gradient.any()


def test_errors_name_the_field():
    for option, fields in (
        ("probability_gap", dict(probability_high=1.5)),
        ("probability_gap", dict(mismatch_weight=-1.0)),
        ("probability_gap_both", dict(probability_bound=-0.1)),
        ("reference_distillation", dict(probability_low=2.0)),
    ):
        with pytest.raises(ValueError, match=f"{next(iter(fields))} is "):
            evaluate(option, [0.5], [0.4], [1.0], ref=[0.3], **fields)
    with pytest.raises(ValueError, match="reads 'behavior_logprobs'"):
        apply(SURROGATES["probability_gap"], {"log_ratio": 0, "logprobs": 0})
