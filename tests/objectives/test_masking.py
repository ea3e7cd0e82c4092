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
    gauss_legendre,
    hidden_context,
    noise_steps,
    trajectory_runs,
)

SLOTS, PROMPT = 12, 3


def settings(**changes):
    shares = dict(share_low=1e-3, share_high=1.0, context_rate=0.0)
    sizes = dict(draws=2, epochs=1, block=4, steps=8, length=SLOTS - PROMPT)
    return MaskSettings(**{**shares, **sizes, **changes})


def row(count, canvas=SLOTS - PROMPT, prompt=PROMPT):
    slots = jnp.arange(prompt + SLOTS - PROMPT)
    learned = (slots >= prompt) & (slots < prompt + count)
    return Row(learned, slots < prompt, jnp.int32(canvas), steps=slots)


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


def test_nodes_of_a_quadrature():
    """Exact to the degree 2 N - 1; three nodes as the tables of integrals have them."""
    for nodes in range(1, 6):
        times, weights = map(np.array, gauss_legendre(nodes))
        powers = np.arange(2 * nodes)
        np.testing.assert_allclose((weights * times ** powers[:, None]).sum(1), 1 / (powers + 1))
    times, weights = gauss_legendre(3)
    np.testing.assert_allclose(times, [0.112702, 0.5, 0.887298], atol=1e-6)
    np.testing.assert_allclose(weights, [5 / 18, 8 / 18, 5 / 18])


@pytest.mark.parametrize(
    "count, by_time", [(4, 1.2954), (8, 1.0265), (10, 0.9414), (16, 0.8724), (64, 0.9880)]
)
def test_quadratures_hide_exact_counts_and_weigh_by_them_or_by_the_time(count, by_time):
    """With n / k the weights of a token are 1 in mean; with 1 / t that depends on the length."""
    chosen, slots = settings(draws=3, length=count), jnp.arange(count)
    known = Row(slots >= 0, slots < 0, jnp.int32(count))
    for name, mean in (("quadrature", 1.0), ("quadrature_time", by_time)):
        total = 0.0
        for number, time in enumerate(gauss_legendre(3)[0]):
            draw = Draw(jax.random.key(0), jnp.int32(0), jnp.int32(number))
            masked = MASKINGS[name].draw(known, draw, chosen)
            assert int(masked.hidden.sum()) == max(1, int(time * count))
            total += float((masked.hidden * masked.weights).sum()) / (3 * count)
        assert total == pytest.approx(mean, abs=6e-5)


@pytest.mark.parametrize(
    "steps, shrink, runs",
    [
        ([0, 3, 1, 2, 4], 2, [0, 1, 0, 1, 2]),  # 0 1, 2 3, 4
        ([0, 2, 1, 2], 2, [0, 1, 0, 1]),
        ([7, 40, 9], 1, [0, 2, 1]),  # ids with gaps
        ([5, 5, 5], 1, [0, 0, 0]),
    ],
)
def test_steps_are_cut_into_runs(steps, shrink, runs):
    learned = jnp.array([False] + [True] * len(steps) + [False])
    found = trajectory_runs(jnp.array([0, *steps, 1]), learned, shrink)
    assert found[1:-1].tolist() == runs


def test_passes_of_a_trajectory_by_hand():
    """Steps 0 2 1 2: all hidden for token 0, then 1 2 3 for token 2, then 1 3 for both."""
    known = Row(jnp.ones(4, bool), jnp.zeros(4, bool), jnp.int32(4), jnp.array([0, 2, 1, 2]))
    chosen = settings(draws=4)  # one pass more than there are runs
    hidden, scored = [], []
    for number in range(4):
        draw = Draw(jax.random.key(0), jnp.int32(0), jnp.int32(number))
        masked = MASKINGS["trajectory"].draw(known, draw, chosen)
        hidden.append(np.flatnonzero(masked.hidden).tolist())
        scored.append(np.flatnonzero(masked.weights).tolist())
        assert set(np.unique(masked.weights)) <= {0.0, 4.0}
    assert hidden == [[0, 1, 2, 3], [1, 2, 3], [1, 3], []]
    assert scored == [[0], [2], [1, 3], []]


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
    drawn_or_paired = {"bernoulli", "log_linear", "schedule", "complementary", "coupled"}
    by_pass = {"quadrature", "quadrature_time", "trajectory"}  # weights of their own
    for name in set(MASKINGS) - drawn_or_paired - by_pass:
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
        np.testing.assert_array_equal(
            (a.hidden * a.weights)[PROMPT:], (b.hidden * b.weights)[PROMPT + 3 :]
        )
        a, b = (hidden_context(known, draw, chosen) for known in (near, far))
        np.testing.assert_array_equal(a[:PROMPT], b[3 : PROMPT + 3])


@pytest.mark.parametrize("name", sorted(set(MASKINGS) - {"full", "trajectory"}))
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
