"""Stages whose samples are written by two policies, one of them a guide (RLGF): what fits together.

Which part of a sample is whose: objectives/guide_policies.py.
"""

from rljax.config.curriculum import curriculum_of, refuse_others
from rljax.config.stage import Stage
from rljax.objectives.curricula.curriculum import unchanged
from rljax.objectives.guide_policies import GUIDE_POLICIES, GuidePlan

# What is left with a guide: one sampling pass of each policy, values of tokens.
WITH_GUIDE = {
    "allocation": "fixed",
    "sampling_temperature": "constant",
    "answer_reward": "none",
    "group_filter": "none",
    "advantage": ("gae", "gae_length_adaptive"),
    "value_target": "lambda_returns",
    "teacher": "none",
    "demonstrations": "none",
    "likelihood": "autoregressive",
}


def guide_plan(stage: Stage) -> GuidePlan | None:
    """What a guide policy does in a stage; None where there is none."""
    if stage.objective.choices.get("rollouts") not in GUIDE_POLICIES:
        return None
    return stage.objective.part("rollouts")()


def check_guide(stage: Stage, where: str) -> None:
    """Raises ValueError for a guide that is missing, or does not go with other parts.

    Args:
        stage: of policy gradients, resolved.
        where: its path in the config.
    """
    try:
        plan = guide_plan(stage)
    except ValueError as error:
        raise ValueError(str(error).replace("config.<stage>", where)) from error
    if plan is None:
        return
    chosen = f"rollouts={stage.objective.choices['rollouts']!r}"
    if "guide" not in stage.models:
        raise ValueError(
            f"{chosen}: a guide policy writes a part of the samples, and the stage names none: an "
            "earlier stage, model, a checkpoint of another run or a published folder "
            f"({where}.models.guide.start_from)."
        )
    refuse_others(stage, WITH_GUIDE, chosen, where)
    if stage.objective.values["truncation"] == "drop":
        raise ValueError(
            f"truncation='drop' takes cut-off samples out of the statistics of advantages, and "
            f"{chosen} takes them over the policy's own tokens: it must be 'terminal' or 'hold' "
            f"({where}.objective.truncation)."
        )
    curriculum = curriculum_of(stage)
    if curriculum is not None and curriculum.observe is not unchanged:
        raise ValueError(
            f"curriculum={stage.objective.choices['curriculum']!r} counts right samples, and with "
            f"{chosen} these are a guide's too: take an order of the problems, or 'shuffled' "
            f"({where}.objective.curriculum)."
        )
