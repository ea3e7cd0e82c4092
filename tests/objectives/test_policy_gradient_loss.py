from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rljax.objectives.aggregation import AGGREGATIONS
from rljax.objectives.kl import KL_ESTIMATORS
from rljax.objectives.parts import inputs_of
from rljax.objectives.policy_gradient import kl_in_reward, policy_gradient_loss
from rljax.objectives.ratios import RATIOS
from rljax.objectives.supervised import nll
from rljax.objectives.surrogates import SURROGATES

# Surrogates of a token's log-probability; those of draws of masks have tests of their own.
OF_TOKENS = [name for name, part in SURROGATES.items() if "draw_logprobs" not in inputs_of(part)]
N, T = 6, 5
PLAIN = dict(
    ratio=RATIOS["token"], surrogate=SURROGATES["clipped"], kl=None, kl_weight=0.0,
    entropy_weight=0.0,
)  # fmt: skip
FULL = PLAIN | dict(kl=KL_ESTIMATORS["k3_plus"], kl_weight=0.1, entropy_weight=0.02)


def batch(seed=0):
    """Random inputs; row 2 is empty."""
    keys = jax.random.split(jax.random.key(seed), 6)
    logprobs, noise, ref = (jax.random.normal(k, (N, T)) for k in keys[:3])
    mask = jax.random.bernoulli(keys[3], 0.7, (N, T)).at[2].set(False)
    return dict(
        logprobs=logprobs - 2.0,
        old_logprobs=logprobs - 2.0 + 0.3 * noise,
        ref_logprobs=logprobs - 2.0 + 0.3 * ref,
        entropy=jax.random.uniform(keys[4], (N, T)),
        advantages=jax.random.normal(keys[5], (N, 1)) * mask,
        mask=mask,
    )


def total(inputs, weights, settings=FULL):
    return jnp.sum(weights * policy_gradient_loss(inputs, **settings)[0])


def loss_and_gradients(inputs, weights, settings=FULL, jit=True):
    def of(differentiated, rest, weights):
        return total(differentiated | rest, weights, settings)

    differentiated = {name: inputs[name] for name in ("logprobs", "entropy")}
    rest = {name: value for name, value in inputs.items() if name not in differentiated}
    function = jax.value_and_grad(of)
    loss, gradients = (jax.jit(function) if jit else function)(differentiated, rest, weights)
    return loss, (gradients["logprobs"], gradients["entropy"])


def test_the_terms_add_up_with_their_signs():
    inputs = batch()
    loss, metrics = policy_gradient_loss(inputs, **FULL)
    mask = inputs["mask"]
    log_ratio = RATIOS["token"](inputs["logprobs"], inputs["old_logprobs"], mask)
    surrogate, _ = SURROGATES["clipped"](log_ratio, inputs["logprobs"], inputs["advantages"], mask)
    kl = KL_ESTIMATORS["k3"](inputs["logprobs"], inputs["ref_logprobs"], mask)
    expected = surrogate + 0.1 * kl - 0.02 * jnp.where(mask, inputs["entropy"], 0.0)
    np.testing.assert_allclose(loss, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(loss * ~mask, 0.0)
    count = mask.sum()
    for name, values in {
        "kl": kl,
        "entropy": inputs["entropy"],
        "old_policy_kl": -log_ratio,
    }.items():
        np.testing.assert_allclose(metrics[name].total, (values * mask).sum(), rtol=1e-5)
        assert metrics[name].count == count


def test_the_old_policy_is_really_used():
    inputs = batch()
    weights = AGGREGATIONS["token_mean"](inputs["mask"])
    other = inputs | dict(old_logprobs=inputs["logprobs"])
    assert abs(total(inputs, weights, PLAIN) - total(other, weights, PLAIN)) > 1e-3


@pytest.mark.parametrize("name", KL_ESTIMATORS)
def test_the_importance_weighted_kl_has_the_current_policys_gradient(name):
    """Tokens drawn from the old policy, all of them enumerated."""
    new, old, ref = (jnp.array(x) for x in ([0.3, -0.4, 0.9], [0.0, 0.6, 0.2], [0.1, 0.5, -0.2]))
    log = jax.nn.log_softmax
    settings = PLAIN | dict(kl=KL_ESTIMATORS[name], kl_weight=1.0, kl_importance_weighted=True)

    def mean(logits):
        rows = (x[:, None] for x in (log(logits), log(old), log(ref)))
        arrays = dict(zip(("logprobs", "old_logprobs", "ref_logprobs"), rows, strict=True))
        arrays |= dict(advantages=jnp.zeros((3, 1)), mask=jnp.ones((3, 1), bool))
        loss, _ = policy_gradient_loss(arrays, **settings)
        return jnp.exp(log(old)) @ loss[:, 0]

    kl = jax.grad(lambda x: jnp.sum(jnp.exp(log(x)) * (log(x) - log(ref))))(new)
    np.testing.assert_allclose(jax.jit(jax.grad(mean))(new), kl, atol=1e-6)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_micro_batch_split_changes_neither_loss_nor_gradient(aggregation):
    inputs = batch()
    weights = AGGREGATIONS[aggregation](inputs["mask"])
    loss, gradients = loss_and_gradients(inputs, weights)
    parts = [
        loss_and_gradients({k: v[cut] for k, v in inputs.items()}, weights[cut])
        for cut in (slice(0, 1), slice(1, 3), slice(3, 6))
    ]
    np.testing.assert_allclose(sum(part[0] for part in parts), loss, rtol=1e-5)
    for i, gradient in enumerate(gradients):
        joined = jnp.concatenate([part[1][i] for part in parts])
        np.testing.assert_allclose(joined, gradient, rtol=1e-5, atol=1e-7)


def test_padding_and_permutation_change_nothing():
    inputs = batch()
    weights = AGGREGATIONS["sequence_mean_token_mean"](inputs["mask"])
    expected = total(inputs, weights)
    order = jnp.array([3, 1, 5, 0, 2, 4])
    permuted = {k: v[order] for k, v in inputs.items()}
    padded = {
        k: jnp.pad(v, ((0, 1), (0, 2)), constant_values=False if k == "mask" else jnp.nan)
        for k, v in inputs.items()
    }
    for changed in (permuted, padded):
        weights = AGGREGATIONS["sequence_mean_token_mean"](changed["mask"])
        loss, gradients = loss_and_gradients(changed, weights)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_an_all_masked_batch_has_no_loss_and_no_nan(aggregation):
    inputs = batch() | dict(mask=jnp.zeros((N, T), bool))
    inputs["logprobs"] = inputs["logprobs"].at[0, 0].set(-jnp.inf)
    weights = AGGREGATIONS[aggregation](inputs["mask"])
    loss, gradients = loss_and_gradients(inputs, weights)
    assert loss == 0
    assert all((np.asarray(gradient) == 0).all() for gradient in gradients)
    _, metrics = policy_gradient_loss(inputs, **FULL)
    assert all(float(metric.mean()) == 0 for metric in metrics.values())


@pytest.mark.parametrize("surrogate", OF_TOKENS)
def test_supervised_learning_is_advantage_one_against_the_policy_itself(
    surrogate, with_batch_inputs
):
    inputs = batch() | dict(advantages=jnp.ones((N, T)))
    # Some parts compare with the old policy whatever the ratio's denominator is.
    inputs = with_batch_inputs(inputs | dict(old_logprobs=inputs["logprobs"]))
    weights = AGGREGATIONS["token_mean"](inputs["mask"])
    settings = PLAIN | dict(ratio=RATIOS["none"], surrogate=SURROGATES[surrogate])
    _, (gradient, _) = loss_and_gradients(inputs, weights, settings)
    expected = jax.grad(lambda lp: jnp.sum(weights * nll(lp, inputs["mask"])[0]))(
        inputs["logprobs"]
    )
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_gradients_agree_with_finite_differences_and_jit():
    inputs = batch(3)
    weights = AGGREGATIONS["token_mean"](inputs["mask"])
    jitted = loss_and_gradients(inputs, weights)
    plain = loss_and_gradients(inputs, weights, jit=False)
    for ours, expected in zip(jax.tree.leaves(jitted), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-7)
    settings = FULL | dict(
        # A plain estimator: the straight-through one has another gradient than its value.
        kl=KL_ESTIMATORS["k3"],
        kl_importance_weighted=True,
        surrogate=partial(SURROGATES["clipped"], clip_high=0.28),
    )
    with jax.enable_x64(True):
        inputs = {
            k: np.asarray(v) if k == "mask" else np.asarray(v, np.float64)
            for k, v in inputs.items()
        }

        def of(logprobs, entropy):
            changed = inputs | dict(logprobs=logprobs, entropy=entropy)
            return total(changed, np.asarray(weights, np.float64), settings)

        check_grads(jax.jit(of), (inputs["logprobs"], inputs["entropy"]), 1, ["rev"], rtol=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(kl_weight=0.1), "without an estimator"),
        (dict(kl_importance_weighted=True), "without an estimator"),
        (dict(kl=KL_ESTIMATORS["k1"]), "no ref_logprobs"),
        (dict(entropy_weight=0.1), "entropy_weight=0.1 needs"),
    ],
)
def test_a_term_without_its_input_is_an_error(change, message):
    inputs = {k: v for k, v in batch().items() if k not in ("ref_logprobs", "entropy")}
    with pytest.raises(ValueError, match=message):
        policy_gradient_loss(inputs, **(PLAIN | change))


def test_kl_in_the_reward_is_subtracted_and_constant():
    mask = jnp.array([[True, True, False]])
    rewards, logprobs = jnp.array([[0.0, 1.0, 0.0]]), jnp.array([[-1.0, -2.0, -3.0]])
    ref = jnp.array([[-1.5, -1.0, jnp.nan]])
    shaped = partial(kl_in_reward, kl_weight=0.1, kl=KL_ESTIMATORS["k1"])
    got = shaped(rewards, logprobs, ref, mask)
    np.testing.assert_allclose(got, [[-0.05, 1.1, 0.0]], rtol=1e-6)
    gradient = jax.grad(lambda lp: shaped(rewards, lp, ref, mask).sum())(logprobs)
    np.testing.assert_array_equal(gradient, 0.0)


def test_nll_hand_values():
    logprobs = jnp.array([[-1.0, -2.0, -jnp.inf]])
    loss, metrics = nll(logprobs, jnp.array([[True, True, False]]))
    np.testing.assert_array_equal(loss, [[1.0, 2.0, 0.0]])
    assert float(metrics["nll"].mean()) == 1.5
