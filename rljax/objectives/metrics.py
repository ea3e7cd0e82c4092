"""Metrics as sums, so that they can be added up over micro-batches, devices, updates and runs.

Every kind of metric is a tuple of sums and is added field by field, as `jax.tree.map` does (`a + b`
would concatenate). Once everything has been added up, `numbers` makes what is logged: means,
errors, quantiles or quotients. It works on JAX arrays in a compiled program and on NumPy arrays on
the host.
"""

import math
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

Number = ArrayLike  # [], of JAX or NumPy

# |G|^2 of a gradient is a difference of squared norms. Where only one micro-batch has a gradient it
# is 0 up to rounding, and a quotient by it would be some large number without a meaning.
RESOLVED = 1e-6

# Bins of log-ratios: one around 0, and on either side 8 for each factor of 2 from 2^-20 to 2^5.
PER_OCTAVE = 8
LOWEST_OCTAVE, HIGHEST_OCTAVE = -20, 5
SIDE = PER_OCTAVE * (HIGHEST_OCTAVE - LOWEST_OCTAVE)
BINS = 2 * SIDE + 1
_MAGNITUDES = [2.0 ** (LOWEST_OCTAVE + edge / PER_OCTAVE) for edge in range(SIDE + 1)]
_LOWER = [*(-edge for edge in _MAGNITUDES[:0:-1]), 0.0, *_MAGNITUDES[:-1]]
_UPPER = [*(-edge for edge in _MAGNITUDES[-2::-1]), 0.0, *_MAGNITUDES[1:]]


class Metric(Protocol):
    """What every kind of metric can do."""

    def numbers(self, name: str) -> dict[str, Number]:
        """The numbers that are logged, by their names; NaN where nothing was counted."""
        ...


def _namespace(array: Number) -> Any:
    """The array's own module, jax.numpy or numpy; jax.numpy for a plain number."""
    return array.__array_namespace__() if hasattr(array, "__array_namespace__") else jnp


def _quotient(total: Number, count: Number, otherwise: float) -> Number:
    """total / count where count is positive."""
    where = _namespace(count).where
    counted = count > 0
    return where(counted, total / where(counted, count, 1.0), otherwise)


class SumCount(NamedTuple):
    """A mean: a sum and its divisor."""

    total: Array  # [] f32
    count: Array  # [] f32

    def mean(self) -> Array:
        """[] f32, total / count; 0 when nothing was counted."""
        return _quotient(self.total, self.count, 0.0)

    def numbers(self, name: str) -> dict[str, Number]:
        """The mean."""
        return {name: _quotient(self.total, self.count, math.nan)}


class RowSums(NamedTuple):
    """A mean over tokens with a standard error over sequences: a row's tokens are not independent.

        R = sum_i y_i / sum_i L_i,    se^2 = n / (n - 1) * sum_i (y_i - R L_i)^2 / (sum_i L_i)^2

    with y_i the sum over a row's tokens, L_i their number and n rows (the usual error of a ratio).
    The square is multiplied out, so in float32 an error below about 1e-3 of the mean is not
    resolved. A row that several epochs repeat counts each time, as if it were another sample.
    """

    total: Array  # [] f32, of y
    count: Array  # [] f32, of L
    square: Array  # [] f32, of y^2
    product: Array  # [] f32, of y L
    count_square: Array  # [] f32, of L^2
    rows: Array  # [] f32, n

    def mean(self) -> Array:
        """[] f32, R; 0 when nothing was counted."""
        return _quotient(self.total, self.count, 0.0)

    def error(self) -> Number:
        """[] f32, its standard error; NaN with fewer than two rows."""
        xp, mean = _namespace(self.count), self.mean()
        squares = self.square - 2.0 * mean * self.product + mean**2 * self.count_square
        spread = xp.sqrt(_quotient(self.rows, self.rows - 1.0, math.nan) * xp.maximum(squares, 0.0))
        return _quotient(spread, self.count, math.nan)

    def numbers(self, name: str) -> dict[str, Number]:
        """The mean, and `NAME_error`."""
        return {name: _quotient(self.total, self.count, math.nan), f"{name}_error": self.error()}


class WeightSums(NamedTuple):
    """Effective sample size: mean(w)^2 / mean(w^2), the share of n tokens that weights w leave."""

    total: Array  # [] f32, of w >= 0
    square: Array  # [] f32, of w^2
    count: Array  # [] f32, n

    def share(self) -> Array:
        """[] f32 in [0, 1]: 1 for equal weights, 1 / n where one weight is all, 0 without any."""
        return _quotient(self.total**2, self.square * self.count, 0.0)

    def numbers(self, name: str) -> dict[str, Number]:
        """The share."""
        where = _namespace(self.count).where
        return {name: where(self.count > 0, self.share(), math.nan)}


class RatioCounts(NamedTuple):
    """A histogram of log-ratios, for extremes and quantiles of ratios.

    Extremes and quantiles cannot be added up, but counts of bins can. A bin is 9 % of its log-ratio
    wide, and a log-ratio may be off by as much: a ratio of 1.2 by 0.02 at most, a ratio of 20 by a
    third. All ratios beyond exp(+-32) look the same, and so do all that are nearer to 1 than 1e-6.
    """

    counts: Array  # [BINS] f32

    def numbers(self, name: str) -> dict[str, Number]:
        """`NAME_min`, `NAME_q1`, `NAME_q50`, `NAME_q99`, `NAME_max`."""
        exp = _namespace(self.counts).exp
        places = {"min": 0.0, "q1": 0.01, "q50": 0.5, "q99": 0.99, "max": 1.0}
        return {f"{name}_{place}": exp(quantile(self.counts, q)) for place, q in places.items()}


class GapCounts(NamedTuple):
    """A histogram of absolute log-ratios, for the largest ones; as exact as `RatioCounts`."""

    counts: Array  # [BINS] f32

    def numbers(self, name: str) -> dict[str, Number]:
        """`NAME_gap_q99` and `NAME_gap_max`, in nats."""
        places = {"q99": 0.99, "max": 1.0}
        return {f"{name}_gap_{place}": quantile(self.counts, q) for place, q in places.items()}


class GradientNoise(NamedTuple):
    """What micro-batches say about the gradient (arXiv:1812.06162, appendix A.1).

    Both estimates are unbiased. Their quotient, the noise scale, is not: so it is the quotient of
    their means over everything that was added up.
    """

    squared_norm: Array  # [] f32, |G|^2 of the true gradient; may be negative
    covariance_trace: Array  # [] f32, tr S of the gradient of one sequence
    count: Array  # [] f32, estimates that were added up

    def numbers(self, name: str) -> dict[str, Number]:
        """`NAME_signal` |G|^2, `NAME_variance` tr S and `NAME_noise_scale` tr S / |G|^2.

        The scale is in sequences. It is NaN where |G|^2 cannot be told from 0: below `RESOLVED`
        tr S.
        """
        trace = self.covariance_trace
        signal = self.squared_norm - RESOLVED * _namespace(trace).maximum(trace, 0.0)
        scale = _quotient(trace, self.squared_norm, math.nan)
        return {
            f"{name}_signal": _quotient(self.squared_norm, self.count, math.nan),
            f"{name}_variance": _quotient(self.covariance_trace, self.count, math.nan),
            f"{name}_noise_scale": _namespace(trace).where(signal > 0, scale, math.nan),
        }


def masked(values: Array, mask: Array) -> SumCount:
    """The sum of `values` where `mask` is True, and the number of these values.

    Args:
        values: [...] any numeric or bool type; gradients are blocked.
        mask: [...] bool, the same shape.

    Returns:
        `SumCount` of two scalars. An all-False mask gives (0, 0).
    """
    # `float` is float32 unless 64-bit types are switched on.
    values = jax.lax.stop_gradient(jnp.asarray(values).astype(float))
    return SumCount(jnp.where(mask, values, 0.0).sum(), mask.sum().astype(float))


def row_sums(values: Array, mask: Array) -> RowSums:
    """Sums over tokens and over rows, for a mean with its error.

    Args:
        values: [N, T] f32; gradients are blocked.
        mask: [N, T] bool; rows without True are not counted.
    """
    sums = jnp.where(mask, jax.lax.stop_gradient(values), 0.0).sum(axis=-1)
    lengths = mask.sum(axis=-1).astype(sums.dtype)
    return RowSums(
        total=sums.sum(),
        count=lengths.sum(),
        square=(sums**2).sum(),
        product=(sums * lengths).sum(),
        count_square=(lengths**2).sum(),
        rows=(lengths > 0).sum().astype(sums.dtype),
    )


def bin_counts(log_ratio: Array, mask: Array) -> Array:
    """A histogram of the True slots, in bins whose width grows with the distance from 0.

    Args:
        log_ratio: [...] f32; gradients are blocked.
        mask: [...] bool, the same shape.

    Returns:
        [BINS] f32; bin `SIDE` holds what is nearer to 0 than 2^-20, the outermost bins hold
        infinities, and NaN is not counted.
    """
    log_ratio = jax.lax.stop_gradient(log_ratio)
    kept = mask & ~jnp.isnan(log_ratio)
    log_ratio = jnp.where(kept, log_ratio, 0.0)
    size = jnp.clip(jnp.abs(log_ratio), _MAGNITUDES[0], _MAGNITUDES[-1])
    place = jnp.floor(PER_OCTAVE * (jnp.log2(size) - LOWEST_OCTAVE)).astype(int)
    step = jnp.sign(log_ratio).astype(int) * (1 + jnp.clip(place, 0, SIDE - 1))
    index = SIDE + jnp.where(jnp.abs(log_ratio) < _MAGNITUDES[0], 0, step)
    return jnp.zeros(BINS).at[index.reshape(-1)].add(kept.reshape(-1).astype(float))


def quantile(counts: Number, q: float) -> Number:
    """A quantile of what `bin_counts` counted; the counts of a bin are spread evenly over it.

    Args:
        counts: [BINS].
        q: in [0, 1]; 0 and 1 are the extremes.

    Returns:
        [] within the bin of the value at place floor(q (n - 1)); NaN where nothing was counted.
    """
    xp = _namespace(counts)
    reached = xp.cumsum(counts)
    place = q * xp.maximum(reached[-1] - 1.0, 0.0)
    index = xp.minimum((reached <= xp.floor(place)).sum(), BINS - 1)
    before, inside = reached[index] - counts[index], xp.maximum(counts[index], 1.0)
    share = xp.minimum((place - before + 0.5) / inside, 1.0)
    lower, upper = xp.asarray(_LOWER, counts.dtype), xp.asarray(_UPPER, counts.dtype)
    value = lower[index] + share * (upper[index] - lower[index])
    return xp.where(reached[-1] > 0, value, math.nan)
