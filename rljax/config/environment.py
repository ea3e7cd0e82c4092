"""The environment that answers a run's samples: fields that go together, and stages that may."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from rljax.config.asynchronous import runs_ahead
from rljax.config.schema_environment import ENVIRONMENT
from rljax.config.stage import Stage
from rljax.errors import shown
from rljax.rewards.member import parse_rewards

FIELD = "config.environment"
MADE = "environment"  # kind of problems that the environment makes itself

# Fields that only environments read, or only agents.
OF_ENVIRONMENTS = {"rows_per_call", "timeout_seconds"}
OF_AGENTS = {"agent_processes", "agent_seconds"}

# What else than whole replies in turn rules out: option that is left.
WITH_EPISODES = {
    "rollouts": "whole",
    "allocation": "fixed",
    "demonstrations": "none",
    "answer_reward": "none",
    "teacher": "none",
    "likelihood": "autoregressive",
}


def check_environment(config: ConfigDict, stages: Sequence[Stage]) -> None:
    """Raises ValueError for fields that are never read, and for stages that cannot play episodes.

    Args:
        config: complete.
        stages: resolved.
    """
    given = config.environment
    if given.name and given.agent:
        raise ValueError(
            f"name={given.name!r} answers the model, agent={given.agent!r} plays with it: give one "
            f"of both ({FIELD}.name, {FIELD}.agent)."
        )
    _check_read(given.to_dict())  # a ConfigDict is equal to no mapping
    if not given.name and config.data.kind == MADE:
        raise ValueError(
            f"kind={MADE!r} has problems that an environment makes, and there is none "
            f"(config.data.kind, {FIELD}.name)."
        )
    if not (given.name or given.agent):
        return
    if config.evaluation.answer_samples:
        raise ValueError(
            f"answer_samples={config.evaluation.answer_samples} scores answers behind one reply, "
            f"which episodes do not have: set it to 0 (config.evaluation.answer_samples, "
            f"{FIELD}.name)."
        )
    if config.asynchronous.partial_tokens:
        raise ValueError(
            f"partial_tokens={config.asynchronous.partial_tokens} pauses completions of one reply, "
            f"which episodes do not have: set it to 0 (config.asynchronous.partial_tokens, "
            f"{FIELD}.name)."
        )
    if given.agent and runs_ahead(config):
        raise ValueError(
            f"agent={given.agent!r} plays against the weights of the step, and max_staleness="
            f"{config.asynchronous.max_staleness} samples by older ones: set it to 0, "
            f"without devices of the sampler ({FIELD}.agent, config.asynchronous.max_staleness, "
            "config.asynchronous.sampler_devices)."
        )
    if given.turn_credit:
        _check_turn_credit(config)
    for stage in stages:
        _check_stage(stage)


def _check_read(values: Mapping[str, Any]) -> None:
    """Raises ValueError for a field that is not read: without episodes none is."""
    read = set(ENVIRONMENT) if values["name"] or values["agent"] else {"name", "agent"}
    read -= set() if values["name"] else OF_ENVIRONMENTS
    read -= set() if values["agent"] else OF_AGENTS
    for name, field in ENVIRONMENT.items():
        if name not in read and values[name] != field.default:
            lacks = "an agent" if name in OF_AGENTS else "an environment"
            raise ValueError(
                f"{name}={shown(values[name])} is never read without {lacks}: give it a name "
                f"({FIELD}.{name}, {FIELD}.{'agent' if name in OF_AGENTS else 'name'})."
            )


def _check_turn_credit(config: ConfigDict) -> None:
    """Rewards of turns must be summands of the total as they are."""
    members = [each for each in parse_rewards(config.scoring.rewards) if each.name == MADE]
    counted = [each for each in members if each.counts]
    if not counted:
        raise ValueError(
            "turn_credit=True places the rewards of turns, and none of config.scoring.rewards "
            f"is {MADE!r} ({FIELD}.turn_credit, config.scoring.rewards)."
        )
    for member in counted:
        if member.gates or member.where or member.clip or member.threshold is not None:
            raise ValueError(
                f"turn_credit=True counts every turn by itself, and the reward {member.label!r} "
                "has a gate, a field, a clip or a threshold for their sum: leave it out "
                f"({FIELD}.turn_credit, config.scoring.rewards)."
            )


def _check_stage(stage: Stage) -> None:
    where, family = f"config.{stage.name}", stage.objective.description
    sampled = str(stage.data.get("source", "")).startswith("sampled")
    if not stage.online and not sampled:
        return
    if not family.episodes:
        raise ValueError(
            f"Stage {stage.name!r} samples single replies: policy gradients and supervised stages "
            f"play episodes, and {stage.objective.method.name!r} is of the family "
            f"{stage.objective.family!r} ({where}.method, {FIELD}.name)."
        )
    for name, option in WITH_EPISODES.items():
        if (chosen := stage.objective.choices.get(name, option)) != option:
            raise ValueError(
                f"{name}={chosen!r} does not go with episodes: {name} must be {option!r} "
                f"({where}.objective.{name}, {FIELD}.name)."
            )
    if pattern := stage.data.get("hint_pattern"):
        raise ValueError(
            f"hint_pattern={pattern!r} shows the answer before one reply, which episodes do not "
            f"have: leave it out ({where}.data.hint_pattern, {FIELD}.name)."
        )
    if step_score := stage.models.get("reward", {}).get("step_score"):
        raise ValueError(
            f"step_score={step_score!r} judges the steps of one reply, and an episode also holds "
            f"what its environment says: leave it out ({where}.models.reward.step_score, "
            f"{FIELD}.name)."
        )
    if "start_values" in stage.objective.inputs:
        raise ValueError(
            f"advantage={stage.objective.choices['advantage']!r} samples single replies again from "
            f"states inside of them, which episodes do not have ({where}.objective.advantage, "
            f"{FIELD}.name)."
        )
