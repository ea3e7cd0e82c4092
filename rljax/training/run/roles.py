"""Stages whose samples are those of several players: what they need, checked before a run."""

import dataclasses
from collections.abc import Sequence

from ml_collections import ConfigDict

from rljax.config.curriculum import refuse_others
from rljax.config.stage import Stage
from rljax.environments.environment import FIELD
from rljax.environments.players import player_count, roles_of
from rljax.environments.table import find_environment

# Each sample is a row with a prompt of its own, and its group is known once it is played.
WITH_ROLES = {"curriculum": "shuffled", "group_filter": "none"}


def with_roles(config: ConfigDict, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages as an environment of several players needs them.

    Rows do not share prompts, and `role_count` is the number of roles.

    Args:
        config: of the run.
        stages: resolved.

    Raises:
        ValueError: for stages and settings that do not go with the players, or with one player.
    """
    given, roles, players = config.environment, (), 1
    if given.name:
        environment = find_environment(given.name, given.options.to_dict())
        roles, players = roles_of(environment), player_count(environment)
    _check_names(given, roles, [stage.name for stage in stages])
    if roles and config.evaluation.samples_per_prompt:
        raise ValueError(
            f"evaluation.samples_per_prompt={config.evaluation.samples_per_prompt} counts right "
            f"samples of a prompt, and an episode of {given.name!r} has {players} players: set it "
            f"to 0 (config.evaluation.samples_per_prompt, {FIELD}.name)."
        )
    return tuple(_with_roles(config, stage, roles, players) for stage in stages)


def _check_names(given: ConfigDict, roles: Sequence[str], stages: Sequence[str]) -> None:
    """Raises ValueError for roles that the environment has not, or stages that the run has not."""
    named = {"episode_roles": given.episode_roles}
    for stage, trained in given.trained_roles.items():
        field = f"trained_roles.{stage}"
        named[field] = (trained,) if isinstance(trained, str) else tuple(trained)
        if stage not in stages:
            raise ValueError(
                f"trained_roles names the stage {stage!r}, and the run has "
                f"{', '.join(map(repr, stages))} ({FIELD}.{field})."
            )
        if not named[field] or isinstance(trained, str):
            raise ValueError(
                f"trained_roles of a stage must be names of roles, got {trained!r}; leave the "
                f"stage out where all learn ({FIELD}.{field})."
            )
    for field, names in named.items():
        if unknown := [name for name in names if name not in roles]:
            known = ", ".join(map(repr, roles)) or "none: it has a single player"
            raise ValueError(
                f"{unknown[0]!r} is no role of the environment; its roles are {known} "
                f"({FIELD}.{field})."
            )


def _with_roles(config: ConfigDict, stage: Stage, roles: Sequence[str], players: int) -> Stage:
    where, objective = f"config.{stage.name}", stage.objective
    if not roles:
        if "roles" in objective.inputs:
            raise ValueError(
                f"advantage={objective.choices['advantage']!r} reads the roles of several players: "
                f"name an environment that has some ({where}.objective.advantage, {FIELD}.name)."
            )
        return stage
    if str(stage.data.get("source", "")).startswith("sampled"):
        raise ValueError(
            f"source={stage.data['source']!r} keeps samples of a prompt, and each of {players} "
            f"players has its own: take policy gradients ({where}.data.source, {FIELD}.name)."
        )
    if not stage.online:
        return stage
    _check_stage(config, stage, players)
    values = dict(objective.values)
    if "role_count" in values:
        asked = config[stage.name].objective.get("role_count")
        if asked not in (None, len(roles)):
            raise ValueError(
                f"role_count={asked}: the environment has {len(roles)} roles "
                f"({where}.objective.role_count)."
            )
        values["role_count"] = len(roles)
    return dataclasses.replace(
        stage,
        objective=dataclasses.replace(objective, values=values),
        batch=dataclasses.replace(stage.batch, share_prompts=False),
    )


def _check_stage(config: ConfigDict, stage: Stage, players: int) -> None:
    where, objective, batch = f"config.{stage.name}", stage.objective, stage.batch
    because = f"an environment of {players} players ({FIELD}.name)"
    refuse_others(stage, WITH_ROLES, because, where)
    if batch.samples_per_prompt % players:
        raise ValueError(
            f"samples_per_prompt={batch.samples_per_prompt} must be a multiple of {players}: an "
            f"episode has a sample for each player ({where}.batch.samples_per_prompt, "
            f"{FIELD}.name)."
        )
    if objective.needs_groups and batch.samples_per_prompt == players:
        raise ValueError(
            f"advantage={objective.choices['advantage']!r} compares episodes of a problem, and "
            f"samples_per_prompt={players} is one episode: take a larger multiple of {players} "
            f"({where}.batch.samples_per_prompt)."
        )
    if config[stage.name].batch.get("share_prompts"):
        raise ValueError(
            f"share_prompts=True puts the samples of a prompt into one row, and with {because} "
            f"each has a prompt of its own: leave it out ({where}.batch.share_prompts)."
        )
    if objective.choices["advantage"] == "role_turn_zscore" and not config.environment.turn_credit:
        raise ValueError(
            "advantage='role_turn_zscore' compares turns by their own rewards, and "
            "turn_credit=False adds them up at the end: set it to True "
            f"({FIELD}.turn_credit, {where}.objective.advantage)."
        )
    if {"greedy_scores", "base_scores"} & objective.inputs or (
        "score_weights" in objective.batch_inputs
    ):
        raise ValueError(
            f"method {objective.method.name!r} compares samples of one prompt, and with {because} "
            f"each sample has its own: take another one ({where}.method)."
        )
