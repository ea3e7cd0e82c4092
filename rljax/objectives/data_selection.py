"""Which examples of a pool are worth learning, and how much: by gradients, or by losses.

LESS (arXiv:2402.04333)          examples whose update goes where a target's gradients point
loss weights (arXiv:2502.06733)  weights of examples by how large their losses are
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.parts import check_field


def adam_direction(
    gradients: Array,
    first: Array,
    second: Array,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    epsilon: float = 1e-8,
) -> Array:
    """Where Adam would go for one example alone (arXiv:2402.04333, section 3.1, as its code).

        m' = b1 m + (1 - b1) g;   v' = b2 v + (1 - b2) g^2;   m' / sqrt(v' + epsilon)

    The moments are those of the checkpoint; nothing is corrected for their bias.

    Args:
        gradients: [N, D] f32, of the loss of each example.
        first: [D] f32, m.
        second: [D] f32, v.
        b1, b2: of the optimizer.
        epsilon: inside of the root.

    Returns:
        [N, D] f32.
    """
    m = b1 * first + (1 - b1) * gradients
    v = b2 * second + (1 - b2) * gradients**2
    return m / jnp.sqrt(v + epsilon)


def influence_scores(
    train: Sequence[Array],
    targets: Sequence[Array],
    rates: Sequence[float],
    tasks: Array,
    *,
    count: int,
) -> Array:
    """How much learning an example would help the target it helps most (arXiv:2402.04333, eq. 3).

        score(z, z') = sum over checkpoints i of e_i cos(train_i(z), target_i(z'))
        score(z)     = max over tasks of the mean of score(z, z') over the task's examples z'

    A gradient that is 0 has a cosine of 0 with all others.

    Args:
        train: of each checkpoint [N, d] f32, directions of the pool's examples.
        targets: of each checkpoint [M, d] f32, gradients of the target's examples.
        rates: mean learning rate up to each checkpoint; they count by their shares of the sum.
        tasks: [M] i32, the task of each target's example, in 0 .. count - 1.
        count: K, tasks, each with an example.

    Returns:
        [N] f32.

    Raises:
        ValueError: for rates that are not positive.
    """
    check_field("rates", rates, lambda x: len(x) and min(x) > 0, "positive numbers")
    total = sum(rates)
    pairs = sum(
        rate / total * unit(own) @ unit(other).T
        for rate, own, other in zip(rates, train, targets, strict=True)
    )
    members = tasks[:, None] == jnp.arange(count)  # [M, K]
    means = pairs @ members.astype(pairs.dtype) / jnp.maximum(members.sum(axis=0), 1)
    return means.max(axis=1)


def unit(features: Array) -> Array:
    """[N, d] f32, each row with length 1; a row of zeros stays."""
    length = jnp.linalg.norm(features, axis=-1, keepdims=True)
    return features / jnp.where(length > 0, length, 1.0)


class LossWeights(NamedTuple):
    """Weights of B examples by their losses, [B] f32 each."""

    scaled: Array  # h, in [-delta, delta]
    worth: Array  # f
    weights: Array  # of sum 1


def loss_weights(
    losses: Array,
    *,
    loss_map: str = "linupper",
    loss_temperature: float = 0.4,
    loss_delta: float = 1.0,
) -> LossWeights:
    """Weights of examples that are learned together, by their losses (arXiv:2502.06733).

        h = (2 L - max L - min L) delta / (max L - min L)
        w = softmax(f(h) / temperature)

        linupper   f = min(h + delta, delta)    the lowest losses count less, all high ones alike
        quadratic  f = 1 - h^2 / delta^2        the middle counts most
        extremes   f = |h|                      both ends count most
        upper      f = (h + delta) / 2          the highest losses count most, noise among them

    They are the weights that gain most of f for their KL to equal ones. Losses may be shifted and
    scaled; equal ones have equal weights.

    Args:
        losses: [B] f32, mean over the tokens of each example.
        loss_map: one of `LOSS_MAPS`.
        loss_temperature: r, towards infinity all weights are equal.
        loss_delta: delta.

    Returns:
        `LossWeights`, constant.

    Raises:
        ValueError: for an unknown map, or a number that is not positive.
    """
    known = f"one of {', '.join(map(repr, LOSS_MAPS))}"
    check_field("loss_map", loss_map, LOSS_MAPS.__contains__, known)
    check_field("loss_temperature", loss_temperature, lambda x: x > 0, "> 0")
    check_field("loss_delta", loss_delta, lambda x: x > 0, "> 0")
    chex.assert_rank(losses, 1)
    losses = jax.lax.stop_gradient(losses)
    high, low = losses.max(), losses.min()
    width = jnp.maximum(high - low, 1e-6)
    scaled = 2 * loss_delta * losses / width - loss_delta * (high + low) / width
    worth = LOSS_MAPS[loss_map](scaled, loss_delta)
    return LossWeights(scaled, worth, jax.nn.softmax(worth / loss_temperature))


LOSS_MAPS: dict[str, Callable[[Array, float], Array]] = {
    "linupper": lambda h, delta: jnp.minimum(h + delta, delta),
    "quadratic": lambda h, delta: 1 - h**2 / delta**2,
    "extremes": lambda h, delta: jnp.abs(h),
    "upper": lambda h, delta: (h + delta) / 2,
}
