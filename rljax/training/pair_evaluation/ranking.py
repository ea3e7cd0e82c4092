"""How many pairs a policy ranks as people do, and how many its objective could make it rank so.

"Preference Learning Algorithms Do Not Learn Preference Rankings" (arXiv:2405.19534). Everything is
of held-out pairs, on the host, and needs no model beyond the policy and its reference: sums of
log-probabilities, in nats. Reward accuracy is another thing, the change from the reference.
"""

import numpy as np

# Betas over which the paper reports the lowest, the median and the highest idealised accuracy.
BETAS = (0.01, 0.1, 1.0, 5.0, 10.0)
# A share of 0, of whose odds the logarithm is infinite, counts as this.
EPSILON = 1e-3


def ranked_right(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """Whether the chosen completion is at least as likely as the rejected one (definition 2.1).

    Args:
        chosen: [B] f32, log-probabilities of the chosen completions: sums, or means of a token.
        rejected: [B] f32, the same of the rejected ones.

    Returns:
        [B] bool; their mean is the ranking accuracy.
    """
    return chosen >= rejected


def log_preference_odds(preferred_share: np.ndarray, epsilon: float = EPSILON) -> np.ndarray:
    """log(max(alpha, epsilon) / max(1 - alpha, epsilon)).

    Args:
        preferred_share: [B] f32 in [0, 1], alpha: the share of people who prefer the chosen side.
        epsilon: what replaces a share of 0, as in the authors' code; its opposite stays 1.

    Returns:
        [B] f32, in nats.

    Raises:
        ValueError: for a share outside [0, 1].
    """
    share = np.asarray(preferred_share, np.float64)
    if not ((share >= 0) & (share <= 1)).all():
        raise ValueError(f"preferred_share must lie in [0, 1], got {share.tolist()}.")
    return np.log(np.maximum(share, epsilon)) - np.log(np.maximum(1.0 - share, epsilon))


def idealised_log_ratio(
    ref_chosen: np.ndarray,
    ref_rejected: np.ndarray,
    preferred_share: np.ndarray,
    beta: float,
    epsilon: float = EPSILON,
) -> np.ndarray:
    """log of chosen over rejected under the policy that minimises DPO's loss exactly (eq. 4).

        log pi*(w) - log pi*(l) = log ref(w) - log ref(l) + log(alpha / (1 - alpha)) / beta

    Args:
        ref_chosen: [B] f32, log-probabilities under the reference: sums, or means of a token.
        ref_rejected: [B] f32, the same of the rejected completions.
        preferred_share: [B] f32 in [0, 1], alpha.
        beta: of the objective, > 0.
        epsilon: see `log_preference_odds`.

    Returns:
        [B] f32; where it is positive the idealised policy ranks the chosen completion first.

    Raises:
        ValueError: for a beta that is not positive, or a share outside [0, 1].
    """
    if beta <= 0:
        raise ValueError(f"beta must be > 0, got {beta}.")
    return ref_chosen - ref_rejected + log_preference_odds(preferred_share, epsilon) / beta


def idealised_accuracies(
    ref_chosen: np.ndarray, ref_rejected: np.ndarray, preferred_share: np.ndarray
) -> np.ndarray:
    """Ranking accuracy of the idealised policy for each of `BETAS`; see `idealised_log_ratio`.

    Returns:
        [5] f64, in the order of `BETAS`.
    """
    ratios = [idealised_log_ratio(ref_chosen, ref_rejected, preferred_share, b) for b in BETAS]
    return np.array([np.mean(ratio > 0) for ratio in ratios])


def required_loss(ref_chosen: np.ndarray, ref_rejected: np.ndarray, beta: float) -> np.ndarray:
    """The DPO loss of a pair at which the policy finds both sides equally likely (theorem 4.1).

        c = log ref(l) - log ref(w),    required = -log sigmoid(beta c) = log(1 + exp(-beta c))

    The policy ranks the pair right exactly where its loss is at most this. The more nats the
    reference is wrong by, the smaller is the loss that it takes.

    Args:
        ref_chosen: [B] f32, summed log-probabilities under the reference.
        ref_rejected: [B] f32, the same of the rejected completions.
        beta: of the objective.

    Returns:
        [B] f32.
    """
    return np.logaddexp(0.0, -beta * (ref_rejected - ref_chosen))
