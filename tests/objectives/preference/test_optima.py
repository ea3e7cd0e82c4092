"""What each loss makes of a small discrete problem, found numerically, against its closed form.

One prompt, four answers with rewards r, a reference, every ordered pair weighted by how often it is
drawn and labelled so: reference(i) reference(j) P(i > j), P of Bradley and Terry. Losses are those
of the rows of the method table.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize

from rljax.registry import METHODS, resolve_objective
from rljax.training.families.preference import loss_of, whole_batch

REWARDS, REF = np.array([1.0, 0.3, -0.2, -1.1]), np.array([0.4, 0.3, 0.2, 0.1])
FIRST, SECOND = np.array([(i, j) for i in range(4) for j in range(4)]).T
BETA = 0.5


def s(x):
    return 1 / (1 + np.exp(-x))


P = s(REWARDS[:, None] - REWARDS[None])
ROWS = [name for name, row in METHODS.items() if row.family == "preference"]


def pair_losses(method, fields, logprobs, reference, first=FIRST, second=SECOND):
    """Losses [pairs] of completions of one token with these log-probabilities [answers]."""
    objective = resolve_objective(method, fields)
    sides = np.stack([first, second], axis=1)
    arrays = {
        "mask": jnp.ones((*sides.shape, 1), bool),
        "logprobs": logprobs[sides][..., None],
        "ref_logprobs": reference[sides][..., None],
        "ref_sequence_logprobs": reference[sides],
        "mean_chosen_length": jnp.ones(len(sides)),
        "usable": jnp.ones(len(sides), bool),
        # Of groups of one, and of completions with the rewards as their ratings.
        "present": jnp.ones(sides.shape, bool),
        "chosen_sides": jnp.broadcast_to(jnp.arange(2) == 0, sides.shape),
        "ratings": jnp.asarray(REWARDS)[sides],
        "current_sequence_logprobs": logprobs[sides],
        "current_logprobs": logprobs[sides][..., None],
        "current_log_collision": jnp.zeros((*sides.shape, 1)),
    }
    return loss_of(objective)(arrays | whole_batch(objective, arrays))[0]


def minimiser(population, start):
    """The argument at which a scalar function is smallest; it must have a stationary point."""
    both = jax.jit(jax.value_and_grad(population))
    found = minimize(
        lambda x: tuple(np.asarray(a, np.float64) for a in both(x)),
        start,
        jac=True,
        method="BFGS",
        options=dict(gtol=1e-10, maxiter=2000),
    )
    assert np.abs(found.jac).max() < 1e-7, found.message
    return found.x


def optimum(method, flips=0.0, **fields):
    """The policy that a loss is smallest at."""
    preferred = (1 - flips) * P + flips * P.T
    weights = (REF[:, None] * REF[None] * preferred)[FIRST, SECOND]

    def population(logits):
        logprobs = jax.nn.log_softmax(logits)
        return weights @ pair_losses(method, fields, logprobs, jnp.log(REF))

    with jax.enable_x64(True):
        return np.asarray(jax.nn.softmax(minimiser(population, np.log(REF))))


def tilted(logits):
    values = REF * np.exp(logits)
    return values / values.sum()


def where(inverse, lowest, highest):
    """reference * f'^-1(r / beta + c) with the constant c at which it sums to 1."""
    rewards = REWARDS / BETA
    c = brentq(lambda c: (REF * inverse(rewards + c)).sum() - 1, lowest, highest)
    return REF * inverse(rewards + c)


def inverse_chi_squared(u):
    """t + log t = u."""
    return np.array([np.exp(brentq(lambda r, v=v: np.exp(r) + r - v, -60, 60)) for v in u])


DPO = tilted(REWARDS / BETA)
TOP = REWARDS.max() / BETA
# method, changed fields, share of flipped labels, closed form
OPTIMA = [
    ("dpo", {}, 0.0, DPO),
    ("mdpo", {}, 0.0, DPO),  # of groups of one
    ("mipo", {}, 0.0, tilted(P @ REF / BETA)),
    ("copg", {}, 0.0, DPO),  # rewards / beta, whoever wrote the completions and how often
    ("dpo_norm", {}, 0.0, DPO),  # of one token each
    ("ld_dpo", {}, 0.0, DPO),
    ("robust_dpo", {}, 0.1, DPO),
    ("chi_po", dict(score="log_ratio", largest_reward=50.0), 0.0, DPO),
    ("ipo_sum", {}, 0.0, tilted(P @ REF / BETA)),
    ("ipo", {}, 0.0, tilted(P @ REF / BETA)),
    ("f_dpo", {}, 0.0, where(lambda u: np.exp(u) / (2 - np.exp(u)), -50, np.log(2) - TOP - 1e-12)),
    ("f_dpo", dict(score="forward_kl"), 0.0, where(lambda u: 1 / (1 - u), -50, 1 - TOP - 1e-12)),
    (
        "f_dpo",
        dict(score="alpha_divergence", divergence_alpha=0.5),
        0.0,
        where(lambda u: (1 - u / 2) ** -2.0, -50, 2 - TOP - 1e-9),
    ),
    ("chi_po", dict(largest_reward=50.0), 0.0, where(inverse_chi_squared, -30, 30)),
]


@pytest.mark.parametrize("method, fields, flips, expected", OPTIMA)
def test_the_minimiser_has_its_closed_form(method, fields, flips, expected):
    assert expected.sum() == pytest.approx(1.0)
    found = optimum(method, flips, beta=BETA, **fields)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_closed_forms_are_those_of_the_sheet():
    np.testing.assert_allclose(DPO, (0.8103, 0.1499, 0.0368, 0.0030), atol=5e-5)
    np.testing.assert_allclose(tilted(P @ REF / BETA), (0.5133, 0.2819, 0.1507, 0.0540), atol=5e-5)


def test_smoothed_labels_and_flipped_labels_have_one_optimum():
    smoothed = optimum("cdpo", beta=BETA)
    np.testing.assert_allclose(smoothed, (0.7417, 0.1906, 0.0594, 0.0083), atol=5e-5)
    np.testing.assert_allclose(optimum("dpo", 0.1, beta=BETA), smoothed, atol=2e-5)


# Two answers, P of the first being better: the margin d at the minimum.
BETTER = 0.7
LOGIT = np.log(BETTER / (1 - BETTER))
MARGINS = [
    ("dpo", {}, LOGIT / BETA),
    ("cpo", dict(chosen_nll="none"), LOGIT / BETA),
    ("exo", dict(label_smoothing=0.1), (2 * BETTER - 1) * np.log(9) / BETA),
    ("ipo_sum", {}, (2 * BETTER - 1) / (2 * BETA)),
    ("simpo", dict(target_margin=0.0), LOGIT / BETA),
    ("genarm", {}, LOGIT / BETA),
]


@pytest.mark.parametrize("method, fields, expected", MARGINS)
def test_margins_of_two_answers(method, fields, expected):
    first, second = np.array([0, 1]), np.array([1, 0])
    weights = np.array([BETTER, 1 - BETTER])

    def population(margin):
        logprobs = jnp.array([margin[0], 0.0]) / 2 + jnp.array([0.0, -margin[0]]) / 2 - 40.0
        return weights @ pair_losses(
            method, dict(beta=BETA, **fields), logprobs, jnp.full(2, -40.0), first, second
        )

    with jax.enable_x64(True):
        np.testing.assert_allclose(minimiser(population, np.zeros(1)), expected, rtol=1e-5)


# How often an answer is chosen and rejected in all pairs with another one.
CHOSEN = (REF[:, None] * REF * P).sum(axis=1)
REJECTED = (REF[:, None] * REF * P).sum(axis=0)
# Losses of sides have their minimum in every log-ratio by itself, where that is free.
SCORES = [
    ("bco_pair", np.log(CHOSEN / REJECTED) / BETA),
    ("nca", np.log(2 * CHOSEN / (CHOSEN + REJECTED)) / BETA),
    ("sppo", (CHOSEN - REJECTED) / (CHOSEN + REJECTED) / (2 * BETA)),
]


@pytest.mark.parametrize("method, expected", SCORES)
def test_log_ratios_of_losses_of_sides(method, expected):
    weights = (REF[:, None] * REF * P)[FIRST, SECOND]

    def population(values):
        return weights @ pair_losses(method, dict(beta=BETA), values, jnp.zeros(4))

    with jax.enable_x64(True):
        np.testing.assert_allclose(minimiser(population, np.zeros(4)), expected, atol=1e-6)


AT_REFERENCE = {
    **dict.fromkeys(
        "dpo tr_dpo cdpo robust_dpo dpo_norm ld_dpo aot aot_unpaired f_dpo chi_po".split(),
        np.log(2),
    ),
    "wpo": 0.25 * 0.5 * np.log(2),  # the weight is exp of both log-probabilities
    "hinge": 1.0,
    "ipo": 1 / (4 * BETA**2),
    "ipo_sum": 1 / (4 * BETA**2),
    "sppo": 1 / (2 * BETA**2),
    "nca": 2 * np.log(2),
    "bco_pair": 2 * np.log(2),
    "apo_zero": 1.0,
    "apo_down": 1.0,
    "exo": -np.log(2) - 0.5 * np.log(1e-3 * (1 - 1e-3)),
    "discopop": 0.5 * (np.log(2) + 1),
    "rpo": np.log(2) + np.log(2),
    "codpo": np.log(2) + np.log(2),
    "mdpo": np.log(2),
    "mipo": 1 / (4 * BETA**2),
    "copg": (REWARDS[0] - REWARDS[1]) ** 2 / (2 * BETA),
    "vrpo": np.log(2) + 0.05 * np.log(2),
    "mpo": 0.8 * np.log(2) + 0.2 * 2 * np.log(2) + np.log(2),
}


@pytest.mark.parametrize("method", ROWS)
def test_closed_form_where_the_policy_is_the_reference(method):
    """Of a chosen side of probability 1/2 and a rejected one of probability 1/4."""
    objective = resolve_objective(method, {})
    logprobs = jnp.log(jnp.array([0.5, 0.25]))
    fields = {"beta": BETA} if "beta" in objective.values else {}
    found = pair_losses(method, fields, logprobs, logprobs, np.array([0]), np.array([1]))
    assert (method in AT_REFERENCE) == objective.needs_reference
    expected = AT_REFERENCE.get(method)
    if expected is None:
        assert np.isfinite(found).all()
    else:
        np.testing.assert_allclose(found, [expected], rtol=1e-5)
