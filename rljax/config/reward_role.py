"""The fields of a reward model beside a policy that do not go together."""

from collections.abc import Mapping
from typing import Any

from rljax.config.stage import Stage
from rljax.errors import shown
from rljax.registry.families.shared import VERDICTS


def check_reward_fields(fields: Mapping[str, Any], where: str) -> None:
    """Raises ValueError for a field that the others leave without a reader.

    Args:
        fields: of `config.<stage>.models.reward`, with defaults.
        where: their path in the config.
    """
    if fields["steps"] and fields["question"]:
        raise ValueError(
            f"steps={fields['steps']!r} reads a reward head, and question="
            f"{shown(fields['question'])} a language model: give one of them ({where}.steps, "
            f"{where}.question)."
        )
    if not fields["step_separator"]:
        raise ValueError(f"step_separator='' separates nothing ({where}.step_separator).")
    readers = {
        "step_separator": ("\n", fields["steps"], "steps"),
        "verdicts": (VERDICTS, fields["question"], "question"),
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


def check_read_as_trained(fields: Mapping[str, Any], trained: Stage, where: str) -> None:
    """Raises ValueError for a model that is read in another way than an earlier stage trained it.

    A process reward has learned nothing at the last token of a sample, which is behind its last
    step; and a question or a separator that it never saw leaves its scores without a meaning.

    Args:
        fields: of `config.<stage>.models.reward`, with defaults.
        trained: the stage that makes the model.
        where: path of the fields in the config.
    """
    learned, name = trained.data, f"config.{trained.name}"
    if "step_separator" in learned and not fields["steps"]:
        raise ValueError(
            f"{trained.name!r} learns scores of steps, and steps='' reads the score at the last "
            f"token: say what is made of the steps ({where}.steps, {name}.method)."
        )
    kinds = {"steps": ("step_separator",), "question": ("question", "verdicts")}
    for field in (field for kind in kinds if fields[kind] for field in kinds[kind]):
        given = tuple(fields[field]) if field == "verdicts" else fields[field]
        if given != learned.get(field, given):
            raise ValueError(
                f"{field}={shown(given)} is not what {trained.name!r} was trained with, "
                f"{shown(learned[field])} ({where}.{field}, {name}.data.{field})."
            )
