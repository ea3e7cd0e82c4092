"""Which tokens a draw of masked diffusion hides, and what each hidden token weighs.

A masked diffusion model says log p(token | what is not hidden) of the hidden tokens of a row. A
*masking* draws the hidden tokens and their weights w such that, summed over a completion,

    mean over draws of sum over hidden tokens of w * log p(token | what is not hidden)

is the estimate of the row's log-likelihood (objectives/bounds.py). What is drawn follows from the
row's key, the number of the draw and the place of a token within its prompt or completion: not from
the batch around it, the amount of padding, or how the draws are spread over passes.

| option | hides | weight |
| --- | --- | --- |
| `bernoulli` | each token with probability p, p stratified over the draws | 1 / p |
| `log_linear` | each token with probability (1 - eps) t, t stratified over the draws | 1 / t |
| `uniform_count` | k of n tokens, k stratified over the draws | n / k |
| `full` | all tokens | 1 |
| `block` | k tokens of a block, all of later blocks, few of earlier ones | n / hidden |
| `whole_block` | a whole block and all later ones | n / hidden |
| `schedule` | a share that grows from update to update of a step, up to all | n / hidden |
| `coupled` | all; a share r; the rest | 1/2; 1/(2 r); 1/(2 (1 - r)), times 3 |
| `complementary` | k of n tokens; the rest | (n + 1) / k; (n + 1) / (n - k) |
| `quadrature` | k of n tokens, k / n at the nodes of a quadrature | M w n / k, w of the node |
| `quadrature_time` | the same | M w / t |
| `trajectory` | what was open when a run of steps began, once for each run | M on the run, else 0 |

`coupled` and `complementary` take three and two passes for each draw: each token is hidden in one
of the pair. `trajectory` draws nothing: its passes are those of the sampler.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array


class Row(NamedTuple):
    """One row of S slots."""

    learned: Array  # [S] bool, the tokens of the completion
    context: Array  # [S] bool, the tokens of the prompt
    canvas: Array  # [] i32, slots of the completion and of what is open behind it
    steps: Array | None = None  # [S] i32, in which the sampler filled each slot; of `trajectory`

    @property
    def place(self) -> Array:
        """[S] i32, number of each completion token in its completion, from 0."""
        return jnp.maximum(jnp.cumsum(self.learned) - 1, 0)

    @property
    def count(self) -> Array:
        """[] i32, n, tokens of the completion."""
        return self.learned.sum()


class Draw(NamedTuple):
    """Which draw of a row."""

    key: Array  # of the row in this step
    epoch: Array  # [] i32, number of the update of the step that the row is in, from 0
    number: Array  # [] i32, of the pass, from 0


class Masked(NamedTuple):
    """What a draw hides of the completion."""

    hidden: Array  # [S] bool, False outside the completion
    weights: Array  # [] or [S] f32, of each hidden token; 0 of one that is not scored


@dataclasses.dataclass(frozen=True)
class MaskSettings:
    """What is static.

    Attributes:
        draws: M.
        epochs: updates that a row is in, in one step.
        share_low: smallest share of tokens that is hidden, of options that draw it.
        share_high: largest share.
        block: tokens of a block; 0: the whole canvas.
        context_rate: probability that a prompt token, or one of an earlier block, is hidden too.
        steps: T of `schedule`, to which shares are rounded.
        shrink: steps of a run of `trajectory`.
        length: slots of a canvas at most.
    """

    draws: int
    epochs: int
    share_low: float
    share_high: float
    block: int
    context_rate: float
    steps: int
    length: int
    shrink: int = 1


# What random numbers of a row are for.
_STEP, _SHARE, _TOKENS, _CONTEXT, _BLOCKS = range(5)


def _key(draw: Draw, purpose: int, *numbers: Array | int) -> Array:
    """The key of a purpose in this update; of `_STEP` the same one in all updates of the step."""
    key = jax.random.fold_in(draw.key, purpose)
    for number in (*(() if purpose == _STEP else (draw.epoch,)), *numbers):
        key = jax.random.fold_in(key, number)
    return key


def _uniforms(key: Array, places: Array) -> Array:
    """[...] i32 -> [...] f32 in [0, 1): each follows from its place alone."""

    def one(place: Array) -> Array:
        return jax.random.uniform(jax.random.fold_in(key, place), dtype=jnp.float32)

    return jax.vmap(one)(places)


def _order(row: Row, key: Array) -> Array:
    """[S] i32: a random order of the completion's tokens, from 0; others come last."""
    noise = jnp.where(row.learned, _uniforms(key, row.place), jnp.inf)
    return jnp.argsort(jnp.argsort(noise))


def _stratified(draw: Draw, draws: int, number: Array) -> Array:
    """[] f32 in [0, 1): a random number, those of the draws of a row evenly spread."""
    first = jax.random.uniform(_key(draw, _SHARE), dtype=jnp.float32)
    return (first + number / draws) % 1.0


def _stratified_count(draw: Draw, draws: int, number: Array, options: Array) -> Array:
    """[] i32 in 0 .. options - 1, those of the draws of a row evenly spread (LLaDA's code)."""
    first = jax.random.randint(_key(draw, _SHARE), (), 0, jnp.maximum(options, 1))
    spread = jnp.round(first + number * options / draws).astype(jnp.int32)
    return spread % jnp.maximum(options, 1)


def _reciprocal(count: Array) -> Array:
    return 1.0 / jnp.maximum(count, 1)


def _share(settings: MaskSettings, uniform: Array) -> Array:
    return settings.share_low + (settings.share_high - settings.share_low) * uniform


def bernoulli(row: Row, draw: Draw, settings: MaskSettings) -> Masked:
    """Each token with probability p, uniform between the two shares; weight 1 / p (LLaDA, BGPO)."""
    share = _share(settings, _stratified(draw, settings.draws, draw.number))
    chosen = _uniforms(_key(draw, _TOKENS, draw.number), row.place) < share
    return Masked(row.learned & chosen, 1.0 / share)


class Noise(NamedTuple):
    """A noise level of MDLM; all with the axes of its time."""

    sigma: Array  # total noise
    rate: Array  # its derivative by the time
    move_chance: Array  # probability that a token is hidden
    weight: Array  # of a hidden token's log-probability


def log_linear_noise(time: Array, *, epsilon: float = 1e-3) -> Noise:
    """MDLM's schedule (arXiv:2406.07524): sigma(t) = -log(1 - (1 - eps) t).

    Args:
        time: [...] f32 in (0, 1].
        epsilon: eps; a token is hidden with probability at most 1 - eps.
    """
    rest = 1.0 - epsilon
    sigma, rate = -jnp.log1p(-rest * time), rest / (1.0 - rest * time)
    return Noise(sigma, rate, -jnp.expm1(-sigma), rate / jnp.expm1(sigma))


def log_linear(row: Row, draw: Draw, settings: MaskSettings) -> Masked:
    """Each token with probability (1 - eps) t, weight 1 / t (MDLM); eps is the smaller share."""
    time = _share(settings, _stratified(draw, settings.draws, draw.number))
    noise = log_linear_noise(time, epsilon=settings.share_low)
    chosen = _uniforms(_key(draw, _TOKENS, draw.number), row.place) < noise.move_chance
    return Masked(row.learned & chosen, noise.weight)


def uniform_count(row: Row, draw: Draw, settings: MaskSettings) -> Masked:
    """k of the n tokens, k uniform in 1 .. n; weight n / k: of lower variance than `bernoulli`."""
    count = 1 + _stratified_count(draw, settings.draws, draw.number, row.count)
    chosen = _order(row, _key(draw, _TOKENS, draw.number)) < count
    return Masked(row.learned & chosen, row.count * _reciprocal(count))


def full(row: Row, draw: Draw, settings: MaskSettings) -> Masked:
    """All tokens, weight 1: each as if it were the first to be filled (d1, arXiv:2504.12216)."""
    del draw, settings
    return Masked(row.learned, jnp.ones((), jnp.float32))


def block_of(row: Row, draw: Draw, settings: MaskSettings) -> tuple[Array, Array, Array]:
    """The block of a draw, how many completion tokens it has, and the block of each slot.

    Blocks of a row's draws differ as long as its completion has so many: their order is a random
    one of all blocks of the canvas, modulo the number of blocks that hold a token (SPG's code).
    """
    size = settings.block or settings.length
    most = -(-settings.length // size)
    blocks, filled = -(-row.canvas // size), jnp.maximum(-(-row.count // size), 1)
    numbers = jnp.arange(most)
    noise = _uniforms(_key(draw, _BLOCKS), numbers)
    order = jnp.argsort(jnp.where(numbers < blocks, noise, jnp.inf))
    block = order[draw.number % jnp.maximum(blocks, 1)] % filled
    valid = jnp.clip(row.count - block * size, 0, size)
    return block, valid, row.place // size


def block(row: Row, draw: Draw, settings: MaskSettings) -> Masked:
    """k tokens of a block, all of later blocks, few of earlier ones (SPG, arXiv:2510.09541).

    k is uniform between the two shares of the block's tokens, at least 1. A token of an earlier
    block is hidden at `context_rate`. All hidden tokens count.
    """
    chosen, valid, of_slot = block_of(row, draw, settings)
    least = jnp.maximum((valid * settings.share_low).astype(jnp.int32), 1)
    most = jnp.maximum(jnp.minimum((valid * settings.share_high).astype(jnp.int32), valid), least)
    count = jax.random.randint(_key(draw, _SHARE, draw.number), (), least, most + 1)
    inside = row.learned & (of_slot == chosen)
    token_key = _key(draw, _TOKENS, draw.number)
    picked = inside & (_order(row._replace(learned=inside), token_key) < count)
    early = _uniforms(_key(draw, _CONTEXT, draw.number, 1), row.place) < settings.context_rate
    hidden = picked | (row.learned & ((of_slot > chosen) | ((of_slot < chosen) & early)))
    return Masked(hidden, row.count * _reciprocal(hidden.sum()))


def whole_block(row: Row, draw: Draw, settings: MaskSettings) -> Masked:
    """A whole block and all later ones; weight n / number of hidden tokens (SPG's `block_all`)."""
    chosen, _, of_slot = block_of(row, draw, settings)
    hidden = row.learned & (of_slot >= chosen)
    return Masked(hidden, row.count * _reciprocal(hidden.sum()))


def noise_steps(first: Array, epochs: int, steps: int) -> Array:
    """The noise level of each update of a step: from a random one up to all (UniGRPO).

        t_n = floor((n - 1) / (mu - 1) * (T - t_1) + t_1),  n = 1 .. mu;  t_1 alone where mu = 1

    Args:
        first: [...] i32, t_1 in 0 .. T.
        epochs: mu, updates of the step.
        steps: T.

    Returns:
        [..., mu] i32.
    """
    numbers = jnp.arange(epochs)
    return first[..., None] + numbers * (steps - first[..., None]) // max(epochs - 1, 1)


def schedule(row: Row, draw: Draw, settings: MaskSettings) -> Masked:
    """A share that grows from update to update of a step (UniGRPO of MMaDA, arXiv:2505.15809).

    The first share is uniform, the last one 1 (`noise_steps`); one update a step has the first.
    """
    uniform = jax.random.uniform(_key(draw, _STEP), dtype=jnp.float32)
    first = jnp.floor(uniform * settings.steps).astype(jnp.int32)
    level = noise_steps(first, settings.epochs, settings.steps)[draw.epoch]
    chosen = _uniforms(_key(draw, _TOKENS, draw.number), row.place) < level / settings.steps
    hidden = row.learned & chosen
    return Masked(hidden, row.count * _reciprocal(hidden.sum()))


def coupled_weights(share: Array) -> Array:
    """[] -> [3]: weights of a token in the passes of `coupled` that hide it."""
    return 1.5 * jnp.stack([jnp.ones_like(share), 1.0 / share, 1.0 / (1.0 - share)])


def complementary_weights(count: Array, tokens: Array) -> Array:
    """[...] -> [2, ...]: weights of a token in the two passes of `complementary`.

    Args:
        count: k, tokens that the first pass hides, 0 .. n.
        tokens: n.
    """
    return (tokens + 1) * _reciprocal(jnp.stack([count, tokens - count]))


def coupled(row: Row, draw: Draw, settings: MaskSettings) -> Masked:
    """All tokens; each with probability r; the rest (coupled-GRPO, arXiv:2506.20639).

    The mean over the three passes is (log p of all + log p of a share / its probability) / 2. It is
    no log-probability, as the weights of a token do not belong to one distribution.
    """
    pair, side = jnp.divmod(draw.number, 3)
    share = _share(settings, _stratified(draw, settings.draws, pair))
    chosen = _uniforms(_key(draw, _TOKENS, pair), row.place) < share
    hidden = jnp.select([side == 0, side == 1], [jnp.ones_like(chosen), chosen], ~chosen)
    return Masked(row.learned & hidden, coupled_weights(share)[side])


def complementary(row: Row, draw: Draw, settings: MaskSettings) -> Masked:
    """k of the n tokens, k uniform in 0 .. n, and then the others (ESPO, arXiv:2512.03759)."""
    pair, side = jnp.divmod(draw.number, 2)
    count = _stratified_count(draw, settings.draws, pair, row.count + 1)
    first = _order(row, _key(draw, _TOKENS, pair)) < count
    hidden = row.learned & jnp.where(side == 0, first, ~first)
    return Masked(hidden, complementary_weights(count, row.count)[side])


def _legendre(degree: int, place: float) -> tuple[float, float]:
    """A Legendre polynomial and its derivative, at a place in (-1, 1)."""
    before, value = 1.0, place
    for n in range(2, degree + 1):
        before, value = value, ((2 * n - 1) * place * value - (n - 1) * before) / n
    return value, degree * (place * value - before) / (place**2 - 1)


@functools.cache
def gauss_legendre(nodes: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Nodes in (0, 1) and weights of sum 1, exact for polynomials of degree 2 * nodes - 1."""
    places, weights = [], []
    for number in reversed(range(nodes)):
        place = math.cos(math.pi * (number + 0.75) / (nodes + 0.5))
        for _ in range(20):  # Newton; a few would do
            value, slope = _legendre(nodes, place)
            place -= value / slope
        places.append((place + 1) / 2)
        weights.append(1 / ((1 - place**2) * _legendre(nodes, place)[1] ** 2))
    return tuple(places), tuple(weights)


def _quadrature(row: Row, draw: Draw, settings: MaskSettings) -> tuple[Array, Array, Array, Array]:
    """What a node hides [S], how many tokens that is, its time and M times its weight: []."""
    times, weights = (jnp.asarray(x, jnp.float32) for x in gauss_legendre(settings.draws))
    time = times[draw.number]
    count = jnp.maximum(jnp.floor(time * row.count).astype(jnp.int32), 1)
    hidden = row.learned & (_order(row, _key(draw, _TOKENS, draw.number)) < count)
    return hidden, count, time, settings.draws * weights[draw.number]


def quadrature(row: Row, draw: Draw, settings: MaskSettings) -> Masked:
    """k = max(1, floor(t n)) of the n tokens, t a node of Gauss and Legendre (GDPO, 2510.08554).

    The noise level, which most of the variance comes from, is not drawn. With n / k the weights of
    a token sum to 1, whatever its length.
    """
    hidden, count, _, weight = _quadrature(row, draw, settings)
    return Masked(hidden, weight * row.count / count)


def quadrature_time(row: Row, draw: Draw, settings: MaskSettings) -> Masked:
    """`quadrature` with 1 / t in place of n / k, as its authors have it: off for short answers.

    With three nodes the weights of a token sum to 1.30 at n = 4, 1.03 at 8, 0.87 at 16, 0.99 at 64.
    """
    hidden, _, time, weight = _quadrature(row, draw, settings)
    return Masked(hidden, weight / time)


def trajectory_runs(steps: Array, learned: Array, shrink: int) -> Array:
    """The number of each token's run of steps: its steps in order, cut into runs of `shrink`.

    Args:
        steps: [S] i32, in which each token was filled.
        learned: [S] bool, the tokens; only their steps count.
        shrink: distinct steps of a run.

    Returns:
        [S] i32, from 0; meaningless where not learned.
    """
    last = jnp.iinfo(jnp.int32).max
    order = jnp.argsort(jnp.where(learned, steps, last))
    ordered = jnp.where(learned, steps, last)[order]
    ranks = jnp.cumsum(jnp.concatenate([jnp.zeros(1, bool), ordered[1:] != ordered[:-1]]))
    return jnp.zeros_like(steps).at[order].set(ranks.astype(steps.dtype)) // shrink


def trajectory(row: Row, draw: Draw, settings: MaskSettings) -> Masked:
    """Tokens as the sampler saw them: each is scored once, where its run began (TraceRL).

    arXiv:2509.06949. Pass v hides the tokens of run v and of all later ones, and scores those of
    run v. Each token's mean over the M passes is its log-probability there.
    """
    runs = trajectory_runs(row.steps, row.learned, settings.shrink)
    weights = jnp.where(runs == draw.number, float(settings.draws), 0.0)
    return Masked(row.learned & (runs >= draw.number), weights)


class Masking(NamedTuple):
    """An entry of `MASKINGS`."""

    draw: Callable[[Row, Draw, MaskSettings], Masked]
    passes: int = 1  # of the network for each draw
    reads: tuple[str, ...] = ()  # of `MASKING_FIELDS`


_SHARES = ("mask_share_low", "mask_share_high")
# Config fields that some options read and others do not.
MASKING_FIELDS = (*_SHARES, "mask_block", "mask_steps", "trajectory_shrink")

MASKINGS = {
    "bernoulli": Masking(bernoulli, reads=_SHARES),
    "log_linear": Masking(log_linear, reads=_SHARES),
    "uniform_count": Masking(uniform_count),
    "full": Masking(full),
    "block": Masking(block, reads=(*_SHARES, "mask_block")),
    "whole_block": Masking(whole_block, reads=("mask_block",)),
    "schedule": Masking(schedule, reads=("mask_steps",)),
    "coupled": Masking(coupled, passes=3, reads=_SHARES),
    "complementary": Masking(complementary, passes=2),
    "quadrature": Masking(quadrature),
    "quadrature_time": Masking(quadrature_time),
    "trajectory": Masking(trajectory, reads=("trajectory_shrink",)),
}


def hidden_context(row: Row, draw: Draw, settings: MaskSettings) -> Array:
    """[S] bool: prompt tokens that a draw hides, each at `context_rate`; they are never scored."""
    if settings.context_rate == 0:
        return jnp.zeros_like(row.context)
    place = jnp.maximum(jnp.cumsum(row.context) - 1, 0)
    noise = _uniforms(_key(draw, _CONTEXT, draw.number, 0), place)
    return row.context & (noise < settings.context_rate)
