"""From ratio and advantage to a per-token loss. Clipping lives here.

A surrogate returns the loss [N, T], zero outside the mask, and its metrics. It looks at one token
at a time: what depends on the whole batch of an update (which tokens have the highest covariance,
say) is an array that it names, computed beforehand by the function of that name in
`objectives/batch_inputs/`.
"""

from rljax.objectives.surrogates.clipped import clipped, clipped_tokens
from rljax.objectives.surrogates.likelihood import policy_gradient

SURROGATES = {"policy_gradient": policy_gradient, "clipped": clipped}

__all__ = ["SURROGATES", "clipped", "clipped_tokens", "policy_gradient"]
