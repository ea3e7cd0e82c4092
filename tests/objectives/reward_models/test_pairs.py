"""Bradley-Terry on scores; parity with TRL and OpenRLHF is in tests/golden."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rljax.objectives.reward_models import bradley_terry

CHOSEN, REJECTED = jnp.array([1.0, -0.5, 0.25]), jnp.array([0.0, 1.5, 0.25])


def log_sigmoid(x):
    return -np.log1p(np.exp(-np.asarray(x, np.float64)))


def test_hand_values():
    loss, metrics = bradley_terry(CHOSEN, REJECTED)
    np.testing.assert_allclose(loss, -log_sigmoid([1.0, -2.0, 0.0]), rtol=1e-6)
    assert float(metrics["reward_accuracy"].mean()) == pytest.approx(1 / 3)  # a tie is no win
    assert float(metrics["reward_margin"].mean()) == pytest.approx(-1 / 3)
    assert float(metrics["reward_chosen"].mean()) == pytest.approx(0.25)
    shifted, _ = bradley_terry(CHOSEN, REJECTED, score_margin=0.5)
    np.testing.assert_allclose(shifted, -log_sigmoid([0.5, -2.5, -0.5]), rtol=1e-6)
    smooth, _ = bradley_terry(CHOSEN, REJECTED, label_smoothing=0.1)
    expected = -0.9 * log_sigmoid([1, -2, 0]) - 0.1 * log_sigmoid([-1, 2, 0])
    np.testing.assert_allclose(smooth, expected, rtol=1e-6)
    centred, _ = bradley_terry(CHOSEN, REJECTED, center_weight=0.1)
    np.testing.assert_allclose(centred - loss, [0.1, 0.1, 0.025], rtol=1e-5)


def test_a_constant_matters_to_the_centring_alone():
    for weight, same in ((0.0, True), (0.01, False)):
        before, _ = bradley_terry(CHOSEN, REJECTED, center_weight=weight)
        after, _ = bradley_terry(CHOSEN + 3, REJECTED + 3, center_weight=weight)
        assert np.allclose(before, after, rtol=1e-5) == same


def test_the_gradient_of_one_side_is_minus_that_of_the_other():
    def total(chosen, rejected):
        return bradley_terry(chosen, rejected, label_smoothing=0.2)[0].sum()

    check_grads(total, (CHOSEN, REJECTED), order=1, modes=["rev"])
    chosen, rejected = jax.grad(total, argnums=(0, 1))(CHOSEN, REJECTED)
    np.testing.assert_allclose(chosen, -rejected, rtol=1e-6)
    far, _ = bradley_terry(jnp.array([-1e4]), jnp.array([1e4]))
    assert np.isfinite(far).all()


@pytest.mark.parametrize(
    "field, value, allowed",
    [("center_weight", -1.0, ">= 0"), ("label_smoothing", 0.5, r"\[0, 0.5\)")],
)
def test_fields_out_of_range(field, value, allowed):
    with pytest.raises(ValueError, match=rf"{field}.*{allowed}.*config.<stage>.objective.{field}"):
        bradley_terry(CHOSEN, REJECTED, **{field: value})
