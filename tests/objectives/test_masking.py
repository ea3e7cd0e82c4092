"""Maskings: hand counts of what they hide, weights that make estimates unbiased, random streams."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.masking import (
    MASKINGS,
    Draw,
    MaskSettings,
    Row,
    block_of,
    hidden_context,
    noise_steps,
)

SLOTS, PROMPT = 12, 3


def settings(**changes):
    shares = dict(share_low=1e-3, share_high=1.0, context_rate=0.0)
    sizes = dict(draws=2, epochs=1, block=4, steps=8, length=SLOTS - PROMPT)
    return MaskSettings(**{**shares, **sizes, **changes})


def row(count, canvas=SLOTS - PROMPT, prompt=PROMPT):
    slots = jnp.arange(prompt + SLOTS - PROMPT)
    return Row((slots >= prompt) & (slots < prompt + count), slots < prompt, jnp.int32(canvas))


def drawn(name, count, keys=2000, epoch=0, **changes):
    """hidden [keys, passes, completion slots] and weights [keys, passes] of many rows."""
    chosen, known = settings(**changes), row(count)
    passes = MASKINGS[name].passes * chosen.draws

    def one(key, number):
        return MASKINGS[name].draw(known, Draw(key, jnp.int32(epoch), number), chosen)

    both = jax.vmap(lambda key: jax.vmap(lambda n: one(key, n))(jnp.arange(passes)))
    found = jax.jit(both)(jax.random.split(jax.random.key(0), keys))
    return np.asarray(found.hidden)[..., PROMPT:], np.asarray(found.weights)


# What a token's weights sum to in expectation, in mean over the passes. An estimate of a
# log-likelihood needs 1; coupled-GRPO's is none; MDLM hides nothing with probability eps.
TOTAL = {"bernoulli": 1.0, "log_linear": 0.999, "uniform_count": 1.0, "full": 1.0}
TOTAL |= {"complementary": 1.0, "coupled": 1.5}


@pytest.mark.parametrize("name", TOTAL)
def test_weights_of_a_token_have_their_expected_sum(name):
    shares = dict(share_low=0.2, share_high=0.8) if name == "coupled" else {}
    # Small shares have large weights: of 1 / p the variance would be too large to test.
    shares = shares or (dict(share_low=0.1) if name == "bernoulli" else {})
    hidden, weights = drawn(name, count=5, **shares)
    total = (hidden * weights[..., None]).mean(axis=1)
    error = 4 * total[:, :5].std(axis=0) / np.sqrt(len(total))
    assert (np.abs(total[:, :5].mean(axis=0) - TOTAL[name]) <= error + 1e-6).all()
    assert not hidden[..., 5:].any()


@pytest.mark.parametrize("name", ["block", "whole_block", "schedule", "uniform_count", "full"])
def test_a_draw_of_known_size_sums_to_the_length(name):
    hidden, weights = drawn(name, count=5, keys=200, context_rate=0.15)
    found = hidden.sum(axis=-1) * weights
    some = hidden.any(axis=-1)
    assert some.any() and (some.all() or name == "schedule")
    np.testing.assert_allclose(found[some], 5.0, rtol=1e-6)


def test_draws_of_a_row_are_spread_evenly():
    """Of n tokens and M = n draws each number of hidden tokens comes once."""
    hidden, _ = drawn("uniform_count", count=4, keys=50, draws=4)
    assert (np.sort(hidden.sum(axis=-1), axis=1) == np.arange(1, 5)).all()
    _, weights = drawn("bernoulli", count=4, keys=50, draws=4, share_low=0.5, share_high=0.9)
    shares = np.sort(1 / weights, axis=1)
    np.testing.assert_allclose(np.diff(shares, axis=1), 0.1, rtol=1e-4)


def test_pairs_of_passes_hide_every_token_once():
    for name, first in (("complementary", 0), ("coupled", 1)):
        hidden, weights = drawn(name, count=5, keys=100, share_low=0.2, share_high=0.8)
        step = MASKINGS[name].passes
        one, other = hidden[:, first::step, :5], hidden[:, first + 1 :: step, :5]
        assert (one ^ other).all() and one.any() and other.any()
    counts = hidden[:, 0::3, :5].sum(axis=-1)
    assert (counts == 5).all() and (weights[:, 0::3] == 1.5).all()


def test_weights_of_complementary_passes_by_hand():
    """n = 5, k = 2: (n + 1) / k = 3 and (n + 1) / (n - k) = 2."""
    hidden, weights = drawn("complementary", count=5, keys=300)
    two = hidden[..., :5].sum(axis=-1)[:, 0] == 2
    assert two.any()
    np.testing.assert_allclose(weights[two][:, :2], [[3.0, 2.0]] * two.sum(), rtol=1e-6)


def test_blocks_hide_what_comes_after_them():
    """Of 9 tokens in blocks of 4: some of the chosen block, all later ones, none before."""
    known, chosen = row(9), settings()
    seen = set()
    for number in range(20):
        draw = Draw(jax.random.key(number), jnp.int32(0), jnp.int32(0))
        hidden = np.asarray(MASKINGS["block"].draw(known, draw, chosen).hidden)[PROMPT:]
        block, valid, _ = (int(np.asarray(x).max()) for x in block_of(known, draw, chosen))
        seen.add(block)
        assert valid == (1 if block == 2 else 4)
        assert hidden[4 * (block + 1) :].all() and not hidden[: 4 * block].any()
        assert hidden[4 * block : 4 * block + valid].any()
    assert seen == {0, 1, 2}


def test_an_answer_of_one_token_is_hidden_whole():
    for name in set(MASKINGS) - {"bernoulli", "log_linear", "schedule", "complementary", "coupled"}:
        hidden, weights = drawn(name, count=1, keys=20)
        assert hidden[..., 0].all() and (weights == 1).all(), name


def test_an_empty_row_hides_nothing_and_stays_finite():
    for name in MASKINGS:
        hidden, weights = drawn(name, count=0, keys=5)
        assert not hidden.any() and np.isfinite(weights).all(), name


@pytest.mark.parametrize("name", MASKINGS)
def test_masks_do_not_depend_on_padding(name):
    """The same completion three slots further right, in a longer row."""
    chosen = settings(context_rate=0.5)
    near, far = row(5), row(5, prompt=PROMPT + 3)
    far = far._replace(context=far.context & (jnp.arange(len(far.context)) >= 3))
    for number in range(MASKINGS[name].passes):
        draw = Draw(jax.random.key(7), jnp.int32(0), jnp.int32(number))
        a, b = (MASKINGS[name].draw(known, draw, chosen) for known in (near, far))
        np.testing.assert_array_equal(a.hidden[PROMPT:], b.hidden[PROMPT + 3 :])
        assert a.weights == b.weights
        a, b = (hidden_context(known, draw, chosen) for known in (near, far))
        np.testing.assert_array_equal(a[:PROMPT], b[3 : PROMPT + 3])


@pytest.mark.parametrize("name", sorted(set(MASKINGS) - {"full"}))
def test_every_update_of_a_step_draws_anew(name):
    first, _ = drawn(name, count=9, keys=30, epochs=2)
    second, _ = drawn(name, count=9, keys=30, epoch=1, epochs=2)
    assert (first != second).any()


def test_noise_grows_from_update_to_update():
    """t_n = floor((n - 1) / (mu - 1) * (T - t_1) + t_1): 3 of 8, then 5, then all."""
    assert noise_steps(jnp.int32(3), 3, 8).tolist() == [3, 5, 8]
    assert noise_steps(jnp.int32(3), 1, 8).tolist() == [3]
    counts = [
        drawn("schedule", count=9, keys=100, epoch=n, epochs=3)[0].sum(axis=(1, 2)).mean()
        for n in range(3)
    ]
    assert counts[0] < counts[1] < counts[2] == 18  # all of nine tokens, twice
