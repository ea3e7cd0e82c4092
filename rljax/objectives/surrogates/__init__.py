"""From ratio and advantage to a per-token loss. Clipping lives here.

A surrogate returns the loss [N, T], zero outside the mask, and its metrics. It looks at one token
at a time, or at one row. What depends on the whole batch of an update (which tokens have the
highest covariance, say) is an array that it names; the function of that name in
`objectives/batch_inputs/` computes it beforehand.

| file | what it holds |
| --- | --- |
| `inputs.py` | what every surrogate does with its inputs first |
| `likelihood.py` | no bound: the log-probability itself, or the ratio |
| `clipped.py` | PPO's clip, the dual clip, TRL's cap, a KL to the old policy |
| `cispo.py` | the clipped ratio as a constant weight |
| `sapo.py` | a soft gate instead of a clip |
| `geometric_mean.py` | the geometric mean of clipped token ratios (GMPO) |
| `vespo.py` | a smooth weight of the whole sequence's ratio |
| `divergence.py` | tokens dropped by how far their probability moved (DPPO) |
| `probability_gap.py` | tokens dropped by their distance from the sampler (prime-rl) |
| `quadratic.py` | a quadratic penalty on the log-ratio (DRO) |
| `covariance.py` | a KL on the tokens that lower the entropy (KL-Cov) |
| `rare_tokens.py` | rare tokens pulled back to the old policy (Lp-Reg) |
| `hapo.py` | clip range and advantage of each token by its entropy |
| `likelihood_bounds.py` | bounds of a whole sample's likelihood (SPG, BGPO) |
| `disco.py` | right samples above wrong ones, under a KL constraint |
| `demonstrations.py` | the likelihood of rows that nobody sampled |
"""

from rljax.objectives.surrogates.cispo import cispo
from rljax.objectives.surrogates.clipped import (
    clipped,
    clipped_capped,
    clipped_old_kl,
    clipped_tokens,
)
from rljax.objectives.surrogates.covariance import kl_cov
from rljax.objectives.surrogates.demonstrations import shaped_likelihood
from rljax.objectives.surrogates.disco import disco
from rljax.objectives.surrogates.divergence import dppo_kl, dppo_tv
from rljax.objectives.surrogates.geometric_mean import geometric_mean
from rljax.objectives.surrogates.hapo import adaptive_clip, hapo, redistributed
from rljax.objectives.surrogates.likelihood import policy_gradient, unclipped
from rljax.objectives.surrogates.likelihood_bounds import boundary, sandwich
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
    "clipped_old_kl": clipped_old_kl,
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
    "sandwich": sandwich,
    "boundary": boundary,
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
