"""The fields of a reward model beside a policy that do not go together.

A model that is read otherwise than at its last token says so wherever it comes from: an earlier
stage and a run's checkpoint by the `data` of the stage that trained it, an exported folder by the
key `SCORED_AS` of its config.json.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rljax.config.runs import find_step, run_config
from rljax.errors import blamed, shown
from rljax.models.pretrained import is_pretrained
from rljax.models.pretrained.checks import SCORED_AS
from rljax.registry.families.shared import DEFAULT_VERDICTS
from rljax.rewards.judges.questions import NEEDED, QUESTIONS


def check_reward_fields(fields: Mapping[str, Any], where: str) -> None:
    """Raises ValueError for a field that the others leave without a reader.

    Args:
        fields: of `config.<stage>.models.reward`, with defaults.
        where: their path in the config.
    """
    if fields["step_score"] and fields["question"]:
        raise ValueError(
            f"step_score={fields['step_score']!r} reads a reward head, and question="
            f"{shown(fields['question'])} a language model: give one of them ({where}.step_score, "
            f"{where}.question)."
        )
    if not fields["step_separator"]:
        raise ValueError(f"step_separator='' separates nothing ({where}.step_separator).")
    if fields["judge"]:
        _check_judge(fields, where)
    generative = fields["question"] and not fields["judge"]
    readers = {
        "rubric": ("", fields["judge"], "judge"),
        "lowest": (0, fields["judge"] == "score", "judge"),
        "highest": (9, fields["judge"] == "score", "judge"),
        "step_separator": ("\n", fields["step_score"], "step_score"),
        "verdicts": (DEFAULT_VERDICTS, generative, "judge" if fields["judge"] else "question"),
        "ensemble": ("mean", fields["members"], "members"),
        "ensemble_weight": (1.0, fields["ensemble"] == "mean_minus_deviation", "ensemble"),
    }
    for name, (default, read, switch) in readers.items():
        value = tuple(fields[name]) if isinstance(fields[name], list) else fields[name]
        if value != default and not read:
            raise ValueError(
                f"{name}={shown(fields[name])} is never read with {switch}="
                f"{shown(fields[switch])} ({where}.{name}, {where}.{switch})."
            )


def _check_judge(fields: Mapping[str, Any], where: str) -> None:
    """Raises ValueError for fields of a judge that cannot work, or that it does not read."""
    kind = fields["judge"]
    if fields["step_score"] or fields["normalise"] == "reference":
        name = "step_score" if fields["step_score"] else "normalise"
        raise ValueError(
            f"{name}={fields[name]!r} reads the tokens of a sample, and judge={kind!r} reads a "
            f"question about its text: give one of them ({where}.{name}, {where}.judge)."
        )
    if kind == "score" and not fields["lowest"] < fields["highest"]:
        raise ValueError(
            f"lowest={fields['lowest']} must be below highest={fields['highest']} "
            f"({where}.lowest, {where}.highest)."
        )
    question = fields["question"] or QUESTIONS[kind]
    missing = [name for name in NEEDED[kind] if f"{{{name}}}" not in question]
    if missing:
        raise ValueError(
            f"question={shown(question)} has no place {{{missing[0]}}}, which judge={kind!r} fills "
            f"in ({where}.question)."
        )


# Fields of a stage's data that say how its model is read.
_FORM = ("step_separator", "question", "verdicts")


def scored_as(data: Mapping[str, Any]) -> dict[str, Any]:
    """How the model of a stage is read, given its `data`; {}: at its last token."""
    return {name: data[name] for name in _FORM if name in data}


def recorded_form(start: str) -> dict[str, Any] | None:
    """How the model of a folder is read, as `scored_as` says it; None where the folder does not.

    Args:
        start: a published folder, or a checkpoint of another run.

    Raises:
        ValueError: for a record that is none.
    """
    if is_pretrained(start):
        path = Path(start) / "config.json"
        with blamed(f"{path}: {SCORED_AS}", TypeError, ValueError, field="the model's files"):
            found = json.loads(path.read_text(encoding="utf-8"))
            return _checked_form(found[SCORED_AS]) if SCORED_AS in found else None
    step = find_step(start)
    stage = (run_config(step) or {}).get(step.parent.name)
    return None if stage is None else scored_as(stage.get("data", {}))


def _checked_form(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict) or not set(found) <= set(_FORM):
        raise ValueError(f"must be an object with keys of {', '.join(_FORM)}, got {shown(found)}")
    verdicts = found.get("verdicts", ["", ""])
    two = isinstance(verdicts, list) and len(verdicts) == 2
    texts = [*(found[name] for name in found if name != "verdicts"), *(verdicts if two else ())]
    if not two or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"must hold texts, and two as verdicts, got {shown(found)}")
    return found


def check_read_as_trained(
    fields: Mapping[str, Any],
    learned: Mapping[str, Any] | None,
    trained: str,
    where: str,
    there: str,
) -> None:
    """Raises ValueError for a model that is read in another way than it was trained.

    A process reward has learned nothing at the last token of a sample, which is behind its last
    step, and other models nothing before it; and a question or a separator that it never saw leaves
    its scores without a meaning.

    Args:
        fields: of `config.<stage>.models.reward`, with defaults.
        learned: how it was trained, of `scored_as` or `recorded_form`; None where nothing says it.
        trained: the stage that makes the model, or its folder.
        where: path of the fields in the config.
        there: what says how it was trained, for errors.
    """
    if learned is None:
        return
    if fields["step_score"] and "step_separator" not in learned:
        raise ValueError(
            f"step_score={fields['step_score']!r} reads a score at the end of each step, and "
            f"{trained!r} learns none there: read it at the last token, or name a model of "
            f"reward_loss='step_binary' ({where}.step_score, {there})."
        )
    if "step_separator" in learned and not fields["step_score"]:
        raise ValueError(
            f"{trained!r} learns scores of steps, and step_score='' reads the score at the last "
            f"token: say what is made of the steps ({where}.step_score, {there})."
        )
    asked = () if fields["judge"] else ("question", "verdicts")  # a judge is asked anything
    kinds = {"step_score": ("step_separator",), "question": asked}
    for field in (field for kind in kinds if fields[kind] for field in kinds[kind]):
        given = tuple(fields[field]) if field == "verdicts" else fields[field]
        known = learned.get(field, given)
        if given != (tuple(known) if field == "verdicts" else known):
            raise ValueError(
                f"{field}={shown(given)} is not what {trained!r} was trained with, "
                f"{shown(known)} ({where}.{field}, {there}.{field})."
            )
