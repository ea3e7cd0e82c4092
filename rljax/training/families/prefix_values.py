"""Policy gradients whose credit comes from further samples: SPO-chain and VinePPO.

arXiv:2505.23564 and arXiv:2410.01679; see training/collect/prefix_values.py for how.
"""

import functools

import jax
import numpy as np

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.rewards.pool import Scores
from rljax.training.collect.prefix_values import (
    StateScores,
    cut_points,
    find_states,
    score_states,
    segment_arrays,
    with_room,
)
from rljax.training.collect.rollouts import Samples
from rljax.training.families.policy_gradient import Further, PolicyGradient
from rljax.training.run.context import Context
from rljax.training.update.rows import Rows


class PrefixValues(PolicyGradient):
    """Samples as any policy gradient, then from the cut points of each sample once more.

    The further samples are of the same policy under the same filter, in calls with as many rows as
    the step's own samples, or with one state where that has more.
    """

    def __init__(
        self, context: Context, stage: Stage, reference: Params | None, first_step: int
    ) -> None:
        super().__init__(context, stage, reference, first_step)
        value_samples = self.objective.values["value_samples"]
        self.value_engine = self._engine(value_samples, stage.token_filter)
        self.states_per_call = max(stage.batch.sequences_per_step // value_samples, 1)
        self.most_states = stage.batch.sequences_per_step * self.objective.values["cut_limit"]
        self.cuts = jax.jit(functools.partial(cut_points, self.objective))
        self.segments = jax.jit(functools.partial(segment_arrays, self.objective))

    def further_arrays(
        self, weights: Params, samples: Samples, scores: Scores, arrays: Rows, step: int
    ) -> Further:
        """Values of states and of the ends of segments."""
        cuts = np.asarray(self.cuts(arrays))
        states, place = find_states(samples.flat("tokens"), cuts, samples.samples_per_prompt)
        found = score_states(
            *(self.context, self.value_engine, weights, samples, states),
            rows=self.states_per_call,
            key=self.key,
            step=self.first_step + step,
        )
        values = self.segments(
            *(arrays, cuts, place),
            with_room(found.scores, self.most_states),
            with_room(found.finished, self.most_states),
        )
        seconds = {"sampling": found.sampling_seconds, "scoring": found.scoring_seconds}
        return Further(jax.device_get(values), value_metrics(cuts, found), seconds)


def value_metrics(cuts: np.ndarray, found: StateScores) -> dict[str, float]:
    """What the values of a step cost, and how many of the continuations ran into the limit."""
    metrics = {
        "cuts_per_completion": float(cuts.sum(axis=1).mean()),
        "value_states": float(len(found.scores)),
        "value_tokens": float(found.tokens),
        "value_scoring_failures": float(found.failed),
    }
    if found.finished.size:
        metrics["value_truncated_share"] = float(1.0 - found.finished.mean())
    return metrics
