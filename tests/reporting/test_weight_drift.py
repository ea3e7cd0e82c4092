import jax.numpy as jnp
import numpy as np
import pytest

from rljax.reporting.weight_drift import (
    Decomposition,
    changed_weights,
    checkpoint_drift,
    jaccard,
    jaccard_by_chance,
    largest_angle,
    low_magnitude_mask,
    matrix_drift,
    overlap,
    principal_cosines,
    principal_mask,
    round_to_bfloat16,
    sparsity,
    spectral_drift,
    stable_rank,
)


def matrix(seed=0, shape=(9, 7), scale=1.0):
    return scale * np.random.default_rng(seed).normal(size=shape)


def orthogonal(seed, size):
    return np.linalg.qr(matrix(seed, (size, size)))[0]


def angles(base, trained, rank):
    """Largest angles in degrees, left and right."""
    cosines = principal_cosines(Decomposition.of(base), Decomposition.of(trained), rank)
    return [np.degrees(np.arccos(side.min())) for side in cosines]


# ----------------------------------------------------------------------------- changed weights


def test_rounding_to_bfloat16_is_that_of_jax():
    values = np.concatenate([
        matrix(shape=(2000,), scale=10.0 ** np.arange(-20, 20).repeat(50)),
        [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 3.4e38],
        # Exactly between two neighbours: ties go to the even one.
        1.0 + np.arange(1, 16, 2) * 2.0**-8,
    ]).astype(np.float32)  # fmt: skip
    expected = np.asarray(jnp.asarray(values).astype(jnp.bfloat16).astype(jnp.float32))
    np.testing.assert_array_equal(round_to_bfloat16(values), expected)


def test_the_tolerance_is_bitwise_equality_of_bfloat16_values():
    base = round_to_bfloat16(matrix(1, (4000,), np.exp(matrix(2, (4000,), 5.0))))
    # Neighbours, up and down, also across powers of two, where a step is smallest relatively.
    bits = base.view(np.uint32)
    step = np.random.default_rng(3).integers(-1, 2, base.shape) * 2**16
    moved = (bits.astype(np.int64) + step).astype(np.uint32).view(np.float32)
    powers = 2.0 ** np.arange(-10, 10)
    below = (powers.astype(np.float32).view(np.uint32) - 2**16).view(np.float32)
    np.testing.assert_array_equal(changed_weights(base, moved), step != 0)
    assert changed_weights(powers, below).all()
    assert not changed_weights(np.zeros(3), np.zeros(3)).any()
    assert changed_weights([0.0, 1e-30], [1e-30, 0.0]).all()


def test_shares_and_overlaps_by_hand():
    first, second = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert sparsity(first) == 0.5 and sparsity([]) == 1.0
    assert jaccard(first, second) == pytest.approx(1 / 3)
    assert jaccard_by_chance(first, second) == pytest.approx(0.25 / 0.75)
    assert jaccard(first, first) == 1 and jaccard(first & ~first, first & ~first) == 1
    assert overlap(first, second) == (0.5, True)
    assert overlap(first, np.zeros(4, bool)) == (0.0, False)


def test_independent_masks_overlap_as_by_chance():
    rng = np.random.default_rng(0)
    first, second = rng.random(200_000) < 0.3, rng.random(200_000) < 0.6
    assert jaccard(first, second) == pytest.approx(jaccard_by_chance(first, second), rel=0.02)


# --------------------------------------------------------------------------------- geometry


def test_the_same_weights_have_not_drifted():
    drift = matrix_drift(matrix(), matrix(), other=matrix(), rank=3)
    assert drift.sparsity == 1 and drift.spectral_drift == 0 and drift.stable_rank == 0
    assert drift.largest_angle < 1e-4 and drift.jaccard == 1
    assert drift.principal == (0.0, False) == drift.low_magnitude == drift.principal_not_low


@pytest.mark.parametrize("factor", [0.5, 1.7])
def test_a_multiple_has_turned_nothing(factor):
    base = matrix()
    assert max(angles(base, factor * base, 3)) < 1e-4
    pair = Decomposition.of(base), Decomposition.of(factor * base)
    assert spectral_drift(*pair) == pytest.approx(abs(factor - 1))


def test_a_rotation_from_the_left_leaves_spectrum_and_right_side():
    base = matrix()
    turned = orthogonal(5, 9) @ base
    left, right = angles(base, turned, 3)
    assert right < 1e-4 and left > 5
    pair = Decomposition.of(base), Decomposition.of(turned)
    assert spectral_drift(*pair) == pytest.approx(0, abs=1e-12)
    assert largest_angle(principal_cosines(*pair, 3)) == pytest.approx(left)
    assert largest_angle(principal_cosines(*pair, 99)) == pytest.approx(angles(base, turned, 7)[0])


@pytest.mark.parametrize("seed", range(5))
def test_bounds_of_weyl_and_wedin(seed):
    base, update = matrix(seed), matrix(seed + 10, scale=0.02)
    before, after = Decomposition.of(base), Decomposition.of(base + update)
    size = np.linalg.norm(update, 2)
    assert np.abs(after.sizes - before.sizes).max() <= size * (1 + 1e-9)
    for rank in (1, 3):
        # The gap between the k-th of one and the next of the other (Wedin).
        gap = before.sizes[rank - 1] - after.sizes[rank]
        sines = [np.sin(np.radians(angle)) for angle in angles(base, base + update, rank)]
        assert gap > 0 and max(sines) <= size / gap * (1 + 1e-9)


def test_stable_rank():
    assert stable_rank(np.diag([2.0, 2.0, 2.0, 0.0])) == pytest.approx(3)
    assert stable_rank(np.outer([1.0, 2.0], [3.0, 4.0, 5.0])) == pytest.approx(1)
    assert stable_rank(np.diag([2.0, 1.0])) == pytest.approx(1.25)
    assert stable_rank(np.zeros((3, 2))) == 0


def test_masks_by_hand():
    base = np.array([[10.0, 0.0, 0.0], [0.0, -3.0, 0.1], [0.0, 0.2, 4.0]])
    decomposition = Decomposition.of(base)
    # Rank 1 is the 10 alone; its ties are zeros, the first of which follow.
    assert principal_mask(decomposition, 1, 1 / 9).nonzero() == ([0], [0])
    assert principal_mask(decomposition, 3, 0.34).sum() == 3
    np.testing.assert_array_equal(principal_mask(decomposition, 3, 0.34), np.abs(base) >= 3)
    np.testing.assert_array_equal(low_magnitude_mask(base, 0.5), [[0, 1, 1], [1, 0, 0], [1, 0, 0]])
    assert low_magnitude_mask(base, 0.01).sum() == 1  # one at least


def test_change_of_small_weights_falls_on_the_low_mask():
    base = matrix(1, (20, 20))
    update = np.where(np.abs(base) < 0.3, 0.01, 1e-9)
    drift = matrix_drift(base, base + update, rank=4, alpha=0.5)
    assert drift.low_magnitude.share == 1 and drift.principal.share < 0.5
    assert drift.principal_not_low == (0.0, True)


def test_precision_hides_small_steps():
    """The third gate: half a unit in the last place of bfloat16 is needed."""
    base = round_to_bfloat16(matrix(2, (50, 50)))
    shares = [matrix_drift(base, base + step).sparsity for step in (1e-4, 3e-3, 1e-1)]
    assert shares[0] > 0.9 > shares[1] > 0.2 > shares[2]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((matrix(), matrix(shape=(7, 9))), r"Shapes \(9, 7\) and \(7, 9\)"),
        ((np.ones(3), np.ones(3)), r"A matrix is wanted, got shape \(3,\)"),
        ((matrix(), matrix(), dict(rank=0)), "rank=0"),
        ((matrix(), matrix(), dict(alpha=1.5)), "alpha=1.5"),
    ],
)
def test_what_cannot_be_compared(arguments, message):
    pair, fields = arguments[:2], arguments[2] if arguments[2:] else {}
    with pytest.raises(ValueError, match=message):
        matrix_drift(*pair, **fields)


# ------------------------------------------------------------------------------ checkpoints


def checkpoint(**changes):
    tensors = {
        "embed": matrix(3, (6, 4)),
        "layers.0.up": matrix(4, (5, 4)),
        "layers.1.up": matrix(5, (5, 4)),
        "norm": np.ones(4),
    }
    return {name: tensor + changes.get(name, 0.0) for name, tensor in tensors.items()}


def test_checkpoints_count_everything_and_decompose_matrices():
    base, trained = checkpoint(), checkpoint(norm=0.5)
    trained["layers.1.up"][0, 0] += 1.0
    other = checkpoint(norm=0.5)
    drift = checkpoint_drift(
        base, trained, other=other, excluded={"embed": "a table", "elsewhere": "-"}, rank=2
    )
    assert list(drift.matrices) == ["layers.0.up", "layers.1.up"]
    assert drift.excluded == {"embed": "a table", "norm": "no matrix but 1-dimensional"}
    assert drift.parameters == 24 + 20 + 20 + 4
    assert drift.sparsity == pytest.approx(1 - 5 / 68)
    assert drift.jaccard == pytest.approx(4 / 5)
    p, q = 5 / 68, 4 / 68
    assert drift.jaccard_by_chance == pytest.approx(p * q / (p + q - p * q))
    assert drift.matrices["layers.0.up"].sparsity == 1
    single = matrix_drift(
        np.float32(base["layers.1.up"]), np.float32(trained["layers.1.up"]), rank=2
    )
    assert drift.matrices["layers.1.up"].stable_rank == single.stable_rank == pytest.approx(1)
    alone = checkpoint_drift(base, trained)
    assert alone.jaccard is None and "embed" in alone.matrices


def test_checkpoints_of_other_models_are_refused():
    fewer = checkpoint()
    del fewer["norm"]
    with pytest.raises(ValueError, match="lacks 1 tensors: norm"):
        checkpoint_drift(checkpoint(), fewer)
    with pytest.raises(ValueError, match="has besides those of the base 1 tensors: norm"):
        checkpoint_drift(fewer, checkpoint())
    with pytest.raises(ValueError, match="norm: Shapes"):
        checkpoint_drift(checkpoint(), checkpoint() | {"norm": np.ones(5)})
