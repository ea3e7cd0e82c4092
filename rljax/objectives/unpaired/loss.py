"""The loss of each completion, and its metrics, from the parts that an objective chose."""

from collections.abc import Callable, Mapping

import chex
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.parts import apply
from rljax.objectives.sequences import sequence_logprobs as summed
from rljax.objectives.unpaired.steps import step_metrics


def unpaired_loss(
    arrays: Mapping[str, Array], *, link: Callable, beta: float = 1.0
) -> tuple[Array, dict[str, SumCount]]:
    """Loss of each completion; the step averages over the completions of the global batch.

    Args:
        arrays: by name (`UNPAIRED_ARRAYS`): `mask` [N, T] bool, `logprobs` [N, T] f32, which is
            differentiated, `ref_sequence_logprobs`, `labels`, and what the link names besides.
            Completions that `labelled` [N] bool leaves out have no label.
        link: a value of `UNPAIRED_LINKS`, config fields bound with `functools.partial`.
        beta: scale of the rewards in the metrics.

    Returns:
        [N] loss and metrics over completions that have a token.

    Raises:
        ValueError: for a part that names an array which is not there.
    """
    mask, labels = arrays["mask"], arrays["labels"]
    chex.assert_rank(mask, 2)
    known = {**arrays, "sequence_logprobs": summed(arrays["logprobs"], mask)}
    loss = apply(link, known)
    chex.assert_shape(loss, labels.shape)
    present, sums = mask.any(axis=-1) & known.get("labelled", True), known["sequence_logprobs"]
    rewards = beta * (sums - known["ref_sequence_logprobs"])
    metrics = {}
    for name, kept in (("desired", present & labels), ("undesired", present & ~labels)):
        metrics[f"reward_{name}"] = masked(rewards, kept)
        metrics[f"logprob_{name}"] = masked(sums, kept)
    if "step_ids" in known:
        metrics |= step_metrics(known, beta)
    return loss, metrics
