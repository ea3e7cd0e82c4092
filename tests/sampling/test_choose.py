"""The choice of a token: penalties by hand, exact draws, and statistics by their definitions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rljax.sampling.choose import Occurrences, Penalties, choose, draw, first_largest, penalised
from rljax.sampling.distribution import EXCLUDED, TokenFilter
from tests.sampling import reference

ROWS, VOCABULARY = 6, 13


def drawn_logits(seed, rows=ROWS, vocabulary=VOCABULARY):
    return np.float32(np.random.default_rng(seed).normal(size=(rows, vocabulary)) * 2)


def keys_of(count, seed=0):
    return jax.vmap(functools.partial(jax.random.fold_in, jax.random.key(seed)))(jnp.arange(count))


def chosen(logits, token_filter, **given):
    """choose() of raw logits, on the host; `changed` are those after guidance."""
    changed = given.pop("changed", None)

    @functools.partial(jax.jit, static_argnames="top_k")
    def run(logits, changed, keys, **given):
        changed = logits if changed is None else changed
        return choose(logits, changed, keys, token_filter, **given)

    return jax.device_get(run(logits, changed, keys_of(len(logits)), **given))


# --- the draw ------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocabulary", [1, 2, 3, 13, 16, 100])
def test_draw_equals_its_restatement(vocabulary):
    logits = drawn_logits(vocabulary, 200, vocabulary)
    logits[:, 1::5] = EXCLUDED
    log_p = np.asarray(jax.nn.log_softmax(logits))
    keys = keys_of(200)
    found = jax.jit(draw)(log_p, keys)

    def noise(row, n):
        return np.float64(jax.random.gumbel(keys[row], (n,)))

    def excluded(x):
        return np.where(x < EXCLUDED / 2, -np.inf, np.float64(x))

    for row in range(0, 200, 1 if vocabulary == 13 else 20):
        token, margin = reference.drawn(excluded(log_p[row]), functools.partial(noise, row))
        assert found[row] == token or margin < reference.CLOSE


@pytest.mark.parametrize("vocabulary", [4, 13, 50])
def test_draws_follow_the_distribution(vocabulary):
    count = 40_000
    logits = drawn_logits(5, 1, vocabulary)
    logits[0, :2] = EXCLUDED
    log_p = jax.nn.log_softmax(logits)
    tokens = jax.jit(draw)(jnp.broadcast_to(log_p, (count, vocabulary)), keys_of(count))
    counts = np.bincount(tokens, minlength=vocabulary)
    expected = count * np.exp(np.float64(log_p[0]))
    assert counts[:2].sum() == 0 and counts.sum() == count
    common = expected > 5
    observed = np.array([*counts[common], counts[~common].sum()])
    expected = np.array([*expected[common], expected[~common].sum()])
    possible = expected > 0
    assert (observed[~possible] == 0).all() and possible.sum() > 1
    squares = (observed - expected)[possible] ** 2 / expected[possible]
    assert stats.chi2.sf(squares.sum(), possible.sum() - 1) > 1e-3


def test_largest_of_equals_is_the_first():
    x = np.array([[1.0, 3, 3, 2], [0, 0, 0, 0], [-1, -2, -3, -0.5], [EXCLUDED, EXCLUDED, 1, 1]])
    np.testing.assert_array_equal(first_largest(jnp.asarray(x)), [1, 0, 3, 2])
    x = drawn_logits(0)
    np.testing.assert_array_equal(first_largest(jnp.asarray(x)), x.argmax(axis=1))


# --- penalties -----------------------------------------------------------------------------------


def test_penalties_by_hand():
    seen = Occurrences(
        in_prompt=jnp.array([[True, True, False, False, False]]),
        written=jnp.array([[0, 2, 1, 0, 3]]),
    )
    logits = jnp.array([[2.0, -2.0, 1.0, 0.5, 0.0]])
    with_penalties = jax.jit(penalised, static_argnums=2)
    every = Penalties(repetition=2.0, presence=0.5, frequency=0.25)
    # 2 / 2; -2 * 2 - 0.5 - 2 * 0.25; 1 / 2 - 0.5 - 0.25; untouched; 0 - 0.5 - 3 * 0.25
    np.testing.assert_allclose(
        with_penalties(logits, seen, every), [[1.0, -5.0, -0.25, 0.5, -1.25]], rtol=1e-6
    )
    only_repetition = with_penalties(logits, seen, Penalties(repetition=0.5))
    np.testing.assert_allclose(only_repetition, [[4.0, -1.0, 2.0, 0.5, 0.0]], rtol=1e-6)
    only_presence = with_penalties(logits, seen, Penalties(presence=-1.0))
    np.testing.assert_allclose(only_presence, [[2.0, -1.0, 2.0, 0.5, 1.0]], rtol=1e-6)
    np.testing.assert_array_equal(with_penalties(logits, seen, Penalties()), logits)


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(repetition=0.0), r"repetition must be > 0 .*got 0\.0 \(penalties\.repetition\)"),
        (dict(repetition=-1.0), "repetition must be > 0 .*got -1.0"),
        (dict(repetition=float("nan")), "repetition must be > 0"),
        (dict(presence=float("inf")), r"presence must be finite .*inf \(penalties\.presence\)"),
        (dict(frequency=float("nan")), r"frequency must be finite .*\(penalties\.frequency\)"),
    ],
)
def test_penalties_that_cannot_be_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Penalties(**fields)


# --- statistics ----------------------------------------------------------------------------------


def test_statistics_by_their_definitions():
    """Guided logits, allowed tokens, bias and a temperature of each row, all at once."""
    logits, changed = drawn_logits(1), drawn_logits(2)
    allowed = np.random.default_rng(3).random(logits.shape) < 0.7
    temperature = np.float32([0.5, 1.0, 0.0, 2.0, 0.0, 0.7])
    token_filter = TokenFilter(logit_bias=((4, 3.0),), forbidden_tokens=(7,))
    found = chosen(
        logits, token_filter, changed=changed, temperature=temperature, allowed=allowed, top_k=3
    )
    for row in range(ROWS):
        raw, used, token = np.float64(logits[row]), temperature[row], found.tokens[row]
        possible = reference.biased(np.where(allowed[row], changed[row], -np.inf), token_filter)
        assert np.isfinite(possible[token])
        if used == 0:
            assert token == possible.argmax()
            expected = (0.0, reference.log_softmax(raw)[token], 0.0, 0.0)
        else:
            log_p = reference.log_softmax(possible / used)
            tempered = reference.log_softmax(raw / used)[token]
            model = reference.log_softmax(raw)[token]
            expected = (log_p[token], model, tempered, reference.entropy_of(log_p))
        np.testing.assert_allclose([x[row] for x in found[1:5]], expected, rtol=0, atol=1e-5)
        assert found.temperature[row] == used
        order = np.argsort(-raw)[:3]
        np.testing.assert_array_equal(found.top_tokens[row], order)
        np.testing.assert_allclose(
            found.top_logprobs[row], reference.log_softmax(raw)[order], rtol=0, atol=1e-5
        )


def test_without_any_change_the_three_log_probabilities_are_one():
    logits = drawn_logits(4)
    found = chosen(logits, TokenFilter())
    exact = [reference.log_softmax(np.float64(x))[t] for x, t in zip(logits, found[0], strict=True)]
    for values in (found.logprobs, found.model_logprobs, found.tempered_logprobs):
        np.testing.assert_allclose(values, exact, rtol=0, atol=1e-5)
    assert found.top_logprobs is None and (found.temperature == 1).all()
    cold = chosen(logits, TokenFilter(temperature=0.5))
    np.testing.assert_array_equal(cold.logprobs, cold.tempered_logprobs)
    assert (cold.logprobs > cold.model_logprobs).any() and (cold.temperature == 0.5).all()


def test_a_greedy_row_does_not_change_its_neighbours():
    logits = drawn_logits(5)
    warm = np.full(ROWS, 0.8, np.float32)
    mixed = np.where(np.arange(ROWS) % 2, warm, np.float32(0))
    base = chosen(logits, TokenFilter(temperature=0.3), temperature=warm)
    found = chosen(logits, TokenFilter(temperature=0.3), temperature=mixed)
    every = chosen(logits, TokenFilter(temperature=0.8))
    for other in (found, every):
        for one, same in zip(base[:6], other[:6], strict=True):
            np.testing.assert_allclose(one[1::2], same[1::2], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.tokens[::2], logits[::2].argmax(axis=1))
    for zero in (found.logprobs, found.tempered_logprobs, found.entropy, found.temperature):
        assert (zero[::2] == 0).all()
    assert (found.model_logprobs[::2] < 0).all()


def test_a_greedy_filter_equals_greedy_rows_and_respects_bias_and_permission():
    logits = drawn_logits(6)
    allowed = np.random.default_rng(7).random(logits.shape) < 0.5
    best = int(np.where(allowed, logits, -np.inf)[0].argmax())
    bias = dict(logit_bias=((3, 2.0),), forbidden_tokens=(best,))
    zeros = np.zeros(ROWS, np.float32)
    by_filter = chosen(logits, TokenFilter(temperature=0.0, **bias), allowed=allowed)
    by_row = chosen(logits, TokenFilter(**bias), allowed=allowed, temperature=zeros)
    possible = np.where(allowed, logits, -np.inf)
    possible[:, 3] += 2
    possible[:, best] = -np.inf
    np.testing.assert_array_equal(by_filter.tokens, possible.argmax(axis=1))
    for one, other in zip(by_filter[:6], by_row[:6], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_where_all_that_is_allowed_is_forbidden_an_allowed_token_comes(temperature):
    logits = drawn_logits(8, 50)
    allowed = np.zeros(logits.shape, bool)
    allowed[:, [5, 9]] = True
    allowed[25:, 6] = True
    token_filter = TokenFilter(temperature=temperature, forbidden_tokens=(5, 9))
    found = chosen(logits, token_filter, allowed=allowed)
    assert np.isin(found.tokens[:25], (5, 9)).all() and (found.tokens[25:] == 6).all()
    for values in found[1:6]:
        assert np.isfinite(values).all()


def test_padding_between_blocks_is_never_chosen():
    """13 tokens lie in four blocks of four: places 13 to 15 are no tokens."""
    logits = np.zeros((5000, VOCABULARY), np.float32)
    tokens = chosen(logits, TokenFilter(temperature=50.0)).tokens
    assert set(tokens.tolist()) == set(range(VOCABULARY))
