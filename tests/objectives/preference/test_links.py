"""Every score and link of the preference family against its formula, in float64 by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rljax.objectives.arrays import PREFERENCE_ARRAYS
from rljax.objectives.parts import inputs_of
from rljax.objectives.preference import (
    CHOSEN_NLL,
    DIVERGENCES,
    LINKS,
    MARGIN_LINKS,
    MATCHED,
    PAIR_WEIGHTS,
    QUANTILE_LINKS,
    SCORES,
    SIDE_LINKS,
)

D = np.array([-3.0, 0.0, 0.4, 5.0])
SIDES = np.array([[1.5, -0.5], [-2.0, 0.3], [0.0, 0.0], [0.2, 4.0]])
RW, RL = SIDES.T


def ls(x):
    return -np.log1p(np.exp(-np.asarray(x, np.float64)))


def s(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


Q = s(0.3 * D)
OF_MARGINS = [
    ("logistic", dict(beta=0.3), -ls(0.3 * D)),
    ("logistic", dict(beta=0.3, label_smoothing=0.2), -0.8 * ls(0.3 * D) - 0.2 * ls(-0.3 * D)),
    ("logistic_per_token", dict(beta=5.0), -ls(5 * D)),
    ("logistic_with_margin", dict(beta=2.0, target_margin=0.5), -ls(2 * D - 0.5)),
    ("logistic_clipped", dict(beta=0.5, largest_reward=0.5), -ls(np.clip(0.5 * D, -1, 1))),
    (
        "robust",
        dict(beta=0.3, label_smoothing=0.2),
        (-0.8 * ls(0.3 * D) + 0.2 * ls(-0.3 * D)) / 0.6,
    ),
    ("hinge", dict(beta=0.3), np.maximum(1 - 0.3 * D, 0)),
    ("squared", dict(beta=0.25), (D - 2) ** 2),
    ("squared_per_token", dict(beta=0.25), (D - 2) ** 2),
    (
        "exo",
        dict(beta=0.3, label_smoothing=0.1),
        Q * np.log(Q / 0.9) + (1 - Q) * np.log((1 - Q) / 0.1),
    ),
    (
        "discovered",
        dict(beta=0.3, blend_temperature=0.5),
        (1 - s(0.6 * D)) * -ls(0.3 * D) + s(0.6 * D) * np.exp(-0.3 * D),
    ),
]


def odds(p):
    return p / (1 - p)


OF_SIDES = [
    (
        "nca",
        dict(beta=0.5),
        -ls(0.5 * RW) - 0.5 * ls(-0.5 * RW) - 0.5 * ls(-0.5 * RL),
    ),
    ("binary", dict(beta=0.5), -ls(0.5 * RW) - ls(-0.5 * RL)),
    ("squared_sides", dict(beta=0.25), (RW - 2) ** 2 + (RL + 2) ** 2),
    ("apo_zero", dict(beta=0.5), 1 - s(0.5 * RW) + s(0.5 * RL)),
    ("apo_down", dict(beta=0.5), s(0.5 * RW) + 1 - s(0.5 * (RW - RL))),
]


@pytest.mark.parametrize("name, fields, expected", OF_MARGINS)
def test_losses_of_margins(name, fields, expected):
    link = MARGIN_LINKS[name]
    np.testing.assert_allclose(link(jnp.asarray(D), **fields), expected, rtol=2e-6, atol=1e-6)
    np.testing.assert_allclose(jax.jit(link)(jnp.asarray(D), **fields), expected, atol=2e-6)
    with jax.enable_x64(True):
        check_grads(lambda d: link(d, **fields).sum(), (D,), 1, ["rev"])


@pytest.mark.parametrize("name, fields, expected", OF_SIDES)
def test_losses_of_sides(name, fields, expected):
    link = SIDE_LINKS[name]
    np.testing.assert_allclose(link(jnp.asarray(SIDES), **fields), expected, rtol=2e-6)
    with jax.enable_x64(True):
        check_grads(lambda x: link(x, **fields).sum(), (SIDES,), 1, ["rev"])


def test_odds():
    logs = np.log([[0.5, 0.2], [0.1, 0.9]])
    expected = -ls(np.log(odds(0.5) / odds(0.2))), -ls(np.log(odds(0.1) / odds(0.9)))
    np.testing.assert_allclose(SIDE_LINKS["odds_ratio"](jnp.asarray(logs)), expected, rtol=1e-5)
    # A certain completion has infinite odds; its value and gradient stay finite.
    value, gradient = jax.value_and_grad(lambda x: SIDE_LINKS["odds_ratio"](x).sum())(
        jnp.array([[0.0, -1.0], [-1.0, 0.0]])
    )
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_every_link_has_its_formula_here():
    assert {name for name, *_ in OF_MARGINS} == set(MARGIN_LINKS)
    assert {name for name, *_ in OF_SIDES} | {"odds_ratio"} == set(SIDE_LINKS)
    assert set(LINKS) == {*MARGIN_LINKS, *SIDE_LINKS, *QUANTILE_LINKS}


def test_parts_name_described_arrays():
    tables = (SCORES, LINKS, MATCHED, CHOSEN_NLL, PAIR_WEIGHTS)
    parts = [part for table in tables for part in table.values() if part is not None]
    assert {name for part in parts for name in inputs_of(part)} <= set(PREFERENCE_ARRAYS)


@pytest.mark.parametrize("name", [*MARGIN_LINKS, *SIDE_LINKS])
@pytest.mark.parametrize("size", [300.0, -300.0])
def test_extreme_scores_stay_finite(name, size):
    """As log-ratios of long completions are; `discovered` is an exponential for d << 0."""
    sides = jnp.array([[size, 0.0]])
    if name == "odds_ratio":
        sides = -jnp.abs(sides)
    given = sides if name in SIDE_LINKS else sides[:, 0] - sides[:, 1]
    value, gradient = jax.value_and_grad(lambda x: LINKS[name](x).sum())(given)
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "name, fields, message",
    [
        ("logistic_clipped", dict(largest_reward=0.0), "largest_reward is 0.0; it must be > 0"),
        ("robust", dict(label_smoothing=0.5), r"label_smoothing is 0.5; it must be in \[0, 0.5\)"),
        ("exo", dict(label_smoothing=0.0), r"label_smoothing is 0.0; it must be in \(0, 0.5\)"),
        ("squared", dict(beta=0.0), "beta is 0.0; it must be > 0"),
        ("discovered", dict(blend_temperature=0.0), "blend_temperature is 0.0; it must be > 0"),
    ],
)
def test_impossible_fields(name, fields, message):
    with pytest.raises(ValueError, match=message):
        MARGIN_LINKS[name](jnp.zeros(1), **fields)


def test_what_becomes_what():
    """Unit properties of the sheet of methods: limits at which one loss is another."""
    d = jnp.asarray(D)
    dpo = LINKS["logistic"](d, beta=0.3)
    np.testing.assert_allclose(LINKS["robust"](d, beta=0.3, label_smoothing=0.0), dpo, rtol=1e-6)
    far = LINKS["logistic_clipped"](d, beta=0.3, largest_reward=100.0)
    np.testing.assert_allclose(far, dpo, rtol=1e-6)
    # EXO is 0 exactly where sigmoid(beta d) = 1 - e.
    level = jnp.array([np.log(0.9 / 0.1) / 0.3])
    assert abs(float(LINKS["exo"](level, beta=0.3, label_smoothing=0.1)[0])) < 1e-6
    # A wide blend is the mean of logistic and exponential loss, a narrow one a choice by sign.
    wide = LINKS["discovered"](d, beta=0.3, blend_temperature=1e6)
    np.testing.assert_allclose(wide, 0.5 * (dpo + np.exp(-0.3 * D)), rtol=1e-4)
    narrow = LINKS["discovered"](d, beta=0.3, blend_temperature=1e-3)
    np.testing.assert_allclose(narrow[0], dpo[0], rtol=1e-5)
    np.testing.assert_allclose(narrow[2:], np.exp(-0.3 * D[2:]), rtol=1e-5)


R = np.array([[-3.0, 0.0], [0.5, 2.0]])
RATIO_SCORES = [
    ("log_ratio", {}, R),
    ("forward_kl", {}, 1 - np.exp(-R)),
    ("jensen_shannon", {}, np.log(2 * np.exp(R) / (1 + np.exp(R)))),
    ("alpha_divergence", dict(divergence_alpha=0.5), (np.exp(-0.5 * R) - 1) / -0.5),
    ("alpha_divergence", dict(divergence_alpha=1.0), R),
    ("alpha_divergence", dict(divergence_alpha=0.0), 1 - np.exp(-R)),
    ("chi_squared", {}, np.exp(R) + R),
    ("log_over_ratio", {}, R * np.exp(-R)),
]


@pytest.mark.parametrize("name, fields, expected", RATIO_SCORES)
def test_scores_of_log_ratios(name, fields, expected):
    ref = jnp.full((2, 2), -7.0)
    found = SCORES[name](jnp.asarray(R) - 7.0, ref, **fields)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with jax.enable_x64(True):
        reference = np.full((2, 2), -7.0)
        check_grads(lambda x: SCORES[name](x, reference, **fields), (R - 7.0,), 1, ["rev"])
    constant = jax.grad(lambda ref: SCORES[name](jnp.asarray(R), ref, **fields).sum())(ref)
    np.testing.assert_array_equal(constant, 0.0)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_scores_of_extreme_log_ratios_are_finite(name):
    far = jnp.array([[-300.0, 300.0]])
    value, gradient = jax.value_and_grad(lambda x: SCORES[name](x, jnp.zeros((1, 2))).sum())(far)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_divergences_have_their_formula_here():
    assert set(DIVERGENCES) <= {name for name, *_ in RATIO_SCORES}


def test_alphapo_s_reward():
    sums, lengths = jnp.array([[-4.0, -9.0]]), jnp.array([[2.0, 3.0]])
    p = np.exp([[-2.0, -3.0]])
    found = SCORES["alpha_likelihood"](sums, lengths, alpha=0.25)
    np.testing.assert_allclose(found, (1 - p**-0.25) / 0.25, rtol=1e-5)
    simpo = SCORES["mean_log_likelihood"](sums, lengths)
    np.testing.assert_allclose(SCORES["alpha_likelihood"](sums, lengths, alpha=0.0), simpo)


def test_long_tails_count_less():
    """Sides of 1 and 3 tokens, and two of 2."""
    mask = jnp.arange(3) < jnp.array([[1, 3], [2, 2]])[..., None]
    logprobs = jnp.where(mask, jnp.arange(-1.0, -13.0, -1.0).reshape(2, 2, 3), jnp.nan)
    reference = jnp.full(logprobs.shape, -1.0)
    score = SCORES["length_desensitised"]
    half = score(mask, logprobs, reference, tail_weight=0.5)
    np.testing.assert_allclose(half, [[0.0, -3.0 + 0.5 * (-4 - 5)], [-6 - 7, -9 - 10]])
    whole = score(mask, logprobs, reference, tail_weight=1.0)
    np.testing.assert_allclose(whole[0], [0.0, -3 - 4 - 5])
    np.testing.assert_allclose(score(mask, logprobs, reference, tail_weight=0.0)[0], [0.0, -3.0])
    np.testing.assert_allclose(whole[1], half[1])  # equal lengths
    with pytest.raises(ValueError, match=r"tail_weight is 1.5; it must be in \[0, 1\]"):
        score(mask, logprobs, reference, tail_weight=1.5)


def test_likelihoods_of_the_chosen_side():
    mask = jnp.arange(3) < jnp.array([[1, 3], [3, 2]])[..., None]
    logprobs = jnp.where(mask, jnp.arange(-1.0, -13.0, -1.0).reshape(2, 2, 3), jnp.nan)
    first = jnp.array([[True, False]] * 2)
    each = CHOSEN_NLL["token_mean"](mask, logprobs, first, jnp.full(2, 2.0), nll_weight=0.5)
    np.testing.assert_allclose(each.mean(), 0.5 * (1 + 7 + 8 + 9) / 4)
    sums = jnp.array([[-1.0, 0.0], [-24.0, 0.0]])
    each = CHOSEN_NLL["sequence_mean"](sums, jnp.array([[1.0, 3], [3, 2]]), first, nll_weight=0.5)
    np.testing.assert_allclose(each, [0.5, 0.5 * 8])


def test_weights_of_pairs():
    mask = jnp.array([[[True, True], [True, False]], [[True, False], [False, False]]])
    logprobs = jnp.log(jnp.array([[[0.5, 0.25], [0.1, 1.0]], [[0.9, 1.0], [1.0, 1.0]]]))
    collision = jnp.log(jnp.array([[[0.5, 0.5], [0.4, 1.0]], [[0.3, 1.0], [1.0, 1.0]]]))
    found = PAIR_WEIGHTS["wpo"](mask, logprobs, collision)
    np.testing.assert_allclose(found, [np.sqrt(1.0 * 0.5) * 0.25, 3.0], rtol=1e-6)


def sorted_loss(policy, reference, fields, paired):
    """The definition: differences of sorted samples."""
    if paired:
        first, second = policy[:, 0] - policy[:, 1], reference[:, 0] - reference[:, 1]
    else:
        first, second = (policy - reference).T
    return LINKS["logistic"](jnp.sort(first) - jnp.sort(second), **fields).mean()


@pytest.mark.parametrize("paired", [True, False])
def test_sorted_losses_are_sums_over_pairs(paired):
    """Value and gradient, and an unusable pair changes neither."""
    rng = np.random.default_rng(0)
    policy, reference = (jnp.asarray(rng.normal(-9, 3, (6, 2))) for _ in range(2))
    fields = dict(beta=0.3, label_smoothing=0.1)
    usable = jnp.arange(6) != 2
    kept = np.array([0, 1, 3, 4, 5])
    name = "matched_margins" if paired else "matched_log_ratios"
    partners = MATCHED[name](policy, reference, usable)

    def ours(policy):
        given = (policy, partners) if paired else (policy, reference, partners)
        return LINKS["aot" if paired else "aot_unpaired"](*given, **fields)[kept].mean()

    value, gradient = jax.value_and_grad(ours)(policy)
    expected, slope = jax.value_and_grad(sorted_loss)(policy[kept], reference[kept], fields, paired)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient[kept], slope, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(gradient[2], 0.0)


def test_a_batch_of_one_sorts_to_dpo():
    policy, reference = jnp.array([[-4.0, -6.0]]), jnp.array([[-5.0, -5.0]])
    partner = MATCHED["matched_margins"](policy, reference, jnp.array([True]))
    found = LINKS["aot"](policy, partner, beta=0.3)
    np.testing.assert_allclose(found, LINKS["logistic"](jnp.array([2.0]), beta=0.3))
