"""What a filter does against plain loops, with hand values for ties and for the order."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import named_sharding
from rljax.sampling.distribution import (
    EXCLUDED,
    EntropyTemperature,
    TokenFilter,
    _not_below_threshold,
    entropy,
    kept_by_row,
    kept_tokens,
    log_distribution,
    step_temperature,
    take,
    token_bias,
)

FILTERS = [
    dict(zip(("temperature", "top_k", "top_p", "min_p"), values, strict=True))
    for values in itertools.product((1.0, 0.6), (0, 3, 100), (1.0, 0.7), (0.0, 0.15))
]


def softmax(logits):
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def reference_probabilities(logits, temperature, top_k, top_p, min_p):
    """[V] float64 -> [V]: each truncation works on the renormalised result of the one before."""
    probabilities = softmax(np.asarray(logits, np.float64) / temperature)
    if 0 < top_k < len(logits):
        kth = np.sort(probabilities)[-top_k]
        probabilities = np.where(probabilities >= kth, probabilities, 0)
        probabilities /= probabilities.sum()
    if top_p < 1:
        mass = 0.0
        for smallest in np.sort(probabilities)[::-1]:
            mass += smallest
            if mass >= top_p:
                break
        probabilities = np.where(probabilities >= smallest, probabilities, 0)
        probabilities /= probabilities.sum()
    if min_p > 0:
        probabilities = np.where(
            probabilities >= min_p * probabilities.max() * (1 - 1e-9), probabilities, 0
        )
        probabilities /= probabilities.sum()
    return probabilities


@pytest.mark.parametrize("fields", FILTERS, ids=str)
def test_distribution_equals_a_plain_loop_with_and_without_ties(fields):
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(20, 9)) * 2
    tied = rng.integers(-2, 2, size=(20, 9)).astype(float)
    logits = np.concatenate([smooth, tied])
    expected = np.stack([reference_probabilities(row, **fields) for row in logits])
    found = np.exp(log_distribution(jnp.asarray(logits, jnp.float32), TokenFilter(**fields)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(found == 0, expected == 0)  # excluded: exactly zero
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("fields", FILTERS[::5], ids=str)
def test_bias_and_forbidden_tokens_come_before_everything_else(fields):
    logits = np.random.default_rng(1).normal(size=(20, 9)) * 2
    changes = dict(logit_bias=((2, 1.5), (7, -0.5)), forbidden_tokens=(0, 5))
    biased = logits + np.array([0, 0, 1.5, 0, 0, 0, 0, -0.5, 0])
    allowed = [1, 2, 3, 4, 6, 7, 8]
    expected = np.zeros(logits.shape)
    for row, values in zip(expected, biased[:, allowed], strict=True):
        row[allowed] = reference_probabilities(values, **fields)
    token_filter = TokenFilter(**fields, **changes)
    found = np.exp(log_distribution(jnp.asarray(logits, jnp.float32), token_filter))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(found == 0, expected == 0)


@pytest.mark.parametrize(
    "fields, expected",
    [
        # The bias doubles 0.3 before the temperature squares everything.
        (dict(logit_bias=((1, np.log(2)),), temperature=0.5), [25 / 65, 36 / 65, 4 / 65]),
        (dict(forbidden_tokens=(0,)), [0, 0.6, 0.4]),
        (dict(forbidden_tokens=(0,), top_k=1), [0, 1, 0]),  # the best of what is allowed
        (dict(forbidden_tokens=(0, 1), top_k=2), [0, 0, 1]),  # k is more than is allowed
        (dict(forbidden_tokens=(0, 0), logit_bias=((0, 9.0),)), [0, 0.6, 0.4]),  # bias or not
    ],
    ids=str,
)
def test_bias_and_forbidden_tokens_by_hand(fields, expected):
    found = log_distribution(jnp.log(jnp.array([0.5, 0.3, 0.2])), TokenFilter(**fields))
    np.testing.assert_allclose(jnp.exp(found), expected, atol=1e-6)
    assert np.isfinite(entropy(found))


@pytest.mark.parametrize(
    "probabilities, fields, kept",
    [
        ([0.5, 0.3, 0.2], dict(), [1, 1, 1]),
        ([0.5, 0.3, 0.2], dict(top_k=2), [1, 1, 0]),
        ([0.5, 0.3, 0.2], dict(top_k=3), [1, 1, 1]),
        ([0.5, 0.3, 0.2], dict(top_k=99), [1, 1, 1]),
        ([0.4, 0.2, 0.2, 0.2], dict(top_k=2), [1, 1, 1, 1]),  # ties with the k-th stay
        ([0.2, 0.5, 0.3], dict(top_p=0.45), [0, 1, 0]),
        ([0.2, 0.5, 0.3], dict(top_p=0.6), [0, 1, 1]),  # the token that reaches p is kept
        ([0.2, 0.5, 0.3], dict(top_p=1e-9), [0, 1, 0]),  # never empty
        ([0.3, 0.3, 0.4], dict(top_p=0.5), [1, 1, 1]),  # ties with the last one stay
        ([0.5, 0.3, 0.2], dict(min_p=0.5), [1, 1, 0]),
        ([0.5, 0.3, 0.2], dict(min_p=0.99), [1, 0, 0]),
        ([0.9, 0.05, 0.05], dict(top_p=0.9), [1, 0, 0]),
        ([0.25, 0.25, 0.25, 0.25], dict(top_p=0.1), [1, 1, 1, 1]),
        ([0.5, 0.5, 0.0], dict(top_p=1 - 1e-9), [1, 1, 0]),
        # Order: after top_k=2 the masses are 0.625 and 0.375, so 0.6 is reached by one token.
        ([0.5, 0.3, 0.2], dict(top_p=0.6), [1, 1, 0]),
        ([0.5, 0.3, 0.2], dict(top_k=2, top_p=0.6), [1, 0, 0]),
        # Order: temperature comes first; 0.5 squares and renormalises to 0.66, 0.24, 0.11.
        ([0.5, 0.3, 0.2], dict(temperature=0.5, top_p=0.6), [1, 0, 0]),
    ],
)
def test_kept_tokens_by_hand(probabilities, fields, kept):
    token_filter = TokenFilter(**fields)
    logits = jnp.maximum(jnp.log(jnp.array(probabilities)) / token_filter.temperature, EXCLUDED)
    np.testing.assert_array_equal(kept_tokens(logits, token_filter), np.array(kept, bool))


def test_rows_with_filters_of_their_own_keep_what_the_filter_keeps():
    """Every combination of three of each, on rows with ties and excluded tokens."""
    choices = itertools.product((0, 1, 5), (1.0, 0.9, 0.3), (0.0, 0.05, 0.5))
    top_k, top_p, min_p = map(np.array, zip(*choices, strict=True))
    logits = np.round(np.random.default_rng(7).normal(size=(27, 40)) * 3, 1).astype(np.float32)
    logits[:, 3] = EXCLUDED
    numbers = top_k.astype(np.int32), top_p.astype(np.float32), min_p.astype(np.float32)
    found = kept_by_row(jnp.asarray(logits), *numbers)
    for row, k, p, least, kept in zip(logits, top_k, top_p, min_p, found, strict=True):
        token_filter = TokenFilter(top_k=int(k), top_p=float(p), min_p=float(least))
        np.testing.assert_array_equal(kept, kept_tokens(jnp.asarray(row), token_filter))


# --- thresholds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("decimals", [9, 1], ids=["smooth", "tied"])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.999])
def test_top_p_keeps_the_smallest_set_of_likeliest_tokens(top_p, decimals):
    logits = np.float32(np.round(np.random.default_rng(2).normal(size=(8, 1000)) * 3, decimals))
    keep = np.asarray(kept_tokens(jnp.asarray(logits), TokenFilter(top_p=top_p)))
    for row, kept in zip(np.float64(logits), keep, strict=True):
        last = row[kept].min()
        np.testing.assert_array_equal(kept, row >= last)  # the likeliest, all ties included
        mass = softmax(row)
        # Float sums: equal up to 1e-6 in mass.
        assert mass[row > last].sum() < top_p + 1e-6 and mass[kept].sum() > top_p - 1e-6


def test_thresholds_are_exact_in_float64():
    with jax.enable_x64(True):
        # Differences that float32 does not see, and masses 1/4 each up to them.
        logits = jnp.array([0.0, 3e-13, 1e-13, 2e-13], jnp.float64) - 7.0
        np.testing.assert_array_equal(kept_tokens(logits, TokenFilter(top_p=0.4)), [0, 1, 0, 1])
        np.testing.assert_array_equal(kept_tokens(logits, TokenFilter(top_k=3)), [0, 1, 1, 1])
        rows = np.random.default_rng(3).normal(size=(4, 300))
        masses = np.sort(np.exp(rows))[:, ::-1]
        count = (np.cumsum(masses, 1) < 0.8 * masses.sum(1, keepdims=True)).sum(1) + 1
        found = kept_tokens(jnp.asarray(rows), TokenFilter(top_p=0.8))
        np.testing.assert_array_equal(found.sum(axis=-1), count)


def test_both_zeros_tie_and_so_do_the_smallest_floats():
    logits = jnp.array([[0.0, -0.0, -1.0, -2.0], [3e-38, 2e-38, -2e-38, -3e-38]])
    kept = [[1, 1, 0, 0], [1, 1, 0, 0]]
    for fields in (dict(top_k=2), dict(top_p=0.4)):
        np.testing.assert_array_equal(kept_tokens(logits, TokenFilter(**fields)), kept)
    assert kept_tokens(jnp.array([-0.0, 0.0, -1.0]), TokenFilter(top_k=1)).tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    "fields", [dict(top_k=3), dict(top_p=1 - 1e-9), dict(min_p=1e-9), dict(top_k=2, top_p=0.999)]
)
def test_excluded_logits_are_never_kept(fields):
    logits = jnp.array([[1.0, EXCLUDED, 0.5, EXCLUDED], [EXCLUDED] * 4])
    kept = kept_tokens(logits, TokenFilter(**fields))
    np.testing.assert_array_equal(kept, [[1, 0, 1, 0], [0] * 4])


def test_a_mass_that_is_never_reached_keeps_all_but_the_excluded():
    logits = jnp.array([[5.0, -90.0, EXCLUDED]])
    kept = _not_below_threshold(logits, jnp.ones(logits.shape), 3.5)
    np.testing.assert_array_equal(kept, [[1, 1, 0]])


def test_a_row_keeps_the_same_tokens_alone_and_under_every_transformation():
    logits = jax.random.normal(jax.random.key(3), (6, 50)) * 2
    token_filter = TokenFilter(top_k=30, top_p=0.8)
    expected = kept_tokens(logits, token_filter)
    keep = jax.jit(lambda x: kept_tokens(x, token_filter))
    np.testing.assert_array_equal(jax.vmap(keep)(logits), expected)
    others = jnp.concatenate([logits[3:4], 40 * logits])
    np.testing.assert_array_equal(keep(others)[0], expected[3])
    np.testing.assert_array_equal(keep(logits[3]), expected[3])


def test_a_sharded_vocabulary_stays_where_it_is():
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    logits = jax.random.normal(jax.random.key(4), (4, 64)) * 3
    token_filter = TokenFilter(
        top_k=30,
        top_p=0.8,
        min_p=0.01,
        logit_bias=((1, 2.0),),
        forbidden_tokens=(9,),
        entropy_temperature=EntropyTemperature(theta=0.5),
    )
    function = jax.jit(lambda x: log_distribution(x, token_filter))
    mesh = make_mesh({"tensor": 8}, devices=jax.devices()[:8])
    placed = jax.device_put(logits, named_sharding(mesh, (None, "vocab")))
    assert not re.search(r"all-gather|all-to-all", function.lower(placed).compile().as_text())
    np.testing.assert_allclose(function(placed), function(logits), rtol=1e-5)


# --- temperature ---------------------------------------------------------------------------------


def test_logits_may_be_shifted_by_any_constant():
    logits = jax.random.normal(jax.random.key(0), (6, 9)) * 3
    token_filter = TokenFilter(temperature=0.7, top_k=5, top_p=0.8, min_p=0.05)
    expected = jnp.exp(log_distribution(logits, token_filter))
    for shift in (-50.0, 200.0):
        np.testing.assert_allclose(
            jnp.exp(log_distribution(logits + shift, token_filter)), expected, atol=1e-5
        )


@pytest.mark.parametrize(
    "fields",
    [dict(), dict(temperature=0.5), dict(top_k=2), dict(top_p=0.5), dict(min_p=0.3)],
    ids=str,
)
def test_entropy_and_its_gradient_are_those_of_the_kept_tokens(fields):
    logits = jnp.array([2.0, -1.0, 0.5, 0.0, -30.0])
    token_filter = TokenFilter(**fields)

    def truncated_entropy(logits):
        return entropy(log_distribution(logits, token_filter))

    kept = np.flatnonzero(kept_tokens(logits / token_filter.temperature, token_filter))

    def entropy_of_kept(logits):
        log_p = jax.nn.log_softmax(logits[kept] / token_filter.temperature)
        return -jnp.sum(jnp.exp(log_p) * log_p)

    found, expected = (jax.value_and_grad(f)(logits) for f in (truncated_entropy, entropy_of_kept))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-6)


def test_gradient_of_a_kept_token_ignores_the_excluded_ones():
    logits = jnp.array([2.0, 1.0, 0.0, -1.0])
    token_filter = TokenFilter(top_k=2)
    gradient = jax.grad(lambda x: log_distribution(x, token_filter)[0])(logits)
    second = 1 / (1 + np.e)
    np.testing.assert_allclose(gradient, [second, -second, 0, 0], atol=1e-6)


def test_token_that_left_the_truncated_set_keeps_a_finite_logprob_and_gradient():
    logits = jnp.array([[2.0, 1.0, 0.0, -1.0]])
    taken = jnp.array([3])
    token_filter = TokenFilter(top_k=2)

    def logprob(logits):
        return take(log_distribution(logits, token_filter, taken=taken), taken)[0]

    value, gradient = jax.value_and_grad(logprob)(logits)
    # It joins the two kept ones: softmax over 2, 1 and -1.
    expected = jax.nn.log_softmax(jnp.array([2.0, 1.0, -1.0]))
    np.testing.assert_allclose(value, expected[2], rtol=1e-6)
    p = np.exp(expected)
    np.testing.assert_allclose(gradient[0], [-p[0], -p[1], 0, 1 - p[2]], atol=1e-6)


def test_taken_token_inside_the_set_changes_nothing():
    logits = jax.random.normal(jax.random.key(1), (5, 8))
    token_filter = TokenFilter(top_k=3)
    best = logits.argmax(axis=-1)
    np.testing.assert_array_equal(
        log_distribution(logits, token_filter, taken=best), log_distribution(logits, token_filter)
    )


def test_bfloat16_logits_are_normalised_in_float32():
    logits = jax.random.normal(jax.random.key(1), (5, 300)).astype(jnp.bfloat16)
    found = log_distribution(logits, TokenFilter(top_p=0.9))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(jnp.exp(found).sum(axis=-1), 1, atol=1e-6)


def test_greedy_filter_has_no_density():
    with pytest.raises(ValueError, match="temperature 0"):
        log_distribution(jnp.zeros((1, 3)), TokenFilter(temperature=0.0))


@pytest.mark.parametrize(
    "fields, reset",
    [
        (dict(top_k=5), "top_k=5 to 0,"),
        (dict(top_p=0.9, min_p=0.1), "top_p=0.9 to 1.0, min_p=0.1 to 0.0,"),
    ],
)
def test_greedy_choice_from_a_truncated_set_is_refused(fields, reset):
    with pytest.raises(ValueError, match=f"no filtered distribution.*Reset {reset}"):
        TokenFilter(temperature=0.0, **fields)


RULE = EntropyTemperature(theta=1.0)


@pytest.mark.parametrize(
    "theta, highest, entropy, expected",
    [
        (1.0, 1.0, 1.0, 0.8),
        (2.0, 0.5, 0.5, 0.5 * 0.8**4),
        (1.0, 1.0, 0.1, 0.8**10),
        (1.0, 0.7, 1e9, 0.7),
        (1.0, 1.0, 0.05, 0.1),  # 0.8 ** 20 = 0.012 is below the bound
        (1.0, 1.0, 0.0, 0.1),
        (1.0, 1.0, -1e-7, 0.1),  # as rounding may leave it
        (0.0, 0.7, 0.0, 0.7),
    ],
)
def test_entropy_temperature_by_hand(theta, highest, entropy, expected):
    found = EntropyTemperature(theta=theta)(jnp.float32(entropy), highest)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_step_temperature_follows_the_entropy_of_the_raw_model():
    logits = jnp.array([[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, EXCLUDED, EXCLUDED]])
    expected = 0.9 * 0.8 ** (1 / np.log([4, 2]))
    # Neither bias nor truncation changes what the rule sees.
    token_filter = TokenFilter(
        temperature=0.9, entropy_temperature=RULE, logit_bias=((0, 5.0),), top_k=1
    )
    np.testing.assert_allclose(step_temperature(logits, token_filter), expected, rtol=1e-5)
    np.testing.assert_array_equal(step_temperature(logits, TokenFilter(temperature=0.5)), 0.5)
    assert not jax.grad(lambda x: step_temperature(x, token_filter).sum())(logits).any()


def test_entropy_rule_equals_its_temperatures_given_and_they_are_constants():
    logits = jax.random.normal(jax.random.key(5), (3, 8)) * 2
    fields = dict(logit_bias=((1, 2.0),), top_p=0.9, temperature=0.9)
    token_filter = TokenFilter(**fields, entropy_temperature=RULE)
    weights = jax.random.normal(jax.random.key(6), (3, 8))
    used = step_temperature(logits, token_filter)

    @functools.partial(jax.jit, static_argnums=1)
    @functools.partial(jax.value_and_grad, argnums=(0, 2))
    def total(logits, token_filter, temperature):
        log_p = log_distribution(logits, token_filter, temperature=temperature)
        return jnp.sum(jnp.where(log_p > -100, log_p, 0.0) * weights)

    expected, (expected_bar, _) = total(logits, token_filter, None)
    for other in (token_filter, TokenFilter(**fields)):
        value, (bar, temperature_bar) = total(logits, other, used)
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(bar, expected_bar, rtol=1e-5, atol=1e-6)
        assert not temperature_bar.any()


@pytest.mark.parametrize("filter_temperature", [0.7, 0.0])
def test_temperature_of_each_slot_replaces_the_filters(filter_temperature):
    logits = jax.random.normal(jax.random.key(7), (2, 2, 8)) * 2
    temperature = jnp.array([[0.5, 2.0], [1.0, 0.0]])
    found = log_distribution(
        logits, TokenFilter(temperature=filter_temperature), temperature=temperature
    )
    for at in ((0, 0), (0, 1), (1, 0)):
        alone = log_distribution(logits[at], TokenFilter(temperature=float(temperature[at])))
        np.testing.assert_allclose(found[at], alone, rtol=1e-5)
    assert np.isfinite(found[1, 1]).all()  # greedy: no meaning, but nothing infinite either


def test_tiny_temperature_leaves_excluded_logits_finite():
    found = log_distribution(
        jnp.array([[1.0, 2.0, EXCLUDED]]), TokenFilter(), temperature=jnp.array([1e-10])
    )
    assert np.isfinite(found).all() and entropy(found) == 0


# --- fields --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, dict(top_k=1), dict(temperature=0.5, top_p=0.1)], ids=str)
def test_forbidden_token_that_was_taken_keeps_the_models_logit(fields):
    token_filter = TokenFilter(**fields, forbidden_tokens=(0,), logit_bias=((0, 7.0),))
    logits, taken = jnp.log(jnp.array([[0.5, 0.3, 0.2]])), jnp.array([0])

    def logprob(logits):
        return take(log_distribution(logits, token_filter, taken=taken), taken)[0]

    value, gradient = jax.value_and_grad(logprob)(logits)
    # Truncation leaves token 1 of the other two, where there is any.
    kept = np.array([0.5, 0.3, 0.2 * (not fields)]) ** (1 / token_filter.temperature)
    p = kept / kept.sum()
    np.testing.assert_allclose(value, np.log(p[0]), rtol=1e-5)
    expected = (np.array([1.0, 0, 0]) - p) / token_filter.temperature
    np.testing.assert_allclose(gradient[0], expected, atol=1e-6)


def test_token_bias_holds_one_number_for_each_token():
    token_filter = TokenFilter(logit_bias=((4, -2.5), (0, 1.0)), forbidden_tokens=(1, 3))
    expected = np.float32([1, EXCLUDED, 0, EXCLUDED, -2.5])
    np.testing.assert_array_equal(token_bias(token_filter, 5), expected)
    assert token_bias(TokenFilter(top_k=3), 5) is None


@pytest.mark.parametrize("token", [-1, 5])
@pytest.mark.parametrize("field", ["logit_bias", "forbidden_tokens"])
def test_token_outside_the_vocabulary_is_named(field, token):
    token_filter = TokenFilter(**{field: ((token, 1.0),) if field == "logit_bias" else (token,)})
    with pytest.raises(ValueError, match=rf"{field} names token {token}, .* 0\.\.4 .*{field}"):
        log_distribution(jnp.zeros((1, 5)), token_filter)


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(logit_bias=((3, float("nan")),)), "bias of token 3 must be finite.*got nan"),
        (dict(logit_bias=((3, -float("inf")),)), "bias of token 3 must be finite.*forbidden"),
        (dict(logit_bias=((3, 1.0), (3, 2.0))), "Token 3 has more than one bias"),
        (dict(temperature=0.0, entropy_temperature=RULE), "temperature must be > 0.*got 0.0"),
        (dict(temperature=0.05, entropy_temperature=RULE), ">= .*lowest=0.1, got 0.05"),
    ],
)
def test_bad_combination_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        TokenFilter(**fields)


@pytest.mark.parametrize(
    "field, value",
    [("theta", -1.0), ("theta", float("inf")), ("base", 1.0), ("base", 0.0), ("lowest", 0.0)],
)
def test_bad_field_of_the_entropy_rule_is_named(field, value):
    with pytest.raises(ValueError, match=rf"{field} must be .*got {value}.*temperature.{field}"):
        EntropyTemperature(**{"theta": 1.0, field: value})


def test_plain_filters_only_divide():
    assert TokenFilter(temperature=0.3).plain
    others = (
        dict(top_k=1),
        dict(top_p=0.5),
        dict(min_p=0.5),
        dict(logit_bias=((0, 1.0),)),
        dict(forbidden_tokens=(0,)),
        dict(entropy_temperature=RULE),
    )
    assert not any(TokenFilter(**fields).plain for fields in others)
    assert len({TokenFilter(**fields) for fields in others * 2}) == len(others)  # static: hashable


@pytest.mark.parametrize(
    "field, value",
    [
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 1.0),
    ],
)
def test_bad_filter_field_is_named(field, value):
    with pytest.raises(ValueError, match=rf"{field} must be .*got {value}.*sampling.{field}"):
        TokenFilter(**{field: value})
