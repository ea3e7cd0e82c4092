"""What responses that are written over several steps rule out (T-PPO)."""

from rljax.config.stage import Stage
from rljax.objectives.parts import fields_of, inputs_of

# What a response that is still being written rules out: option that is left, and why.
WITH_WINDOWS = {
    "group_filter": ("none", "judges prompts by all of their samples"),
    "demonstrations": ("none", "gives rows to prompts that come and go with the slots"),
    "kl_controller": ("fixed", "measures the KL of whole samples"),
}


def check_windows(stage: Stage, where: str) -> None:
    """Raises ValueError for parts that need whole responses.

    Args:
        stage: with rollouts='windows'.
        where: its path in the config.
    """
    _critic(stage, where)
    _parts(stage, where)


def _critic(stage: Stage, where: str) -> None:
    """Only a critic can say what a response is worth that is not finished."""
    objective = stage.objective
    choices, functions = objective.choices, objective.functions
    if "values" not in inputs_of(functions["advantage"]):
        raise ValueError(
            f"advantage={choices['advantage']!r} compares the scores of whole samples, and with "
            "rollouts='windows' most have none yet: a critic is needed, advantage='gae' with "
            "value_target='lambda_returns' say "
            f"({where}.objective.advantage, {where}.objective.rollouts)."
        )
    for name in ("advantage", "value_target"):
        if "truncation" not in fields_of(functions[name]):
            raise ValueError(
                f"{name}={choices[name]!r} takes every row for a finished one, which "
                "rollouts='windows' does not give: take a part with the field 'truncation', 'gae' "
                f"and 'lambda_returns' say ({where}.objective.{name}, {where}.objective.rollouts)."
            )
    if objective.values["truncation"] != "hold":
        raise ValueError(
            f"truncation={objective.values['truncation']!r} with rollouts='windows' would punish "
            "or drop every response that goes on in the next step; it must be 'hold' "
            f"({where}.objective.truncation)."
        )


def _parts(stage: Stage, where: str) -> None:
    """A step holds parts of responses, each to a prompt of its own."""
    objective = stage.objective
    choices, refused = objective.choices, f"does not go with rollouts='windows' ({where}.objective."
    for name, (option, reason) in WITH_WINDOWS.items():
        if choices[name] != option:
            raise ValueError(
                f"{name}={choices[name]!r} {reason}: only {option!r} goes with rollouts='windows' "
                f"({where}.objective.{name})."
            )
    for name, part in objective.functions.items():
        if name != "group_filter" and "group_ids" in inputs_of(part):
            field = name if name in choices else "surrogate"
            raise ValueError(
                f"{field}={choices[field]!r} compares the samples of a prompt, which are written "
                f"in different steps: it {refused}{field})."
            )
    if choices["selection"] == "finished":
        raise ValueError(
            "selection='finished' would drop all that is written before the last window of a "
            f"response: it {refused}selection)."
        )
    if objective.values["likelihood_weight"]:
        raise ValueError(
            f"likelihood_weight={objective.values['likelihood_weight']} would reward the last "
            f"window of right samples alone: it {refused}likelihood_weight)."
        )
    if stage.batch.share_prompts:
        raise ValueError(
            "share_prompts=True puts the samples of a prompt into one row; with rollouts='windows' "
            "they are written in different steps, and rows differ in length: set it to False "
            f"({where}.batch.share_prompts)."
        )
