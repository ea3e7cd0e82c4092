"""The loss of each pair, and its metrics, from the parts that an objective chose."""

from collections.abc import Callable, Mapping, Sequence

import chex
import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import apply, inputs_of
from rljax.objectives.sequences import sequence_logprobs as summed


def preference_loss(
    arrays: Mapping[str, Array],
    *,
    score: Callable,
    link: Callable,
    link_weight: float = 1.0,
    second_link: Callable | None = None,
    second_weight: float = 1.0,
    group_estimator: Callable | None = None,
    chosen_nll: Callable | None = None,
    metrics: Sequence[Callable] = (),
) -> tuple[Array, dict[str, SumCount]]:
    """Loss of each pair; the step averages over the pairs of the global batch.

    A pair with an empty completion, whose log-probability is 0, gets a loss and is counted in the
    metrics here; training/families/preference.py gives it weight 0, so that it trains nothing.

    Args:
        arrays: by name (`PREFERENCE_ARRAYS`): `mask` [B, K, T] bool and `logprobs` [B, K, T] f32,
            which is differentiated; and what the parts name besides, `ref_sequence_logprobs` say.
            `sequence_logprobs`, `lengths`, `side_scores` and, of two sides, `margins` and
            `margins_per_token` are made here, and `chosen_sides`, side 0, where nothing says it.
            `pair_weights` [B] f32 multiplies what the links say, where it is there.
        score: a value of `SCORES`, config fields bound with `functools.partial`.
        link: a value of `LINKS`, the same.
        link_weight: factor of the link.
        second_link: another, which is added; None adds nothing.
        second_weight: factor of the second link.
        group_estimator: a value of `GROUP_ESTIMATORS`, which makes the margins of two groups; None
            for pairs.
        chosen_nll: a value of `CHOSEN_NLL`, fields bound, which is added; None adds nothing.
        metrics: values of `METRICS`, the same; of a single side nothing is logged.

    Returns:
        [B] loss and metrics over pairs.

    Raises:
        ValueError: for a part that names an array which is not there.
    """
    known = _known(arrays, score)
    if group_estimator is not None:
        known |= apply(group_estimator, known)
    loss = link_weight * _linked(link, known)
    if second_link is not None:
        loss = loss + second_weight * _linked(second_link, known)
    loss = loss * known.get("pair_weights", 1.0)
    if chosen_nll is not None:
        loss = loss + apply(chosen_nll, known)
    chex.assert_shape(loss, known["mask"].shape[:1])
    logged: dict[str, Array] = {}
    if known["mask"].shape[1] > 1:
        for metric in metrics:
            if known.keys() >= set(inputs_of(metric)):
                logged |= apply(metric, known)
    everything = jnp.ones(loss.shape, bool)
    return loss, {name: masked(values, everything) for name, values in logged.items()}


def _linked(link: Callable, known: Mapping[str, Array]) -> Array:
    """What a link says of each prompt: [B]; of several margins the weighted mean."""
    values = apply(link, known)
    if "margin_weights" in known:
        values = (known["margin_weights"] * values).sum(axis=-1)
    return values - known.get("excess", 0.0)


def _known(arrays: Mapping[str, Array], score: Callable) -> dict[str, Array]:
    """The arrays that are given, and those that are made of them."""
    mask, logprobs = arrays["mask"], arrays["logprobs"]
    chex.assert_rank(mask, 3)
    lengths = jnp.maximum(mask.sum(axis=-1), 1).astype(logprobs.dtype)
    known = {**arrays, "sequence_logprobs": summed(logprobs, mask), "lengths": lengths}
    side_scores = apply(score, known)
    chex.assert_shape(side_scores, mask.shape[:2])
    known["side_scores"] = side_scores
    if "ratings" not in known:
        first = jnp.arange(mask.shape[1]) == 0
        known.setdefault("chosen_sides", jnp.broadcast_to(first, mask.shape[:2]))
    if mask.shape[1] == 2:
        per_token = side_scores / lengths
        known["margins"] = side_scores[:, 0] - side_scores[:, 1]
        known["margins_per_token"] = per_token[:, 0] - per_token[:, 1]
    return known
