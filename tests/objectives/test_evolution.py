"""Noise, fitness and update of evolution strategies, against the definitions in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.evolution import (
    FITNESS,
    LowRank,
    direction_keys,
    full_gradient,
    full_noise,
    low_rank_gradient,
    low_rank_noise,
    member_signs,
)

KEY = jax.random.key(5)
INPUTS, OUTPUTS = 6, 4


def noise_of(members, epoch=0, *, reuse=1, sigma=0.1, rank=2, key=KEY, **more):
    members = jnp.asarray(members)
    keys = direction_keys(key, epoch, members, noise_reuse=reuse)
    return low_rank_noise(
        keys, member_signs(members), INPUTS, OUTPUTS, sigma=sigma, rank=rank, **more
    )


def explicit(noise: LowRank) -> np.ndarray:
    """[N, inputs, outputs] float64."""
    return np.einsum("inr,irm->inm", *(np.asarray(x, np.float64) for x in noise))


def test_one_draw_holds_the_inputs_first_and_then_the_outputs():
    noise = noise_of([4, 5], epoch=3, sigma=0.3, rank=2)
    key = jax.random.fold_in(jax.random.fold_in(KEY, 3), 2)
    drawn = np.asarray(jax.random.normal(key, (INPUTS + OUTPUTS, 2)))
    for index, sign in enumerate((1, -1)):
        np.testing.assert_array_equal(noise.inputs[index], drawn[:INPUTS])
        expected = sign * 0.3 / np.sqrt(2) * drawn[INPUTS:].T
        np.testing.assert_allclose(noise.outputs[index], expected, rtol=1e-6)


def test_this_version_of_jax_draws_the_numbers_that_runs_depend_on():
    """Another default of the generator would change every run without a word."""
    assert jax.config.jax_threefry_partitionable and str(KEY.dtype) == "key<fry>"


def test_the_two_members_of_a_pair_are_opposite_and_other_members_are_not():
    changes = explicit(noise_of(range(8)))
    np.testing.assert_array_equal(changes[0::2], -changes[1::2])
    flat = changes[::2].reshape(4, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(4)).max() < 0.9


def test_noise_belongs_to_the_number_in_the_whole_population():
    whole, part = noise_of(range(8)), noise_of([6, 3])
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(a[jnp.array([6, 3])], b)


@pytest.mark.parametrize(
    "reuse, windows", [(0, [0, 0, 0, 0, 0, 0]), (1, [0, 1, 2, 3, 4, 5]), (2, [0, 0, 1, 1, 2, 2])]
)
def test_directions_are_kept_for_as_many_updates_as_asked(reuse, windows):
    epochs = [explicit(noise_of([0], epoch, reuse=reuse)) for epoch in range(6)]
    fresh = [explicit(noise_of([0], window)) for window in windows]
    np.testing.assert_array_equal(epochs, fresh)
    assert len({change.tobytes() for change in epochs}) == len(set(windows))


def test_entries_have_the_deviation_sigma_at_any_rank():
    for rank in (1, 4):
        changes = explicit(noise_of(range(0, 4000, 2), sigma=0.2, rank=rank))
        assert changes.std() == pytest.approx(0.2, rel=0.03)
    vectors = full_noise(jax.random.split(KEY, 2000), jnp.ones(2000), (5,), sigma=0.2)
    assert vectors.std() == pytest.approx(0.2, rel=0.03)


def test_numbers_of_bfloat16_parameters_are_drawn_in_bfloat16_and_scaled_in_float32():
    noise = noise_of([1], rank=1, dtype=jnp.bfloat16)
    assert noise.inputs.dtype == noise.outputs.dtype == jnp.float32
    drawn = np.asarray(noise.inputs)
    np.testing.assert_array_equal(drawn, np.asarray(noise.inputs.astype(jnp.bfloat16), np.float32))
    assert (noise.outputs != noise.outputs.astype(jnp.bfloat16).astype(jnp.float32)).any()


def test_the_update_is_the_weighed_sum_of_the_perturbations():
    """In one part or in several, by the equation in float64."""
    fitness = np.random.default_rng(0).normal(size=12).astype(np.float32)
    noise = noise_of(range(12))
    expected = -np.einsum("i,inm->nm", fitness.astype(np.float64), explicit(noise)) / np.sqrt(12)
    whole = low_rank_gradient(noise, jnp.asarray(fitness), 12)

    def cut(part):
        return jax.tree.map(lambda x: x[part], noise)

    parts = [
        low_rank_gradient(cut(part), jnp.asarray(fitness[part]), 12)
        for part in (slice(0, 5), slice(5, 12))
    ]
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(sum(parts), expected, rtol=1e-5, atol=1e-7)
    vectors = full_noise(jax.random.split(KEY, 12), member_signs(jnp.arange(12)), (3, 2))
    expected = -np.einsum("i,iab->ab", fitness, np.asarray(vectors, np.float64)) / np.sqrt(12)
    np.testing.assert_allclose(
        full_gradient(vectors, jnp.asarray(fitness), 12), expected, rtol=1e-5, atol=1e-9
    )


@pytest.mark.parametrize(
    "pairs, rank, expected", [(1, 1, 1), (3, 1, 3), (1, 2, 2), (8, 1, OUTPUTS)]
)
def test_the_rank_of_the_update_is_that_of_the_independent_directions(pairs, rank, expected):
    members = jnp.arange(2 * pairs)
    fitness = jax.random.normal(KEY, members.shape)
    gradient = low_rank_gradient(noise_of(members, rank=rank), fitness, len(members))
    assert np.linalg.matrix_rank(np.asarray(gradient, np.float64), tol=1e-5) == expected


@pytest.mark.parametrize("pairs", [256, 1024])
def test_the_update_of_a_linear_fitness_points_along_its_gradient(pairs):
    """cos = sqrt(K / (K + mn)) with full noise, about sqrt(K / (K + (m+2)(n+2))) with rank 1."""
    m, n, members = 32, 16, jnp.arange(2 * pairs)
    target = jax.random.normal(jax.random.key(1), (n, m))

    def cosine(update):
        return -jnp.vdot(update, target) / jnp.linalg.norm(update) / jnp.linalg.norm(target)

    @jax.jit
    @jax.vmap
    def of_seed(seed):
        keys = direction_keys(jax.random.key(seed), 0, members, noise_reuse=1)
        signs = member_signs(members)
        low = low_rank_noise(keys, signs, n, m, sigma=1.0)
        fitness = jnp.einsum("inr,irm,nm->i", *low, target)
        full = full_noise(keys, signs, (n, m), sigma=1.0)
        of_full = full_gradient(full, jnp.einsum("inm,nm->i", full, target), len(members))
        return cosine(low_rank_gradient(low, fitness, len(members))), cosine(of_full)

    found = np.asarray(of_seed(jnp.arange(8))).mean(axis=1)
    expected = [np.sqrt(pairs / (pairs + d)) for d in ((m + 2) * (n + 2), m * n)]
    np.testing.assert_allclose(found, expected, atol=0.015)
    assert found[0] < found[1]


def test_fitness_by_hand():
    scores = jnp.array([[1.0], [3.0], [2.0], [6.0]])
    groups = jnp.array([7, 7, 2, 2])
    deviation = np.sqrt(3.5 + 1e-5)
    np.testing.assert_allclose(
        FITNESS["population_zscore"](scores, groups),
        np.array([-2, 0, -1, 3]) / deviation,
        rtol=1e-6,
    )
    np.testing.assert_allclose(
        FITNESS["group_mean"](scores, groups), np.array([-1, 1, -2, 2]) / deviation, rtol=1e-6
    )


def test_the_score_of_a_member_is_the_mean_over_its_prompts():
    scores = jnp.array([[1.0, 3.0], [0.0, 8.0], [5.0, 5.0]])
    groups = jnp.zeros(3, int)
    for name in ("group_mean", "population_zscore"):
        np.testing.assert_allclose(
            FITNESS[name](scores, groups), FITNESS[name](jnp.array([[2.0], [4.0], [5.0]]), groups)
        )


def test_groups_go_by_their_ids_and_not_by_the_order_of_members():
    scores = jax.random.normal(KEY, (8, 1))
    groups, order = jnp.arange(8) // 4, jnp.array([3, 6, 0, 1, 7, 2, 5, 4])
    fitness = FITNESS["group_mean"](scores, groups)
    np.testing.assert_allclose(FITNESS["group_mean"](scores[order], groups[order]), fitness[order])


@pytest.mark.parametrize("name", ["group_mean", "population_zscore"])
def test_members_with_the_same_score_give_no_update(name):
    """0.1 is not exact: its mean over nine members is another number."""
    fitness = FITNESS[name](jnp.full((9, 1), 0.1), jnp.zeros(9, int))
    np.testing.assert_array_equal(fitness, np.zeros(9))
    gradient = low_rank_gradient(noise_of(range(9)), fitness, 9)
    np.testing.assert_array_equal(gradient, np.zeros((INPUTS, OUTPUTS)))


def test_a_group_that_hardly_differs_counts_little():
    """Its own deviation would make its fitness as large as that of the other one."""
    scores = jnp.array([[0.5], [0.5001], [0.0], [1.0]])
    fitness = np.abs(FITNESS["group_mean"](scores, jnp.array([0, 0, 1, 1])))
    assert fitness[:2].max() < 1e-3 * fitness[2:].min()


def test_fitness_against_members_without_noise():
    """Two groups; members 0 and 1 of each are unperturbed, and the prompts are averaged."""
    scores = jnp.array([[1.0, 0.0], [1.0, 0.0], [3.0, 0.0], [0.0, 4.0], [2.0, 2.0], [2.0, 2.0]])
    groups = jnp.array([0, 0, 0, 0, 1, 1])
    unperturbed = jnp.array([True, True, False, False, True, False])
    found = FITNESS["baseline_member"](scores, groups, unperturbed)
    first, second = np.std([1, 1, 3, 0]), np.std([0, 0, 0, 4])
    expected = [0, 0, (2 / first + 0) / 2, (-1 / first + 4 / second) / 2, 0, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_members_without_noise_have_none():
    signs = member_signs(jnp.arange(4), jnp.array([True, True, False, False]))
    np.testing.assert_array_equal(signs, [0, 0, 1, -1])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: noise_of([0], rank=0), "rank is 0; it must be a whole number >= 1"),
        (lambda: noise_of([0], sigma=-1.0), "sigma is -1.0; it must be >= 0"),
        (lambda: noise_of([0], reuse=-1), "noise_reuse is -1; it must be a whole number >= 0"),
        (
            lambda: FITNESS["group_mean"](jnp.ones((2, 1)), jnp.zeros(2, int), fitness_epsilon=0.0),
            "fitness_epsilon is 0.0; it must be > 0",
        ),
    ],
)
def test_wrong_fields_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
