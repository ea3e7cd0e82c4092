"""Losses of reward models on the scores of completions, by what the data say of them.

| file | what the data say | losses |
| --- | --- | --- |
| `pairs.py` | which of two completions is better, by how much | `bradley_terry`, `rated_margin` |
| `labelled.py` | whether a completion is good | `binary` |
| `steps.py` | whether each step of an answer is right | `step_binary` |
| `verdicts.py` | whether a completion is good, of a language model that says so | `verdict` |
| `scored.py` | a score of each of K completions | `regression`, `all_pairs`, `plackett_luce` |

`goal_conditioned.py` and `invariance.py` hold terms on the states of a pair, which are added
(`REPRESENTATIONS`).

A loss reads arrays by name (`REWARD_ARRAYS` in objectives/arrays.py), and these say which rows it
learns from (training/families/feedback.py). It returns the loss of each prompt, [B], and metrics.
"""

from rljax.objectives.reward_models.goal_conditioned import goal_conditioned, goal_similarities
from rljax.objectives.reward_models.invariance import length_discrepancy, length_invariance
from rljax.objectives.reward_models.labelled import binary
from rljax.objectives.reward_models.pairs import bradley_terry, rated_margin
from rljax.objectives.reward_models.scored import all_pairs, plackett_luce, regression
from rljax.objectives.reward_models.steps import step_binary
from rljax.objectives.reward_models.verdicts import verdict

REWARD_LOSSES = {
    "bradley_terry": bradley_terry,
    "rated_margin": rated_margin,
    "binary": binary,
    "regression": regression,
    "all_pairs": all_pairs,
    "plackett_luce": plackett_luce,
    "step_binary": step_binary,
    "verdict": verdict,
}

REPRESENTATIONS = {
    "none": None,
    "goal_conditioned": goal_conditioned,
    "length_invariance": length_invariance,
}

# Losses of pairs.
PAIRED = ("bradley_terry", "rated_margin")
# Losses for which only the order of the ratings counts.
RANKINGS = ("all_pairs", "plackett_luce")

__all__ = [
    "PAIRED",
    "RANKINGS",
    "REPRESENTATIONS",
    "REWARD_LOSSES",
    "all_pairs",
    "binary",
    "bradley_terry",
    "goal_similarities",
    "length_discrepancy",
    "plackett_luce",
    "rated_margin",
    "regression",
    "step_binary",
    "verdict",
]
