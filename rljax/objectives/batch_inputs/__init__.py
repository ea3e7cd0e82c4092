"""What a surrogate knows of the whole batch of its update.

`BATCH_INPUTS`: each function computes a constant of the whole batch of one optimizer update from
named arrays, [N, T]; its name is the name of the argument by which a surrogate reads it.

`TOKEN_WEIGHTS`: a constant factor [N, T] of the surrogate's loss, chosen like any other part.

Both run before the batch is cut into micro-batches, so that the cut cannot change the result: the
quantile, the largest value or the mean over the tokens of a micro-batch would be another number.

| file | what it holds |
| --- | --- |
| `ranking.py` | the most extreme tokens of a batch, with static shapes |
| `covariance.py` | tokens whose advantage and log-probability covary (Clip-Cov, KL-Cov) |
| `discrimination.py` | signed weights of scores and the KL hinge (DisCO) |
| `entropy_change.py` | less weight for tokens that would change the entropy most (STEER) |
| `entropy_level.py` | how uncertain a token is next to the others (HAPO) |
| `off_policy.py` | no weight for rows that the policy has moved away from (DeepSeek-V3.2) |
| `rare_tokens.py` | rare tokens, and the old policy without its noise (Lp-Reg) |
| `supervised_weights.py` | supervised against reinforced rows, by entropy (SRFT) |
"""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.batch_inputs.covariance import clip_cov, high_covariance
from rljax.objectives.batch_inputs.discrimination import kl_pressure, score_weights
from rljax.objectives.batch_inputs.entropy_change import steer_exponential, steer_linear
from rljax.objectives.batch_inputs.entropy_level import entropy_level
from rljax.objectives.batch_inputs.off_policy import off_policy
from rljax.objectives.batch_inputs.rare_tokens import rare_negatives
from rljax.objectives.batch_inputs.supervised_weights import srft
from rljax.objectives.metrics import SumCount, masked


def none(mask: Array) -> Array:
    """Weight 1 for every token. [N, T] bool -> [N, T] f32."""
    return jnp.ones(mask.shape)


def weight_metrics(weights: Array, mask: Array) -> dict[str, SumCount]:
    """What to log of token weights: their mean, for a fair baseline, and the share that is 0.

    Args:
        weights: [N, T] f32.
        mask: [N, T] bool.
    """
    return {
        "token_weight_mean": masked(weights, mask),
        "token_weight_zero_share": masked(weights == 0, mask),
    }


BATCH_INPUTS = {
    "high_covariance": high_covariance,
    "rare_negatives": rare_negatives,
    "entropy_level": entropy_level,
    "score_weights": score_weights,
    "kl_pressure": kl_pressure,
}

TOKEN_WEIGHTS = {
    "none": none,
    "steer_linear": steer_linear,
    "steer_exponential": steer_exponential,
    "clip_cov": clip_cov,
    "srft": srft,
    "off_policy": off_policy,
}

__all__ = ["BATCH_INPUTS", "TOKEN_WEIGHTS", "weight_metrics"]
