"""What a policy has learnt of a known reward, each of one seed.

| measure | what it is |
| --- | --- |
| `gold` | the policy's mean gold reward, exact: 0 is the start's, 1 the best completions' |
| `kl` | KL(policy || start) of completions, exact, in nats |
| `reward_accuracy` | share of fresh pairs whose better side gained more likelihood than the other |
| `ranking_accuracy` | share whose better side is at least as likely as the other one |
| `ranking_accuracy_per_token` | the same by mean log-probabilities of a token |
| `flipped` | share of the pairs that the start ranks wrong which the policy ranks right |
| `flipped_near`, `flipped_far` | the same of the half that is wrong by fewer, by more nats |

Fresh pairs are sampled from the start; the gold reward says which side is better. The last five
are those of arXiv:2405.19534.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.comparison.preferences.draws import Rows, preferred_share
from rljax.comparison.preferences.task import (
    Problem,
    best,
    expected,
    kl_to,
    token_logprobs,
    token_mask,
)
from rljax.training.pair_evaluation.ranking import (
    BETAS,
    idealised_accuracies,
    ranked_right,
    required_loss,
)

MEASURES = (
    "gold",
    "kl",
    "reward_accuracy",
    "ranking_accuracy",
    "ranking_accuracy_per_token",
    "flipped",
    "flipped_near",
    "flipped_far",
)


class Said(NamedTuple):
    """Summed log-probabilities of fresh pairs, NumPy [P, 2], and their tokens."""

    policy: np.ndarray
    start: np.ndarray
    lengths: np.ndarray


def measured(problem: Problem, logits: Array, rows: Rows) -> dict[str, float]:
    """All of `MEASURES` of the policy of one seed.

    Args:
        problem: of the seed.
        logits: of the policy.
        rows: fresh pairs.
    """
    gold, kl = worth(problem, logits)
    return {"gold": float(gold), "kl": float(kl)} | rankings(said_of(problem, logits, rows))


@jax.jit
def worth(problem: Problem, logits: Array) -> tuple[Array, Array]:
    """`gold` and `kl`: means over prompts."""
    low, high = expected(problem.start, problem.gold), best(problem.gold)
    share = (expected(logits, problem.gold) - low).mean() / (high - low).mean()
    return share, kl_to(logits, problem.start).mean()


def said_of(problem: Problem, logits: Array, rows: Rows) -> Said:
    """What policy and start say of the sides of all pairs, those of a row one after the other."""
    prompts = jnp.broadcast_to(rows.prompts[:, None, None], rows.tokens.shape[:-1])
    policy, start = (
        np.asarray(token_logprobs(table, prompts, rows.tokens).sum(axis=-1)).reshape(-1, 2)
        for table in (logits, problem.start)
    )
    lengths = np.asarray(token_mask(rows.tokens).sum(axis=-1)).reshape(-1, 2)
    return Said(policy, start, lengths)


def rankings(said: Said) -> dict[str, float]:
    """The measures of fresh pairs."""
    changes = said.policy - said.start
    right = ranked_right(*said.policy.T)
    wrong_by = said.start[:, 1] - said.start[:, 0]
    wrong = wrong_by > 0
    near = wrong & (wrong_by <= np.median(wrong_by[wrong]))
    return {
        "reward_accuracy": float(np.mean(changes[:, 0] > changes[:, 1])),
        "ranking_accuracy": float(right.mean()),
        "ranking_accuracy_per_token": float(ranked_right(*(said.policy / said.lengths).T).mean()),
        "flipped": float(right[wrong].mean()),
        "flipped_near": float(right[near].mean()),
        "flipped_far": float(right[wrong & ~near].mean()),
    }


def of_the_data(problem: Problem, rows: Rows, noise: float, beta: float) -> dict[str, float]:
    """What fresh pairs and the start determine before anything is learnt.

    Args:
        problem: of the seed.
        rows: fresh pairs.
        noise: the rate at which labels are swapped.
        beta: of DPO.

    Returns:
        `start`: the ranking accuracy of the start; `idealised/BETA`: that of the policy with DPO's
        lowest loss for each of the paper's betas; `required_loss`: the median DPO loss that pairs
        which the start ranks wrong must get below, at `beta`.
    """
    start = said_of(problem, problem.start, rows).start
    share = np.asarray(preferred_share(rows.gold, noise)).reshape(-1)
    wrong = start[:, 1] > start[:, 0]
    ideal = idealised_accuracies(*start.T, share)
    needed = required_loss(*start[wrong].T, beta)
    return {
        "start": float(ranked_right(*start.T).mean()),
        "required_loss": float(np.median(needed)),
        **{f"idealised/{b:g}": float(value) for b, value in zip(BETAS, ideal, strict=True)},
    }
