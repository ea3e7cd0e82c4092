"""The fields of a teacher beside a policy, or of several, that do not go together."""

from collections.abc import Mapping
from typing import Any

from rljax.config.stage import Stage
from rljax.objectives.arrays import OF_TEACHER


def check_teacher_fields(stage: Stage, fields: Mapping[str, Any], where: str) -> None:
    """Raises ValueError for several teachers of which nobody says which one a prompt has.

    Args:
        stage: that reads the teacher.
        fields: of `config.<stage>.models.teacher`, with defaults.
        where: their path in the config.
    """
    members, names, column = (fields[name] for name in ("members", "names", "column"))
    if not members:
        for name, value in (("names", names), ("column", column)):
            if value:
                raise ValueError(
                    f"{name}={value!r} is never read with members=(): a single teacher has all "
                    f"prompts ({where}.{name}, {where}.members)."
                )
        return
    if len(names) != 1 + len(members) or len(set(names)) != len(names) or not all(names):
        raise ValueError(
            f"names={tuple(names)!r}: {1 + len(members)} teachers (start_from and members) need a "
            f"name each, all of them different ({where}.names, {where}.members)."
        )
    if not column:
        raise ValueError(
            f"{1 + len(members)} teachers, and column='' does not say which one a prompt has: give "
            f"a column of the problems that holds one of {', '.join(names)} ({where}.column)."
        )
    choices = stage.objective.choices
    if OF_TEACHER.isdisjoint(stage.objective.inputs) or choices.get("off_policy") == "teacher":
        raise ValueError(
            f"members={tuple(members)!r}: several teachers are compared with the policy, and in "
            f"stage {stage.name!r} a teacher writes, which is one alone ({where}.members)."
        )
