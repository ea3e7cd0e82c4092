"""The fields of a reward model beside a policy that do not go together."""

from collections.abc import Mapping
from typing import Any

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
