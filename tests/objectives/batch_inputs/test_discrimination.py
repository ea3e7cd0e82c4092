from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.batch_inputs import BATCH_INPUTS
from rljax.objectives.parts import apply
from rljax.objectives.ratios import RATIOS
from rljax.objectives.surrogates import SURROGATES

N, T = 12, 4
HINGE = dict(hinge_weight=50.0, hinge_margin=1e-3)


def batch():
    """Prompt 5 has 1 right of 4, prompt 2 has 2 of 3, prompt 9 none, prompt 7 is empty."""
    keys = jax.random.split(jax.random.key(1), 3)
    groups = jnp.array([5, 2, 5, 9, 2, 5, 9, 2, 5, 7, 9, 9])
    correct = jnp.array([1, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0]) > 0
    mask = jax.random.bernoulli(keys[0], 0.7, (N, T)).at[:, 0].set(True).at[9].set(False)
    logprobs = -2 * jax.random.uniform(keys[1], (N, T))
    return dict(
        logprobs=logprobs,
        current_logprobs=logprobs,
        old_logprobs=logprobs + 0.3 * jax.random.normal(keys[2], (N, T)),
        correct=correct,
        mask=mask,
        group_ids=groups,
    )


def bound(part, fields):
    """A part with those of the fields that it has."""
    return partial(part, **{k: v for k, v in fields.items() if k in part.__kwdefaults__})


def loss_gradient(arrays, **fields):
    """As a step does it: constants of the whole batch first, then a sum over tokens."""
    names = ("score_weights", "kl_pressure")
    arrays |= {name: apply(bound(BATCH_INPUTS[name], fields), arrays) for name in names}

    def total(lp):
        inputs = arrays | dict(logprobs=lp)
        inputs["log_ratio"] = apply(RATIOS["token"], inputs)
        return apply(bound(SURROGATES["disco"], fields), inputs)[0].sum()

    return jax.grad(total)(arrays["logprobs"]), arrays


def published(
    lp, arrays, *, disco_score, disco_temperature, hinge_estimator, hinge_weight, hinge_margin
):
    """-J + beta / 2 * max(K - delta, 0)^2 with loops over prompts."""
    mask, groups = arrays["mask"], np.asarray(arrays["group_ids"])
    reward = np.asarray(arrays["correct"])
    d = jnp.where(mask, lp - arrays["old_logprobs"], 0.0)
    each = lp if disco_score == "log_likelihood" else jnp.exp(d)
    scores = jnp.where(mask, each, 0.0).sum(-1) / jnp.maximum(mask.sum(-1), 1)
    prompts = [5, 2, 9]
    total = 0.0
    for prompt in prompts:
        right = np.flatnonzero((groups == prompt) & (reward == 1))
        wrong = np.flatnonzero((groups == prompt) & (reward == 0))
        if len(right) and len(wrong):
            negative = scores[wrong].mean()
            if disco_temperature is not None:
                tau = disco_temperature
                negative = tau * jnp.log(jnp.exp(scores[wrong] / tau).mean())
            total += scores[right].mean() - negative
    terms = -d if hinge_estimator == "k1" else jnp.exp(d) - 1 - d
    kl = jnp.where(mask, terms, 0.0).sum() / mask.sum()
    hinge = 0.5 * hinge_weight * jnp.maximum(kl - hinge_margin, 0.0) ** 2
    return -total / len(prompts) + hinge


@pytest.mark.parametrize("estimator", ["k1", "k3"])
@pytest.mark.parametrize("tau", [None, 0.5, 10.0])
@pytest.mark.parametrize("score", ["log_likelihood", "ratio"])
def test_the_linear_loss_has_the_gradient_of_the_objective(score, tau, estimator):
    arrays = batch()
    fields = dict(disco_score=score, disco_temperature=tau, hinge_estimator=estimator, **HINGE)
    ours, _ = loss_gradient(arrays, **fields)
    expected = jax.grad(published)(arrays["logprobs"], arrays, **fields)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)


def test_positive_weights_add_up_to_one_per_prompt_whatever_its_difficulty():
    arrays = batch()
    weights = apply(BATCH_INPUTS["score_weights"], arrays)
    for prompt, signed in ((5, 1 / 3), (2, 1 / 3), (9, 0.0)):
        rows = np.asarray(weights)[np.asarray(arrays["group_ids"]) == prompt]
        np.testing.assert_allclose(np.maximum(rows, 0).sum(), signed, rtol=1e-5)
        np.testing.assert_allclose(np.minimum(rows, 0).sum(), -signed, rtol=1e-5)
    np.testing.assert_array_equal(jnp.where(arrays["mask"], 0.0, weights), 0.0)


def test_a_high_temperature_is_the_uniform_version():
    arrays = batch()
    hot = apply(bound(BATCH_INPUTS["score_weights"], dict(disco_temperature=1e6)), arrays)
    flat = apply(bound(BATCH_INPUTS["score_weights"], dict(disco_temperature=None)), arrays)
    np.testing.assert_allclose(hot, flat, rtol=1e-5)


def test_a_low_temperature_picks_the_likeliest_wrong_sample():
    arrays = batch()
    cold = apply(bound(BATCH_INPUTS["score_weights"], dict(disco_temperature=1e-3)), arrays)
    wrong = np.array([2, 5, 8])
    mean = jnp.where(arrays["mask"], arrays["logprobs"], 0.0).sum(-1) / arrays["mask"].sum(-1)
    worst = wrong[np.argmax(np.asarray(mean)[wrong])]
    np.testing.assert_allclose(cold[worst].sum(), -1 / 3, rtol=1e-4)


def test_the_hinge_is_off_within_the_margin():
    arrays = batch()
    pressure = apply(bound(BATCH_INPUTS["kl_pressure"], dict(hinge_margin=10.0)), arrays)
    np.testing.assert_array_equal(pressure, 0.0)


def test_on_policy_both_scores_have_one_gradient():
    arrays = batch()
    arrays["old_logprobs"] = arrays["logprobs"]
    fields = dict(disco_temperature=None, **HINGE)
    ratio, _ = loss_gradient(arrays, disco_score="ratio", **fields)
    likelihood, _ = loss_gradient(arrays, disco_score="log_likelihood", **fields)
    np.testing.assert_allclose(ratio, likelihood, rtol=1e-5)


def test_homogeneous_groups_leave_the_constraint_alone():
    arrays = batch() | dict(correct=jnp.ones(N, bool))
    arrays["old_logprobs"] = arrays["logprobs"] + 0.1
    gradient, made = loss_gradient(arrays, **HINGE)
    np.testing.assert_array_equal(made["score_weights"], 0.0)
    tokens = arrays["mask"].sum()
    expected = -50.0 * (0.1 - 1e-3) / tokens * arrays["mask"]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4)


def test_row_order_and_group_names_do_not_matter():
    arrays = batch()
    order = jax.random.permutation(jax.random.key(3), N)
    moved = {name: array[order] for name, array in arrays.items()}
    moved["group_ids"] = 100 - moved["group_ids"]
    np.testing.assert_allclose(
        apply(BATCH_INPUTS["score_weights"], moved),
        apply(BATCH_INPUTS["score_weights"], arrays)[order],
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("score_weights", dict(disco_temperature=0.0), "disco_temperature is 0.0"),
        ("score_weights", dict(disco_score="sum"), "disco_score is 'sum'"),
        ("kl_pressure", dict(hinge_estimator="k2"), "hinge_estimator is 'k2'"),
    ],
)
def test_impossible_fields_are_errors(name, settings, message):
    with pytest.raises(ValueError, match=message):
        apply(bound(BATCH_INPUTS[name], settings), batch())
