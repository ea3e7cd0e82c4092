"""Greedy baselines: each prompt's samples are compared with its greedy completion (ReMax)."""

import time

import numpy as np

from rljax.training.collect.experience import Annotations
from rljax.training.collect.prompts import Prompts
from rljax.training.collect.rewards import Reward
from rljax.training.collect.sampled import Drawn, WholeRollouts


class GreedyScores:
    """Annotates samples with `greedy_scores` (arXiv:2310.10505)."""

    def __init__(self, rollouts: WholeRollouts, reward: Reward, rows_per_prompt: int) -> None:
        """Takes rollouts of one greedy completion per prompt, and R rows for each prompt."""
        self.rollouts, self.reward, self.rows_per_prompt = rollouts, reward, rows_per_prompt

    def __call__(self, drawn: Drawn) -> Annotations:
        """`greedy_scores` [B * R] f32, the score of the greedy completion of each row's prompt.

        NaN where no reward applies to it.
        """
        records = drawn.samples.records
        greedy = self.rollouts.sample(
            drawn.weights,
            drawn.policy._replace(temperature_slopes=None),
            Prompts(list(records), np.zeros(len(records), int)),
            step=drawn.step,
        )
        started = time.perf_counter()
        scores = self.reward.score(greedy)
        seconds = {"sampling": greedy.seconds, "scoring": time.perf_counter() - started}
        repeated = np.repeat(scores.total, self.rows_per_prompt)
        return Annotations({"greedy_scores": repeated}, {}, seconds)
