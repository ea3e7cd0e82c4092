"""How a [N, T] array of per-token losses becomes one number.

Every aggregation is a table of weights, `loss = sum(weights * per_token_loss)`. The weights depend
on the mask only and are computed once, on the global batch, before it is cut into micro-batches or
spread over devices. A mean of the means of micro-batches would depend on how the batch was cut.

Names in other libraries:

| here | verl | tunix | TRL `loss_type` |
| --- | --- | --- | --- |
| `token_mean` | token-mean | token-mean | dapo (bnpo on the local batch) |
| `token_sum` | token-sum | | |
| `sequence_mean_token_sum` | seq-mean-token-sum | sequence-mean-token-sum-norm | luspo |
| `sequence_mean_token_mean` | seq-mean-token-mean | sequence-mean-token-mean | grpo |
| `sequence_mean_token_scale` | seq-mean-token-sum-norm | sequence-mean-token-scale | dr_grpo |
"""

import jax.numpy as jnp
from jax import Array


def _reciprocal(count: Array) -> Array:
    """1 / count, and 0 where there is nothing to divide by."""
    return jnp.where(count > 0, 1.0 / jnp.maximum(count, 1.0), 0.0)


def _counts(mask: Array) -> tuple[Array, Array]:
    """Tokens per row [N, 1] and the number of non-empty rows []."""
    tokens = mask.astype(float).sum(axis=-1, keepdims=True)
    return tokens, (tokens > 0).astype(float).sum()


def token_mean(mask: Array) -> Array:
    """Every token of the batch weighs the same (DAPO, arXiv:2503.14476, eq. 8).

    Args:
        mask: [N, T] bool.

    Returns:
        [N, T] f32 weights that sum to 1; all 0 for an all-False mask.
    """
    weights = mask.astype(float)
    return weights * _reciprocal(weights.sum())


def token_sum(mask: Array) -> Array:
    """Weight 1 for every token: the loss grows with the batch. [N, T] bool -> [N, T] f32."""
    return mask.astype(float)


def sequence_mean_token_sum(mask: Array) -> Array:
    """Mean over non-empty rows of the sum over tokens. [N, T] bool -> [N, T] f32."""
    _, rows = _counts(mask)
    return mask.astype(float) * _reciprocal(rows)


def sequence_mean_token_mean(mask: Array) -> Array:
    """Mean over non-empty rows of the mean over tokens (GRPO, arXiv:2402.03300, eq. 3).

    Args:
        mask: [N, T] bool.

    Returns:
        [N, T] f32 weights: every non-empty row weighs the same, whatever its length.
    """
    tokens, rows = _counts(mask)
    return mask.astype(float) * _reciprocal(tokens) * _reciprocal(rows)


def sequence_mean_token_scale(mask: Array, *, aggregation_length: int | None = None) -> Array:
    """Mean over non-empty rows of the sum over tokens divided by a constant length.

    Dr. GRPO (arXiv:2503.20783): without a per-row divisor, long wrong answers are not favoured.

    Args:
        mask: [N, T] bool.
        aggregation_length: the constant, in tokens; None takes T: the loss then depends on how far
            the batch is padded.

    Returns:
        [N, T] f32 weights.

    Raises:
        ValueError: if `aggregation_length` is not positive.
    """
    if aggregation_length is None:
        aggregation_length = mask.shape[-1]
    if aggregation_length <= 0:
        raise ValueError(
            f"aggregation_length is {aggregation_length}; it must be a positive number of tokens, "
            "or None for the padded length (config.<stage>.objective.aggregation_length)."
        )
    return sequence_mean_token_sum(mask) / aggregation_length


AGGREGATIONS = {
    "token_mean": token_mean,
    "token_sum": token_sum,
    "sequence_mean_token_sum": sequence_mean_token_sum,
    "sequence_mean_token_mean": sequence_mean_token_mean,
    "sequence_mean_token_scale": sequence_mean_token_scale,
}
