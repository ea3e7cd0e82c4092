"""Several rewards into one number: weights and gates."""

import inspect
import math
import numbers
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rljax.errors import unknown_name
from rljax.rewards import functions

FIELD = "config.scoring.rewards"
_KEYS = ("name", "as", "weight", "options", "gate")


class RewardSpec(NamedTuple):
    """One member of a composition.

    Attributes:
        name: of `functions.REWARDS`, or "path/to/file.py:function".
        label: its name in metrics; the config key is "as".
        weight: factor in the total.
        options: keyword arguments of the reward.
        gate: label of another member; this one counts only where that one equals 1.0.
    """

    name: str
    label: str
    weight: float
    options: dict[str, Any]
    gate: str | None


class Composition:
    """A validated list of rewards; total = sum of weight * value over members with open gates.

    The first member is the primary one: a sample is correct where its value is 1.0.

    Args:
        spec: list of mappings {name, as, weight, options, gate}; only the name is required.

    Raises:
        ValueError: unknown name, key, option or gate; missing option; repeated label; empty list.
    """

    def __init__(self, spec: Iterable[Any]) -> None:
        self.members = parse_rewards(spec)
        self.labels = tuple(member.label for member in self.members)
        self.primary = self.labels[0]
        self._calls = []
        for member in self.members:
            function = functions.find_reward(member.name)
            _check_options(member, function)
            self._calls.append((function, functions.wants_token_count(function)))

    @property
    def needs_token_counts(self) -> bool:
        return any(wants for _, wants in self._calls)

    def values(
        self, prompt: str, completion: str, reference: Any, completion_tokens: int | None
    ) -> list[float]:
        """Returns each member's value, before gates and weights.

        Raises:
            ValueError: if a reward returns no finite number.
        """
        values = []
        for member, (function, wants_count) in zip(self.members, self._calls, strict=True):
            options = member.options
            if wants_count:
                options = {**options, functions.COMPLETION_TOKENS: completion_tokens}
            value = function(prompt, completion, reference, **options)
            values.append(_checked(value, member.label))
        return values

    def total(self, values: Iterable[float]) -> float:
        """Returns the weighted sum of one sample's values, closed gates left out."""
        by_label = dict(zip(self.labels, values, strict=True))
        return sum(
            member.weight * by_label[member.label]
            for member in self.members
            if member.gate is None or by_label[member.gate] == 1.0
        )

    def portable(self) -> list[dict[str, Any]]:
        """Returns the list for another process: plain values, absolute paths."""
        out = []
        for member in self.members:
            name = member.name
            if name not in functions.REWARDS:
                path, function = name.rsplit(":", 1)
                name = f"{Path(path).resolve()}:{function}"
            entry = {"name": name, "as": member.label, "weight": member.weight}
            out.append({**entry, "options": member.options, "gate": member.gate})
        return out


def parse_rewards(spec: Iterable[Any]) -> list[RewardSpec]:
    """Checks names of keys, labels, weights and gates; `Composition` also checks the options."""
    members = [_parse_member(entry) for entry in spec]
    if not members:
        raise ValueError(f"No reward given; name at least one ({FIELD}).")
    labels = [member.label for member in members]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(
                f"Two rewards are called {label!r}; give one another label with 'as' ({FIELD})."
            )
    for member in members:
        if member.gate is not None and member.gate not in labels:
            raise unknown_name(f"gate of reward {member.label!r}", member.gate, labels, FIELD)
        if member.gate == member.label:
            raise ValueError(f"Reward {member.label!r} cannot be its own gate ({FIELD}).")
    return members


def _parse_member(entry: Any) -> RewardSpec:
    if isinstance(entry, str):
        entry = {"name": entry}
    entry = entry.to_dict() if hasattr(entry, "to_dict") else dict(entry)
    for key in entry:
        if key not in _KEYS:
            raise unknown_name("reward field", key, _KEYS, FIELD)
    if not isinstance(entry.get("name"), str):
        raise ValueError(f"A reward needs a name, got {entry!r} ({FIELD}).")
    name, weight = entry["name"], entry.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, numbers.Real):
        raise ValueError(f"Reward {name!r} needs a number as weight, got {weight!r} ({FIELD}).")
    if not math.isfinite(weight):
        raise ValueError(f"Reward {name!r} needs a finite weight, got {weight!r} ({FIELD}).")
    label = entry.get("as") or name.rsplit(":", 1)[-1]
    options: Mapping[str, Any] = entry.get("options") or {}
    return RewardSpec(name, label, float(weight), dict(options), entry.get("gate") or None)


def _check_options(member: RewardSpec, function: functions.Reward) -> None:
    known = functions.option_defaults(function)
    for option in member.options:
        if option not in known:
            kind = f"option of reward {member.name!r}"
            raise unknown_name(kind, option, known, f"{FIELD}[{member.label}].options")
    missing = [
        option
        for option, default in known.items()
        if default is inspect.Parameter.empty and option not in member.options
    ]
    if missing:
        raise ValueError(
            f"Reward {member.name!r} needs the option {missing[0]!r} "
            f"({FIELD}[{member.label}].options)."
        )


def _checked(value: Any, label: str) -> float:
    if not isinstance(value, numbers.Real) and not hasattr(value, "__float__"):
        raise ValueError(f"Reward {label!r} returned {value!r}, not a number.")
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"Reward {label!r} returned {value!r}, not a finite number.")
    return value
