"""From ratio and advantage to a per-token loss. Clipping lives here.

A surrogate returns the loss [N, T], zero outside the mask, and its metrics. It looks at one token
at a time, or at one row. What depends on the whole batch of an update (which tokens have the
highest covariance, say) is an array that it names; the function of that name in
`objectives/batch_inputs/` computes it beforehand.
"""

from rljax.objectives.surrogates.cispo import cispo
from rljax.objectives.surrogates.clipped import clipped, clipped_capped, clipped_tokens
from rljax.objectives.surrogates.covariance import kl_cov
from rljax.objectives.surrogates.demonstrations import shaped_likelihood
from rljax.objectives.surrogates.disco import disco
from rljax.objectives.surrogates.divergence import dppo_kl, dppo_tv
from rljax.objectives.surrogates.geometric_mean import geometric_mean
from rljax.objectives.surrogates.hapo import adaptive_clip, hapo, redistributed
from rljax.objectives.surrogates.likelihood import policy_gradient, unclipped
from rljax.objectives.surrogates.probability_gap import (
    probability_gap,
    probability_gap_both,
    reference_distillation,
)
from rljax.objectives.surrogates.quadratic import dro
from rljax.objectives.surrogates.rare_tokens import lp_reg
from rljax.objectives.surrogates.sapo import sapo
from rljax.objectives.surrogates.vespo import vespo

SURROGATES = {
    "policy_gradient": policy_gradient,
    "unclipped": unclipped,
    "clipped": clipped,
    "clipped_capped": clipped_capped,
    "cispo": cispo,
    "sapo": sapo,
    "geometric_mean": geometric_mean,
    "vespo": vespo,
    "dppo_tv": dppo_tv,
    "dppo_kl": dppo_kl,
    "dro": dro,
    "kl_cov": kl_cov,
    "lp_reg": lp_reg,
    "hapo": hapo,
    "disco": disco,
    "probability_gap": probability_gap,
    "probability_gap_both": probability_gap_both,
    "reference_distillation": reference_distillation,
}

__all__ = [
    "SURROGATES",
    "adaptive_clip",
    "clipped",
    "clipped_tokens",
    "policy_gradient",
    "redistributed",
    "shaped_likelihood",
]
