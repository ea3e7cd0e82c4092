"""Where the stages of a run and the models that they read start from.

A stage starts from the end of an earlier stage, or from what config.model says; the models that it
reads besides its policy also from another run's checkpoint or a published folder. So stages form a
graph without cycles, in the order in which they are listed.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rljax.config.guide import guide_plan
from rljax.config.reward_role import (
    check_read_as_trained,
    check_reward_fields,
    recorded_form,
    scored_as,
)
from rljax.config.runs import find_step
from rljax.config.sampled_rounds import SAMPLED_SOURCES, reads_scores
from rljax.config.stage import Stage
from rljax.config.teacher_role import check_teacher_fields
from rljax.errors import unknown_name
from rljax.models.config import ModelConfig
from rljax.models.pretrained import is_pretrained
from rljax.models.pretrained.checks import SCORED_AS
from rljax.registry import FAMILIES
from rljax.registry.families.shared import DEFAULT_VERDICTS

# What `start_from` calls the parameters that config.model describes; no stage has this name.
MODEL = "model"

# Fields of a role besides `start_from`, with their defaults.
ROLE_FIELDS: dict[str, dict[str, Any]] = {
    "reward": {
        "weight": 1.0,
        "text_weight": 0.0,
        "normalise": "none",
        "reference_path": "",
        "clip": 0.0,
        "length_penalty": 0.0,
        "members": (),
        "ensemble": "mean",
        "ensemble_weight": 1.0,
        "step_score": "",
        "step_separator": "\n",
        "question": "",
        "judge": "",
        "rubric": "",
        "lowest": 0,
        "highest": 9,
        "verdicts": DEFAULT_VERDICTS,
    },
    "teacher": {"members": (), "names": (), "column": ""},
}


def start_of(stages: Sequence[Stage], index: int) -> str:
    """The name of the stage that a stage starts from, or `MODEL`."""
    if stages[index].start_from:
        return stages[index].start_from
    return stages[index - 1].name if index else MODEL


def has_own_critic(stage: Stage) -> bool:
    """Whether a value model with a trunk of its own is trained beside the policy."""
    return stage.critic.get("trunk") == "separate"


def given_models(section: ConfigDict, where: str) -> dict[str, dict[str, Any]]:
    """The roles for which `config.<stage>.models` names a start, with their fields.

    Raises:
        ValueError: for a field of a role that has no start.
    """
    found = {}
    for role, fields in section.items():
        given = {name: value for name, value in fields.items() if value is not None}
        if given.get("start_from"):
            found[role] = ROLE_FIELDS.get(role, {}) | given
        elif unread := sorted(set(given) - {"start_from"}):
            raise ValueError(
                f"{where}.{role}.{unread[0]}={given[unread[0]]!r} is never read without a start: "
                f"set {where}.{role}.start_from ({where}.{role}.{unread[0]})."
            )
    return found


def resolve_graph(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Checks every start, and makes those of folders absolute.

    Raises:
        ValueError: for a start that is neither an earlier stage nor a folder, and for a role that
            the stage's method never reads.
    """
    return tuple(_resolved(stages, index) for index in range(len(stages)))


def _resolved(stages: Sequence[Stage], index: int) -> Stage:
    stage = stages[index]
    if stage.start_from:
        where = f"config.{stage.name}.start_from"
        if not _is_stage(stage.start_from, stages, index, where):
            known = [MODEL, *(earlier.name for earlier in stages[:index])]
            raise unknown_name("stage", stage.start_from, known, where)
    models = {}
    for role, fields in stage.models.items():
        where = f"config.{stage.name}.models.{role}"
        _check_read(stage, role, fields["start_from"], where)
        models[role] = {
            **fields,
            "start_from": _start(fields["start_from"], stages, index, f"{where}.start_from"),
        }
        if role == "reward":
            _check_reference_path(fields, where)
            _check_whitened(stage, fields, where)
            check_reward_fields(fields, where)
        if role == "teacher":
            check_teacher_fields(stage, fields, where)
        if "members" in fields:
            models[role]["members"] = tuple(
                _start(member, stages, index, f"{where}.members") for member in fields["members"]
            )
        if role == "reward":
            for start in (models[role]["start_from"], *models[role]["members"]):
                _check_form(fields, start, stages[:index], where)
    return dataclasses.replace(stage, models=models)


def _check_form(
    fields: Mapping[str, Any], start: str, earlier: Sequence[Stage], where: str
) -> None:
    """Raises ValueError for a reward model that is read otherwise than it was trained."""
    if start == MODEL:
        return
    trained = next((stage for stage in earlier if stage.name == start), None)
    if trained is None:
        learned, there = recorded_form(start), f"{SCORED_AS} of its config.json"
        there = there if is_pretrained(start) else "the config.json of its run"
    else:
        learned, there = scored_as(trained.data), f"config.{start}.data"
    check_read_as_trained(fields, learned, start, where, there)


def _start(start: str, stages: Sequence[Stage], index: int, where: str) -> str:
    """The name of a stage, or the absolute path of a folder."""
    if _is_stage(start, stages, index, where):
        return start
    return _folder(start, [earlier.name for earlier in stages[:index]], where)


def _check_reference_path(fields: Mapping[str, Any], where: str) -> None:
    """Reference completions are read where scores are normalised by them, and only there."""
    path, normalise = fields["reference_path"], fields["normalise"]
    if bool(path) != (normalise == "reference"):
        need = "needs a file of completions" if normalise == "reference" else "never reads one"
        raise ValueError(
            f"normalise={normalise!r} {need}, got reference_path={path!r} "
            f"({where}.reference_path, {where}.normalise)."
        )


def _check_whitened(stage: Stage, fields: Mapping[str, Any], where: str) -> None:
    """Scores are whitened among those that are scored together, which must be all of a step."""
    rounds = stage.objective.choices.get("group_filter", "none")
    apart = {
        "the greedy completions of its baseline": "greedy_scores" in stage.objective.inputs,
        "the greedy completions of the start": "base_scores" in stage.objective.inputs,
        f"the rounds of group_filter={rounds!r}": rounds != "none",
        "a part of its prompts after the other": stage.data.get("source") in SAMPLED_SOURCES,
    }
    names = [name for name, scored_apart in apart.items() if scored_apart]
    if fields["normalise"] == "whiten" and names:
        raise ValueError(
            f"normalise='whiten' puts the samples that are scored together on one scale, and "
            f"{stage.objective.method.name!r} scores {names[0]} apart: 'reference' is the same "
            f"scale for all ({where}.normalise)."
        )


def _is_stage(start: str, stages: Sequence[Stage], index: int, where: str) -> bool:
    """Whether a start is `MODEL` or an earlier stage; a later one is an error."""
    names = [stage.name for stage in stages]
    if start in names[index:]:
        which = "the stage itself" if start == names[index] else "a later stage"
        raise ValueError(
            f"{where}={start!r} is {which}; a start must be complete before: "
            f"{', '.join(map(repr, [MODEL, *names[:index]]))} or a folder ({where}, config.stages)."
        )
    return start == MODEL or start in names


def _folder(start: str, earlier: Sequence[str], where: str) -> str:
    """The absolute path of a published folder, or of one step of another run's checkpoints."""
    if is_pretrained(start):
        return str(Path(start).absolute())
    try:
        return str(find_step(start))
    except ValueError as error:
        known = ", ".join(map(repr, [MODEL, *earlier]))
        raise ValueError(
            f"{where}={start!r} is neither an earlier stage ({known}) nor a folder of a model: a "
            f"Hugging Face folder, or CHECKPOINTS/STAGE[/STEP] of another run ({where})."
        ) from error


def _check_read(stage: Stage, role: str, start: str, where: str) -> None:
    reads, why_not = READERS[role]
    if not reads(stage):
        raise ValueError(
            f"{where}.start_from={start!r} is never read by method "
            f"{stage.objective.method.name!r}: {why_not} ({where}.start_from)."
        )


def _reads_reference(stage: Stage) -> bool:
    return stage.needs_reference


def _reads_reward(stage: Stage) -> bool:
    if stage.data.get("source") in SAMPLED_SOURCES:
        return reads_scores(stage)
    choices = stage.objective.choices
    one_go = choices.get("rollouts") == "whole" or guide_plan(stage) is not None
    whole = one_go and "start_values" not in stage.objective.inputs
    # Rows that are no samples of the prompt are scored by the verifiers, on another scale.
    alone = choices.get("demonstrations") not in ("in_group", "guided", "scaffolded")
    return stage.objective.description.scored and whole and alone


def _reads_teacher(stage: Stage) -> bool:
    return stage.objective.needs_teacher or stage.data.get("source") == "sampled"


def _reads_guide(stage: Stage) -> bool:
    return guide_plan(stage) is not None


def _reads_judge(stage: Stage) -> bool:
    return "judge_scores" in stage.objective.inputs


# Role -> whether a stage reads it, and what is missing where it does not.
READERS: Mapping[str, tuple[Callable[[Stage], bool], str]] = {
    "reference": (_reads_reference, "it has no preference loss, no KL term and no reference_kl"),
    "value": (has_own_critic, "it trains no critic with a trunk of its own"),
    "reward": (_reads_reward, "it does not score whole samples of its policy, and these alone"),
    "teacher": (
        _reads_teacher,
        "none of its parts compares with a teacher or samples from one, and data.source is not "
        "'sampled'; or its teacher follows the policy",
    ),
    "judge": (_reads_judge, "none of its parts reads judge_scores"),
    "guide": (_reads_guide, "its samples are its policy's alone (objective.rollouts)"),
}


def resolve_networks(model: ModelConfig, stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Says how the network of each stage differs from the run's, and checks that it is trained.

    Args:
        model: the run's network, of config.model.
        stages: of `resolve_graph`.

    Returns:
        The stages; `network` holds the fields of a ModelConfig that are not those of `model`.

    Raises:
        ValueError: for a head or a mask that the stage's family does not train, or a head that
            what it starts from cannot give.
    """
    heads = {MODEL: model.head}
    resolved = []
    for index, stage in enumerate(stages):
        start = start_of(stages, index)
        head = heads[stage.name] = stage.network.get("head") or heads[start]
        _check_trained(stage, start, head, model.causal)
        if head == model.head != "language_model" and model.head_outputs != 1:
            raise ValueError(
                f"Stage {stage.name!r} learns one score, and the model's {head} head has "
                f"{model.head_outputs} outputs: start from a model with one "
                f"(config.model.init_from, config.{stage.name}.start_from)."
            )
        if head == "language_model" != heads[start] and not model.tied_embeddings:
            raise ValueError(
                f"Stage {stage.name!r} starts from {start!r}, a model with a {heads[start]} head, "
                "which has no output matrix for a language_model head: start from another one "
                f"(config.{stage.name}.network.head, config.{stage.name}.start_from)."
            )
        own = {} if head == model.head else {"head": head, "head_outputs": 1, "head_bias": False}
        resolved.append(dataclasses.replace(stage, network=own))
    return tuple(resolved)


def _check_trained(stage: Stage, start: str, head: str, causal: bool) -> None:
    family, method = FAMILIES[stage.objective.family], stage.objective.method.name
    if head not in stage.objective.heads:
        raise ValueError(
            f"Stage {stage.name!r}: method {method!r} trains a network with the head "
            f"{' or '.join(map(repr, stage.objective.heads))}, and this one has {head!r}, starting "
            f"from {start!r} (config.{stage.name}.network.head, config.{stage.name}.start_from)."
        )
    if causal not in family.causal:
        raise ValueError(
            f"Stage {stage.name!r}: method {method!r} trains networks with causal="
            f"{' or '.join(map(str, family.causal))}, and this one has causal={causal} "
            "(config.model.causal, config.model.init_from)."
        )
    for option, why in family.from_the_left.items():
        choice, _, name = option.partition("=")
        if not causal and stage.objective.choices.get(choice) == name:
            raise ValueError(
                f"Stage {stage.name!r}: {choice}={name!r} needs a causal network, as {why}, and "
                "this one has causal=False (config.model.causal, config.model.init_from, "
                f"config.{stage.name}.objective.{choice})."
            )
