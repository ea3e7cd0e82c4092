"""Losses on the completions of a prompt of which some are preferred: a score, links and extras.

    loss[b] = w[b] * (a * link(scores of the sides of pair b) + a2 * second link) + likelihood

Sides are those of a pair, the members of two groups of which one is preferred, or completions with
a rating each.

A *score* turns what is known of a completion into a number, a *link* turns the numbers of all
sides into a loss. All parts read arrays by name (`PREFERENCE_ARRAYS`): sums and
lengths of each side, token arrays, the difference of two scores, the scores of any number of
sides. A reference policy is kept and scored only for parts that name its log-probabilities.

| file | what it holds | table |
| --- | --- | --- |
| `scores.py` | what is known of a side to its score | `SCORES` |
| `divergences.py` | scores of other divergences than the reverse KL | `DIVERGENCES` |
| `links.py` | losses on the difference of two scores | `MARGIN_LINKS` |
| `side_links.py` | losses that look at each side by itself | `SIDE_LINKS` |
| `quantile_links.py` | losses on the sorted scores of a batch | `QUANTILE_LINKS`, `MATCHED` |
| `group_estimators.py` | scores of two groups to their margins | `GROUP_ESTIMATORS` |
| `rated_links.py` | losses on completions with a rating each | `RATED_LINKS` |
| `extras.py` | a likelihood of the chosen side, weights of pairs | `CHOSEN_NLL`, `PAIR_WEIGHTS` |
| `metrics.py` | what is logged | `METRICS`, `GROUP_METRICS`, `RATED_METRICS` |
| `loss.py` | the loss of a pair, from these parts | |

B prompts, K sides of each, T completion slots. Side 0 of a pair is the chosen one.
"""

from rljax.objectives.preference.divergences import DIVERGENCES
from rljax.objectives.preference.extras import CHOSEN_NLL, PAIR_WEIGHTS
from rljax.objectives.preference.group_estimators import GROUP_ESTIMATORS
from rljax.objectives.preference.links import MARGIN_LINKS
from rljax.objectives.preference.loss import preference_loss
from rljax.objectives.preference.metrics import (
    GROUP_METRICS,
    METRICS,
    RATED_METRICS,
    score_rewards,
)
from rljax.objectives.preference.quantile_links import MATCHED, QUANTILE_LINKS
from rljax.objectives.preference.rated_links import RATED_LINKS
from rljax.objectives.preference.scores import SCORES
from rljax.objectives.preference.side_links import SIDE_LINKS

LINKS = {**MARGIN_LINKS, **SIDE_LINKS, **QUANTILE_LINKS}

__all__ = [
    "CHOSEN_NLL",
    "DIVERGENCES",
    "GROUP_ESTIMATORS",
    "GROUP_METRICS",
    "LINKS",
    "MARGIN_LINKS",
    "MATCHED",
    "METRICS",
    "PAIR_WEIGHTS",
    "QUANTILE_LINKS",
    "RATED_LINKS",
    "RATED_METRICS",
    "SCORES",
    "preference_loss",
    "score_rewards",
]
