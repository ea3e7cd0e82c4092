"""Fields of objectives that say what a right sample scores: by default what the rewards say."""

import dataclasses

from ml_collections import ConfigDict

from rljax.config.stage import Stage
from rljax.rewards.compose import right_score

FIELDS = ("virtual_score", "reward_max", "boost_threshold", "right_score")


def with_right_score(stage: Stage, config: ConfigDict) -> Stage:
    """A stage whose fields of `FIELDS` follow config.scoring.rewards, unless they are set.

    Args:
        stage: resolved.
        config: of the run, complete.
    """
    objective, given = stage.objective, config[stage.name].objective
    unset = [
        name
        for name in FIELDS
        if name in objective.values
        and given.get(name) is None
        and name not in objective.method.parts
    ]
    if not unset:
        return stage
    score = right_score(config.scoring.rewards)
    values = {**objective.values, **dict.fromkeys(unset, score)}
    return dataclasses.replace(stage, objective=dataclasses.replace(objective, values=values))
