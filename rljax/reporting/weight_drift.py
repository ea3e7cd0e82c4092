"""Which weights training has changed: a checkpoint compared with the one that it started from.

NumPy only, in float64; one matrix [m, n] at a time. Definitions of Zhu et al. 2025, "The Path Not
Taken", arXiv:2511.08567. A *changed* weight is one whose bfloat16 value differs: with values that
are stored in bfloat16 the relative tolerance 1e-3 (< 2^-9) is exactly bitwise equality. Weights in
float32 have all changed; they are rounded to bfloat16 first, on both sides.

A change of bfloat16 values that is sparse does not mean that the other weights had no gradient:
steps below half a unit in the last place do not show.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

TOLERANCE = 1e-3
DEFAULT_RANK, DEFAULT_ALPHA = 64, 0.5  # the paper gives its own only in part


def round_to_bfloat16(values: ArrayLike) -> np.ndarray:
    """Nearest bfloat16 values, ties to even. [...] float -> [...] f32; NaN stays NaN."""
    single = np.array(values, np.float32)
    bits = single.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(single), single, rounded.view(np.float32))


def changed_weights(
    base: ArrayLike, trained: ArrayLike, tolerance: float = TOLERANCE
) -> np.ndarray:
    """Which weights have changed: |w+ - w0| > tolerance * max(|w0|, |w+|).

    Args:
        base: [...] values as stored, or rounded by `round_to_bfloat16`.
        trained: [...] the same of the trained weights.
        tolerance: eta.

    Returns:
        [...] bool.

    Raises:
        ValueError: if the shapes differ.
    """
    base, trained = _pair(base, trained)
    return np.abs(trained - base) > tolerance * np.maximum(np.abs(base), np.abs(trained))


def sparsity(changed: ArrayLike) -> float:
    """Share of weights that are as before; 1 for an empty array."""
    changed = np.asarray(changed, bool)
    return 1.0 - float(changed.mean()) if changed.size else 1.0


def jaccard(first: ArrayLike, second: ArrayLike) -> float:
    """|A & B| / |A | B| of two masks of changed weights; 1 where both are empty."""
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 1.0


def jaccard_by_chance(first: ArrayLike, second: ArrayLike) -> float:
    """What `jaccard` would be of independent masks with these densities: pq / (p + q - pq)."""
    return _chance(
        float(np.mean(np.asarray(first, bool))), float(np.mean(np.asarray(second, bool)))
    )


def _chance(p: float, q: float) -> float:
    """`jaccard_by_chance`, from the two densities."""
    return p * q / (p + q - p * q) if p + q > 0 else 1.0


class Decomposition(NamedTuple):
    """A singular value decomposition, thin: W = U diag(s) V^T."""

    left: np.ndarray  # [m, r]
    sizes: np.ndarray  # [r], falling
    right: np.ndarray  # [r, n]

    @classmethod
    def of(cls, weights: ArrayLike) -> "Decomposition":
        """The decomposition of a matrix [m, n], r = min(m, n)."""
        return cls(*np.linalg.svd(np.asarray(weights, np.float64), full_matrices=False))


def principal_cosines(
    base: Decomposition, trained: Decomposition, rank: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of the angles between the leading subspaces, left [k] and right [k], falling.

    cos theta_i = sigma_i(U0[:, :k]^T U+[:, :k]): subspaces, not vectors, whose signs and order
    within equal singular values mean nothing. k is `rank`, at most the number of singular values.
    """
    k = _at_most(rank, base)
    left = np.linalg.svd(base.left[:, :k].T @ trained.left[:, :k], compute_uv=False)
    right = np.linalg.svd(base.right[:k] @ trained.right[:k].T, compute_uv=False)
    return np.clip(left, 0.0, 1.0), np.clip(right, 0.0, 1.0)


def largest_angle(cosines: tuple[np.ndarray, np.ndarray]) -> float:
    """Largest principal angle of either side, in degrees."""
    return float(np.degrees(np.arccos(min(side.min() for side in cosines))))


def spectral_drift(base: Decomposition, trained: Decomposition) -> float:
    """||s+ - s0|| / ||s0|| of the sorted singular values; 0 for two zero matrices."""
    distance, size = np.linalg.norm(trained.sizes - base.sizes), np.linalg.norm(base.sizes)
    if size == 0:
        return 0.0 if distance == 0 else np.inf
    return float(distance / size)


def stable_rank(update: ArrayLike) -> float:
    """||D||_F^2 / ||D||_2^2 of an update D; 0 where D is 0."""
    sizes = np.linalg.svd(np.asarray(update, np.float64), compute_uv=False)
    return float((sizes**2).sum() / sizes[0] ** 2) if sizes.size and sizes[0] > 0 else 0.0


def principal_mask(base: Decomposition, rank: int, alpha: float) -> np.ndarray:
    """The max(1, int(alpha m n)) largest entries of |W0^(k)|, the best rank-k approximation.

    Args:
        base: of the weights before training.
        rank: k.
        alpha: share of entries.

    Returns:
        [m, n] bool; of equal entries the first in row-major order.
    """
    k = _at_most(rank, base)
    approximation = (base.left[:, :k] * base.sizes[:k]) @ base.right[:k]
    return _first(-np.abs(approximation), alpha)


def low_magnitude_mask(weights: ArrayLike, alpha: float) -> np.ndarray:
    """The max(1, int(alpha m n)) smallest entries of |W0|. [m, n] -> [m, n] bool."""
    return _first(np.abs(np.asarray(weights, np.float64)), alpha)


class Overlap(NamedTuple):
    """How much of the change falls into a mask; by chance that is the mask's share."""

    share: float  # 0 where it is undefined
    defined: bool  # False where nothing has changed


def overlap(mask: ArrayLike, changed: ArrayLike) -> Overlap:
    """|X & M| / |M| of a mask X and the changed weights M."""
    mask, changed = np.asarray(mask, bool), np.asarray(changed, bool)
    count = changed.sum()
    return Overlap(float((mask & changed).sum() / count) if count else 0.0, bool(count))


class MatrixDrift(NamedTuple):
    """What is measured on one matrix."""

    shape: tuple[int, int]
    sparsity: float
    largest_angle: float  # degrees, of the leading `rank` directions, left or right
    spectral_drift: float
    stable_rank: float  # of the update
    principal: Overlap
    low_magnitude: Overlap
    principal_not_low: Overlap
    jaccard: float | None = None  # with another run
    jaccard_by_chance: float | None = None


def matrix_drift(
    base: ArrayLike,
    trained: ArrayLike,
    *,
    other: ArrayLike | None = None,
    rank: int = DEFAULT_RANK,
    alpha: float = DEFAULT_ALPHA,
    tolerance: float = TOLERANCE,
) -> MatrixDrift:
    """Compares one matrix before and after training.

    Change is judged on the values rounded to bfloat16, the spectra on the values themselves.

    Args:
        base: [m, n].
        trained: [m, n].
        other: [m, n] of another run from the same base, for the overlap of what they changed.
        rank: k, how many leading directions; at most min(m, n).
        alpha: share of entries in the masks.
        tolerance: eta of `changed_weights`.

    Raises:
        ValueError: for shapes that differ or are no matrices, a rank below 1, a share outside of
            (0, 1].
    """
    base, trained = _pair(base, trained)
    if base.ndim != 2:
        raise ValueError(f"A matrix is wanted, got shape {base.shape}.")
    if rank < 1 or not 0 < alpha <= 1:
        raise ValueError(f"rank must be >= 1 and alpha in (0, 1], got {rank=}, {alpha=}.")
    before, after = Decomposition.of(base), Decomposition.of(trained)
    rounded = round_to_bfloat16(base)
    changed = changed_weights(rounded, round_to_bfloat16(trained), tolerance)
    principal = principal_mask(before, rank, alpha)
    low = low_magnitude_mask(base, alpha)
    numbers = MatrixDrift(
        shape=base.shape,
        sparsity=sparsity(changed),
        largest_angle=largest_angle(principal_cosines(before, after, rank)),
        spectral_drift=spectral_drift(before, after),
        stable_rank=stable_rank(trained - base),
        principal=overlap(principal, changed),
        low_magnitude=overlap(low, changed),
        principal_not_low=overlap(principal & ~low, changed),
    )
    if other is None:
        return numbers
    second = changed_weights(rounded, round_to_bfloat16(_pair(base, other)[1]), tolerance)
    return numbers._replace(
        jaccard=jaccard(changed, second), jaccard_by_chance=jaccard_by_chance(changed, second)
    )


class CheckpointDrift(NamedTuple):
    """All matrices of a checkpoint, and how many of all its parameters have changed."""

    matrices: dict[str, MatrixDrift]
    excluded: dict[str, str]  # tensors without matrix numbers, and why; they count in the sparsity
    parameters: int
    sparsity: float
    jaccard: float | None = None
    jaccard_by_chance: float | None = None


def checkpoint_drift(
    base: Mapping[str, ArrayLike],
    trained: Mapping[str, ArrayLike],
    *,
    other: Mapping[str, ArrayLike] | None = None,
    excluded: Mapping[str, str] | None = None,
    rank: int = DEFAULT_RANK,
    alpha: float = DEFAULT_ALPHA,
    tolerance: float = TOLERANCE,
) -> CheckpointDrift:
    """Compares two checkpoints tensor by tensor; each is looked up once, so they may be lazy.

    Args:
        base: name -> tensor. Stacked layers and fused projections have to be split before.
        trained: the same names and shapes.
        other: of another run from the same base.
        excluded: names without matrix numbers, and why. Tensors that are no matrices are added.
        rank: see `matrix_drift`.
        alpha: see `matrix_drift`.
        tolerance: see `matrix_drift`.

    Raises:
        ValueError: if names or shapes differ.
    """
    runs = [trained] if other is None else [trained, other]
    for run in runs:
        _check_names(base, run)
    matrices: dict[str, MatrixDrift] = {}
    excluded, changes = dict(excluded or {}), _Changes(len(runs))
    for name in base:
        before, after = _values(base[name]), [_values(run[name]) for run in runs]
        if before.ndim != 2:
            excluded[name] = f"no matrix but {before.ndim}-dimensional"
        try:
            changes.add(before, after, tolerance)
            if name not in excluded:
                matrices[name] = matrix_drift(
                    before,
                    after[0],
                    other=None if other is None else after[1],
                    rank=rank,
                    alpha=alpha,
                    tolerance=tolerance,
                )
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    sparsity, overlap, by_chance = changes.numbers()
    return CheckpointDrift(
        matrices,
        {name: reason for name, reason in excluded.items() if name in base},
        changes.parameters,
        sparsity,
        overlap,
        by_chance,
    )


class _Changes:
    """Changed weights of all tensors together."""

    def __init__(self, runs: int) -> None:
        self.parameters, self.each = 0, np.zeros(runs, np.int64)
        self.both = self.either = 0

    def add(self, base: np.ndarray, runs: list[np.ndarray], tolerance: float) -> None:
        rounded = round_to_bfloat16(base)
        masks = [changed_weights(rounded, round_to_bfloat16(run), tolerance) for run in runs]
        self.parameters += base.size
        self.each += [mask.sum() for mask in masks]
        self.both += int(np.logical_and.reduce(masks).sum())
        self.either += int(np.logical_or.reduce(masks).sum())

    def numbers(self) -> tuple[float, float | None, float | None]:
        """Sparsity of the first run, Jaccard of two and the same by chance."""
        share = self.each / max(self.parameters, 1)
        if len(share) < 2:
            return 1.0 - float(share[0]), None, None
        p, q = map(float, share)
        return 1.0 - p, self.both / self.either if self.either else 1.0, _chance(p, q)


def _check_names(base: Mapping[str, ArrayLike], run: Mapping[str, ArrayLike]) -> None:
    lacking = [name for name in base if name not in run]
    unknown = [name for name in run if name not in base]
    for names, what in ((lacking, "lacks"), (unknown, "has besides those of the base")):
        if names:
            listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise ValueError(f"A trained checkpoint {what} {len(names)} tensors: {listed}.")


def _values(tensor: ArrayLike) -> np.ndarray:
    return np.asarray(tensor).astype(np.float32)


def _pair(base: ArrayLike, trained: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    base, trained = np.asarray(base, np.float64), np.asarray(trained, np.float64)
    if base.shape != trained.shape:
        raise ValueError(f"Shapes {base.shape} and {trained.shape} cannot be compared.")
    return base, trained


def _at_most(rank: int, decomposition: Decomposition) -> int:
    if rank < 1:
        raise ValueError(f"rank is {rank}; it must be a positive number of directions.")
    return min(rank, decomposition.sizes.size)


def _first(keys: np.ndarray, alpha: float) -> np.ndarray:
    """The max(1, int(alpha * size)) smallest keys; of equal ones the first."""
    count = max(1, int(alpha * keys.size))
    mask = np.zeros(keys.size, bool)
    mask[np.argsort(keys, axis=None, kind="stable")[:count]] = True
    return mask.reshape(keys.shape)
