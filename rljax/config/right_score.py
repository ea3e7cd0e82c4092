"""Fields of objectives that follow config.scoring.rewards: a right sample's score, how many."""

import dataclasses

from ml_collections import ConfigDict

from rljax.config.stage import Stage
from rljax.rewards.compose import right_score
from rljax.rewards.member import parse_rewards

# How many rewards are trained on.
COUNT = "component_count"

FIELDS = ("virtual_score", "reward_max", "boost_threshold", "right_score")


def with_right_score(stage: Stage, config: ConfigDict) -> Stage:
    """A stage whose fields of `FIELDS` and `COUNT` follow config.scoring.rewards, unless set.

    Args:
        stage: resolved.
        config: of the run, complete.
    """
    objective, given = stage.objective, config[stage.name].objective
    unset = [
        name
        for name in (*FIELDS, COUNT)
        if name in objective.values
        and given.get(name) is None
        and name not in objective.method.parts
    ]
    if not unset:
        return stage
    rewards = config.scoring.rewards
    score = right_score(rewards)
    count = sum(member.counts for member in parse_rewards(rewards))
    found = {name: count if name == COUNT else score for name in unset}
    values = {**objective.values, **found}
    return dataclasses.replace(stage, objective=dataclasses.replace(objective, values=values))
