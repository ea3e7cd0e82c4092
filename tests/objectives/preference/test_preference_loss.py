from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rljax.objectives.arrays import OF_REFERENCE, PREFERENCE_ARRAYS
from rljax.objectives.parts import inputs_of
from rljax.objectives.preference import (
    LINKS,
    METRICS,
    SCORES,
    preference_loss,
)

LOGISTIC, WITH_MARGIN = LINKS["logistic"], LINKS["logistic_with_margin"]
CHOSEN, REJECTED = jnp.array([-10.0, -20.0, -5.0]), jnp.array([-12.0, -18.0, -5.0])
REF_CHOSEN, REF_REJECTED = jnp.array([-11.0, -19.0, -6.0]), jnp.array([-11.0, -19.0, -6.0])
DPO = dict(score=SCORES["log_ratio"], link=LOGISTIC)


def arrays_of(*sides, reference=()):
    """Completions of one token with these log-probabilities [B] on each side."""
    logprobs = jnp.stack(sides, axis=1)[..., None]
    arrays = {"mask": jnp.ones(logprobs.shape, bool), "logprobs": logprobs}
    if reference:
        arrays["ref_sequence_logprobs"] = jnp.stack(reference, axis=1)
    return arrays


def loss(chosen=CHOSEN, rejected=REJECTED, beta=0.5, **link):
    return preference_loss(
        arrays_of(chosen, rejected, reference=(REF_CHOSEN, REF_REJECTED)),
        score=SCORES["log_ratio"],
        link=partial(LOGISTIC, beta=beta, **link),
        metrics=[partial(metric, beta=beta) for metric in METRICS[:2]] + list(METRICS[2:]),
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def test_hand_values():
    # Margins: 1 - (-1), -1 - 1 and 1 - 1.
    np.testing.assert_allclose(loss()[0], -np.log(sigmoid([1.0, -1.0, 0.0])), rtol=1e-6)
    np.testing.assert_allclose(
        loss(label_smoothing=0.1)[0],
        -0.9 * np.log(sigmoid([1, -1, 0])) - 0.1 * np.log(sigmoid([-1, 1, 0])),
        rtol=1e-6,
    )


def test_metrics():
    metrics = {name: float(metric.mean()) for name, metric in loss()[1].items()}
    expected = {
        "reward_chosen": 0.5 * (1 - 1 + 1) / 3,
        "reward_rejected": 0.5 * (-1 + 1 + 1) / 3,
        "reward_margin": 0.0,
        "reward_accuracy": 1 / 3,  # a tie is no success
        "logprob_chosen": -35 / 3,
        "logprob_rejected": -35 / 3,
        "ranking_accuracy": 1 / 3,
        "displaced_share": 1 / 3,
    }
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6, atol=1e-7, err_msg=name)


def test_at_the_reference_the_loss_is_log_two():
    np.testing.assert_allclose(loss(REF_CHOSEN, REF_REJECTED)[0], np.log(2), rtol=1e-6)


def test_gradient_is_minus_beta_times_sigmoid_of_minus_beta_margin():
    gradients = jax.grad(lambda c, r: loss(c, r)[0].sum(), (0, 1))(CHOSEN, REJECTED)
    expected = 0.5 * sigmoid([-1.0, 1.0, 0.0])
    np.testing.assert_allclose(gradients[0], -expected, rtol=1e-6)
    np.testing.assert_allclose(gradients[1], expected, rtol=1e-6)
    reference = jax.grad(
        lambda ref: preference_loss(
            arrays_of(CHOSEN, REJECTED, reference=(ref, REF_REJECTED)), **DPO
        )[0].sum()
    )(REF_CHOSEN)
    np.testing.assert_array_equal(reference, 0.0)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_gradients_agree_with_finite_differences_and_jit(label_smoothing):
    margin = jnp.array([-3.0, 0.0, 0.4, 5.0])
    link = partial(LOGISTIC, beta=0.7, label_smoothing=label_smoothing)
    np.testing.assert_allclose(jax.jit(link)(margin), link(margin), rtol=1e-6)
    with jax.enable_x64(True):
        check_grads(lambda d: link(d).sum(), (np.asarray(margin, np.float64),), 1, ["rev"])


def test_extreme_margins_stay_finite():
    margin = jnp.array([-1e4, 1e4])
    value, gradient = jax.value_and_grad(lambda d: LOGISTIC(d, beta=1.0).sum())(margin)
    assert float(value) == 1e4
    np.testing.assert_array_equal(gradient, [-1.0, 0.0])


def test_label_smoothing_has_a_finite_optimum():
    slope = jax.grad(lambda d: LOGISTIC(d, beta=0.5, label_smoothing=0.1).sum())
    np.testing.assert_allclose(slope(jnp.array([np.log(9) / 0.5])), 0.0, atol=1e-7)


def test_a_constant_per_prompt_changes_nothing_and_neither_does_the_order():
    shift = jnp.array([3.0, -7.0, 0.5])
    np.testing.assert_allclose(loss(CHOSEN + shift, REJECTED + shift)[0], loss()[0], rtol=1e-5)
    order = jnp.array([2, 0, 1])
    arrays = arrays_of(CHOSEN, REJECTED, reference=(REF_CHOSEN, REF_REJECTED))
    permuted, _ = preference_loss(
        {name: array[order] for name, array in arrays.items()},
        score=SCORES["log_ratio"],
        link=partial(LOGISTIC, beta=0.5),
    )
    np.testing.assert_allclose(permuted, loss()[0][order], rtol=1e-6)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(beta=0.0), "beta is 0.0"),
        (dict(label_smoothing=0.5), "label_smoothing is 0.5"),
        (dict(label_smoothing=-0.1), "label_smoothing is -0.1"),
    ],
)
def test_impossible_settings_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        LOGISTIC(jnp.zeros(1), **settings)


def reference_free(score, *sides, beta=0.5, **fields):
    return preference_loss(
        arrays_of(*sides),
        score=SCORES[score],
        link=partial(WITH_MARGIN, beta=beta, **fields),
        metrics=[partial(METRICS[0], beta=beta), partial(METRICS[1], beta=beta), *METRICS[2:]],
    )


def test_reward_model_without_reference_by_hand():
    # beta * (chosen - rejected) is 1, -1 and 0; a margin of 0.5 is taken off.
    losses, metrics = reference_free(
        "log_likelihood", CHOSEN, REJECTED, target_margin=0.5, label_smoothing=0.1
    )
    expected = -0.9 * np.log(sigmoid([0.5, -1.5, -0.5])) - 0.1 * np.log(sigmoid([-0.5, 1.5, 0.5]))
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    margins = jnp.array([0, 1.0, 2])
    each, _ = reference_free("log_likelihood", CHOSEN, REJECTED, target_margin=margins)
    np.testing.assert_allclose(each, -np.log(sigmoid([1.0, -2.0, -2.0])), rtol=1e-6)
    np.testing.assert_allclose(metrics["reward_chosen"].mean(), 0.5 * -35 / 3, rtol=1e-6)
    np.testing.assert_allclose(metrics["reward_accuracy"].mean(), 1 / 3, rtol=1e-6)
    assert "displaced_share" not in metrics


def test_without_reference_it_is_dpo_with_an_indifferent_one():
    losses, _ = reference_free("log_likelihood", CHOSEN, REJECTED, beta=0.3, target_margin=0.0)
    same = jnp.array([-4.0, -7.0, -1.0])
    dpo, _ = preference_loss(
        arrays_of(CHOSEN, REJECTED, reference=(same, same)),
        score=SCORES["log_ratio"],
        link=partial(LOGISTIC, beta=0.3),
    )
    np.testing.assert_allclose(losses, dpo, rtol=1e-6)


# Two pairs with chosen completions of 2 and 4 tokens and rejected ones of 1 and 2.
LENGTHS = np.array([[2, 1], [4, 2]])
TOKEN_MASK = jnp.arange(4) < LENGTHS[..., None]
TOKENS = jnp.array(
    [
        [[-1.0, -3.0, 9.0, np.nan], [-5.0, 9.0, 9.0, 9.0]],
        [[-1.0, -1.0, -2.0, -4.0], [-0.5, -0.5, 9.0, 9.0]],
    ]
)
SIMPO = dict(beta=2.0, target_margin=1.0)


def simpo(logprobs, **fields):
    return preference_loss(
        {"mask": TOKEN_MASK, "logprobs": logprobs},
        score=SCORES["mean_log_likelihood"],
        link=partial(WITH_MARGIN, **SIMPO, **fields),
        metrics=[partial(METRICS[0], beta=2.0), *METRICS[2:]],
    )


def test_simpo_by_hand():
    losses, metrics = simpo(TOKENS)
    # Means of the sides: -2 and -5, -2 and -0.5. 2 * 3 - 1 = 5 and 2 * -1.5 - 1 = -4.
    np.testing.assert_allclose(losses, -np.log(sigmoid([5.0, -4.0])), rtol=1e-5)
    smoothed, _ = simpo(TOKENS, label_smoothing=0.25)
    expected = -0.75 * np.log(sigmoid([5.0, -4.0])) - 0.25 * np.log(sigmoid([-5.0, 4.0]))
    np.testing.assert_allclose(smoothed, expected, rtol=1e-5)
    found = {name: float(metric.mean()) for name, metric in metrics.items()}
    assert found == pytest.approx(
        {
            "reward_chosen": 2 * (-2 - 2) / 2,
            "reward_rejected": 2 * (-5 - 0.5) / 2,
            "reward_margin": 2 * (3 - 1.5) / 2,
            "reward_accuracy": 0.5,
            "logprob_chosen": (-4 - 8) / 2,
            "logprob_rejected": (-5 - 1) / 2,
            "ranking_accuracy": 0.5,
        }
    )


def test_simpo_s_gradient():
    """-beta sigmoid(-d) / length on every token of a chosen completion; nothing outside it."""
    gradient = jax.grad(lambda logprobs: simpo(logprobs)[0].sum())(TOKENS)
    slope = 2.0 * sigmoid([-5.0, 4.0])[:, None] / LENGTHS
    expected = np.where(TOKEN_MASK, (slope * [-1, 1])[..., None], 0.0)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)
    with jax.enable_x64(True):
        tokens = np.where(TOKEN_MASK, np.asarray(TOKENS, np.float64), 0.0)
        check_grads(lambda x: simpo(x, label_smoothing=0.1)[0].sum(), (tokens,), 1, ["rev"])


def test_of_equal_lengths_and_without_a_target_simpo_is_a_scaled_likelihood():
    """beta / length is then the beta of the sums."""
    tokens = jnp.array([[[-1.0, -3.0], [-2.0, -5.0]]])
    arrays = {"mask": jnp.ones(tokens.shape, bool), "logprobs": tokens}
    mean, total = (
        preference_loss(
            arrays,
            score=SCORES[score],
            link=partial(WITH_MARGIN, beta=beta, target_margin=0.0),
        )[0]
        for score, beta in (("mean_log_likelihood", 2.0), ("log_likelihood", 1.0))
    )
    np.testing.assert_allclose(mean, total, rtol=1e-6)


def test_any_number_of_sides():
    """A link may read the scores of all sides; metrics compare the first with the others."""

    def softmax(side_scores, lengths, *, beta):
        return -jax.nn.log_softmax(beta * side_scores - lengths)[:, 0]

    third = jnp.array([-9.0, -30.0, -5.5])
    losses, metrics = preference_loss(
        arrays_of(CHOSEN, REJECTED, third),
        score=SCORES["log_likelihood"],
        link=partial(softmax, beta=0.5),
        metrics=METRICS,
    )
    scores = 0.5 * np.stack([CHOSEN, REJECTED, third], axis=1)
    np.testing.assert_allclose(losses, np.log(np.exp(scores - scores[:, :1]).sum(1)), rtol=1e-6)
    found = {name: float(metric.mean()) for name, metric in metrics.items()}
    assert found["logprob_rejected"] == pytest.approx((-21 / 2 - 48 / 2 - 10.5 / 2) / 3)
    assert found["ranking_accuracy"] == 0.0  # the third, the second and a tie
    one, logged = preference_loss(
        arrays_of(CHOSEN),
        score=SCORES["log_likelihood"],
        link=lambda side_scores: -side_scores[:, 0],
        metrics=METRICS,
    )
    np.testing.assert_array_equal(one, -CHOSEN)
    assert logged == {}


def test_a_part_without_its_arrays_is_an_error():
    with pytest.raises(ValueError, match="log_ratio' reads 'ref_sequence_logprobs'"):
        preference_loss(arrays_of(CHOSEN, REJECTED), **DPO)
    with pytest.raises(ValueError, match="logistic' reads 'margins', which is not there"):
        preference_loss(
            arrays_of(CHOSEN, REJECTED, CHOSEN), score=SCORES["log_likelihood"], link=LOGISTIC
        )


def test_metrics_name_described_arrays():
    parts = [*SCORES.values(), *LINKS.values(), *METRICS]
    assert {name for part in parts for name in inputs_of(part)} <= set(PREFERENCE_ARRAYS)
    assert set(PREFERENCE_ARRAYS) & OF_REFERENCE == {"ref_logprobs", "ref_sequence_logprobs"}


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(beta=0.0), "beta is 0.0; it must be > 0 "),
        (dict(label_smoothing=0.5), r"label_smoothing is 0.5; it must be in \[0, 0.5\)"),
    ],
)
def test_impossible_settings_of_a_link_with_a_margin(settings, message):
    with pytest.raises(ValueError, match=message):
        WITH_MARGIN(jnp.zeros(1), **settings)
