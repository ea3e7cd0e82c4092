"""Greedy baselines: each prompt's samples are compared with its greedy completion.

ReMax takes that of the policy, CGPO that of the stage's start.
"""

import time

import numpy as np

from rljax.models.network import Params
from rljax.training.collect.experience import Annotations
from rljax.training.collect.prompts import Prompts
from rljax.training.collect.rewards import Reward
from rljax.training.collect.sampled import Drawn, WholeRollouts


class GreedyScores:
    """Annotates samples with `greedy_scores` (arXiv:2310.10505), or `base_scores`."""

    def __init__(
        self,
        rollouts: WholeRollouts,
        reward: Reward,
        rows_per_prompt: int,
        start: Params | None = None,
    ) -> None:
        """Nothing runs.

        Args:
            rollouts: of one greedy completion per prompt.
            reward: of these.
            rows_per_prompt: R.
            start: parameters of the stage's start, to annotate with its completions; None: the
                policy's own.
        """
        self.rollouts, self.reward, self.rows_per_prompt = rollouts, reward, rows_per_prompt
        self.name = "greedy_scores" if start is None else "base_scores"
        self.start = None if start is None else rollouts.sampler.load(start)

    def __call__(self, drawn: Drawn) -> Annotations:
        """The score of the greedy completion of each row's prompt, [B * R] f32.

        NaN where no reward applies to it.
        """
        records = drawn.samples.records
        greedy = self.rollouts.sample(
            drawn.weights if self.start is None else self.start,
            drawn.policy._replace(temperature_slopes=None),
            Prompts(list(records), np.zeros(len(records), int)),
            step=drawn.step,
        )
        started = time.perf_counter()
        scores = self.reward.score(greedy)
        seconds = {"sampling": greedy.seconds, "scoring": time.perf_counter() - started}
        repeated = np.repeat(scores.total, self.rows_per_prompt)
        return Annotations({self.name: repeated}, {}, seconds)
