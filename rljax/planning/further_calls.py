"""What a step of policy gradients asks its sampler besides the first samples of its prompts."""

from typing import NamedTuple

from rljax.config.stage import Stage
from rljax.planning.program import FURTHER_SAMPLING, GREEDY_SAMPLING, GUIDED_SAMPLING
from rljax.training.collect.rounds import drawn_at_once


class Call(NamedTuple):
    """Calls of a sampler, all of one shape and as many as a step makes at most.

    Attributes:
        prompts: of a call.
        samples: of each prompt.
        hint: tokens that prompts may be longer than those of the problems.
        times: calls of a step.
    """

    prompts: int
    samples: int
    hint: int = 0
    times: int = 1


def further_calls(stage: Stage) -> dict[str, Call]:
    """By program; a hint is tried for every prompt, and a screen is passed by all."""
    objective, sizes = stage.objective, stage.batch
    if objective.family != "policy_gradient":
        return {}
    found, prompts, samples = {}, sizes.prompts_per_step, sizes.samples_per_prompt
    allocation = objective.choices["allocation"]
    if allocation == "screening" and (rest := samples - drawn_at_once(stage)):
        found[FURTHER_SAMPLING] = Call(prompts, rest)
    if allocation == "by_variance":  # a prompt may come as often as there are samples
        found[FURTHER_SAMPLING] = Call(prompts * samples, 1)
    if objective.guided:
        found[GUIDED_SAMPLING] = Call(prompts, samples, stage.data["max_context_tokens"])
    if has_scaffold(stage):
        levels = objective.values["hint_levels"]
        found[GUIDED_SAMPLING] = Call(prompts, 1, stage.data["max_context_tokens"], levels)
    if {"greedy_scores", "base_scores"} & objective.inputs:
        found[GREEDY_SAMPLING] = Call(prompts, 1)
    return found


def has_scaffold(stage: Stage) -> bool:
    """Whether a row of a step may have a hint in its prompt."""
    return stage.objective.choices.get("demonstrations") == "scaffolded"


def has_single_rows(stage: Stage) -> bool:
    """Whether each sample of a step is a row with a prompt of its own."""
    return has_scaffold(stage) or stage.objective.choices.get("allocation") == "by_variance"
