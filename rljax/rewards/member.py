"""One member of a composition of rewards, and how it is read from the config."""

import numbers
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from rljax.errors import unknown_name
from rljax.rewards import functions
from rljax.rewards.thresholds import reaches
from rljax.rewards.user_rewards import is_user_reward

FIELD = "config.scoring.rewards"
_KEYS = (
    "name",
    "as",
    "weight",
    "options",
    "threshold",
    "clip",
    "gate",
    "where",
    "constraint",
    "heldout_of",
    "right_at",
)

# Objectives add up squares of rewards in float32, which ends at 3.4e38.
LARGEST = 1e16


class RewardSpec(NamedTuple):
    """One member of a composition.

    Attributes:
        name: of `functions.REWARDS`, "path/to/file.py:function" or "package.module:function".
        label: its name in metrics; the config key is "as".
        weight: factor in the total.
        options: keyword arguments of the reward.
        threshold: a lower value counts as 0; None: every value counts.
        clip: values beyond these two count as these; None: as they are.
        gates: labels of other members; this one counts only where all of these reach their
            `right_at`. The config key is "gate", labels with commas.
        where: field of the reference -> the values with which this member applies.
        constraint: it is no summand: a sample satisfies it from its `right_at` on.
        heldout_of: label of a member that is trained on; this one measures the same, and is never
            trained on; None for all others.
        right_at: the value from which this reward says "right".
        assumed: `right_at` was not given, and nobody knows the scale of a user's reward.
    """

    name: str
    label: str
    weight: float
    options: dict[str, Any]
    threshold: float | None
    clip: tuple[float, float] | None
    gates: tuple[str, ...]
    where: dict[str, tuple[Any, ...]]
    constraint: bool
    heldout_of: str | None
    right_at: float
    assumed: bool

    @property
    def counts(self) -> bool:
        """Whether it is a summand of the total: no constraint, and not held out."""
        return not self.constraint and self.heldout_of is None

    def counted(self, value: float) -> float:
        """What a value counts as: 0 below the threshold, then within the clip."""
        if self.threshold is not None and not reaches(value, self.threshold):
            value = 0.0
        return value if self.clip is None else min(max(value, self.clip[0]), self.clip[1])

    def applies_to(self, reference: Any) -> bool:
        """Whether the reference is of a kind that this member judges.

        Raises:
            ValueError: for a reference without a field that `where` names.
        """
        for field, values in self.where.items():
            if not isinstance(reference, Mapping) or field not in reference:
                known = ", ".join(reference) if isinstance(reference, Mapping) else "no fields"
                raise ValueError(
                    f"Reward {self.label!r} applies by the field {field!r} of the reference, which "
                    f"has {known} ({FIELD}[{self.label}].where, config.data.reference_column)."
                )
            if reference[field] not in values:
                return False
        return True


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
        for gate in member.gates:
            if gate not in labels:
                raise unknown_name(f"gate of reward {member.label!r}", gate, labels, FIELD)
            if gate == member.label:
                raise ValueError(f"Reward {member.label!r} cannot be its own gate ({FIELD}).")
    if not any(member.counts for member in members):
        raise ValueError(
            f"All of the rewards {', '.join(labels)} are constraints or held out; one must be what "
            f"is trained on ({FIELD})."
        )
    _check_heldout({member.label: member for member in members})
    return members


def _check_heldout(members: Mapping[str, RewardSpec]) -> None:
    """Raises ValueError for a held-out reward of nothing, or one that decides over others."""
    for label, member in members.items():
        if member.heldout_of is not None:
            if member.heldout_of not in members:
                kind = f"heldout_of of reward {label!r}"
                raise unknown_name(kind, member.heldout_of, members, FIELD)
            if member.constraint or not members[member.heldout_of].counts:
                raise ValueError(
                    f"Reward {label!r} is held out of {member.heldout_of!r}: that one must be "
                    f"trained on, and neither may be a constraint ({FIELD}[{label}].heldout_of)."
                )
        for gate in member.gates:
            if members[gate].heldout_of is not None and member.heldout_of is None:
                raise ValueError(
                    f"Reward {label!r} has the gate {gate!r}, which is held out: training would "
                    f"see it ({FIELD}[{label}].gate)."
                )


def _parse_member(entry: Any) -> RewardSpec:
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, Mapping) and not hasattr(entry, "to_dict"):
        raise ValueError(
            f"A reward is a name or a mapping with the keys {', '.join(_KEYS)}, got {entry!r} "
            f"({FIELD})."
        )
    entry = entry.to_dict() if hasattr(entry, "to_dict") else dict(entry)
    for key in entry:
        if key not in _KEYS:
            raise unknown_name("reward field", key, _KEYS, FIELD)
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"A reward needs a name, got {entry!r} ({FIELD}).")
    for key, kind in (
        ("as", str),
        ("gate", str),
        ("heldout_of", str),
        ("options", Mapping),
        ("where", Mapping),
        ("constraint", bool),
    ):
        if entry.get(key) is not None and not isinstance(entry[key], kind):
            raise ValueError(
                f"Reward {name!r}: {key!r} must be a {kind.__name__.lower()}, got {entry[key]!r} "
                f"({FIELD})."
            )
    right_at = entry.get("right_at")
    assumed = right_at is None and is_user_reward(name)
    if right_at is None:
        right_at = functions.RIGHT_AT.get(name, 1.0)
    return RewardSpec(
        name=name,
        label=entry.get("as") or name.rsplit(":", 1)[-1],
        weight=_number(name, "weight", entry.get("weight", 1.0)),
        options=dict(entry.get("options") or {}),
        threshold=_threshold(name, entry.get("threshold")),
        clip=_clip(name, entry.get("clip")),
        gates=tuple(gate.strip() for gate in (entry.get("gate") or "").split(",") if gate.strip()),
        where={
            field: tuple(values) if isinstance(values, list | tuple) else (values,)
            for field, values in (entry.get("where") or {}).items()
        },
        constraint=bool(entry.get("constraint")),
        heldout_of=entry.get("heldout_of") or None,
        right_at=_number(name, "right_at", right_at),
        assumed=assumed,
    )


def _number(name: str, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"Reward {name!r} needs a number as {key}, got {value!r} ({FIELD}).")
    if not abs(value) <= LARGEST:
        raise ValueError(
            f"Reward {name!r} needs a finite {key} of at most {LARGEST:g}, got {value!r} ({FIELD})."
        )
    return float(value)


def _threshold(name: str, value: Any) -> float | None:
    return None if value is None else _number(name, "threshold", value)


def _clip(name: str, given: Any) -> tuple[float, float] | None:
    if given is None or given == ():
        return None
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise ValueError(
            f"Reward {name!r} needs the least and the largest value as clip, got {given!r} "
            f"({FIELD})."
        )
    low, high = (_number(name, "clip", value) for value in given)
    if not low < high:
        raise ValueError(f"Reward {name!r}: clip must ascend, got {given!r} ({FIELD}).")
    return low, high
