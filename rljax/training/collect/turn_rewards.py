"""Annotator: which turn of an episode earned what."""

import numpy as np

from rljax.training.collect.experience import Annotations
from rljax.training.collect.sampled import Drawn
from rljax.training.run.context import Context

REWARD = "environment"  # the member of a composition that adds up rewards of turns


def turn_rewards(context: Context, drawn: Drawn) -> Annotations:
    """The environment's rewards, as they count in the total, on the last token of each turn.

    Args:
        context: its rewards say how much they count.
        drawn: episodes.

    Returns:
        `turn_rewards` [N, T] f32.
    """
    members = context.scorer.composition.members
    weight = sum(member.weight for member in members if member.name == REWARD and member.counts)
    rewards = np.zeros(drawn.samples.flat("mask").shape, np.float32)
    for row, episode in enumerate(drawn.samples.episodes):
        for turn in episode["turns"]:
            if turn["end"] > turn["begin"]:
                rewards[row, turn["end"] - 1] += weight * turn["reward"]
    return Annotations({"turn_rewards": rewards}, metrics={}, seconds={})
