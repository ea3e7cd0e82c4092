"""Several rewards into one number: weights, gates, and from which value on a sample is right.

A reward that returns None *does not apply* to a sample: it is left out of the sum, as TRL leaves it
out. A part whose gate does not apply does not apply either. Where no part applies there is no
verdict, which is not a zero.
"""

import inspect
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rljax.errors import unknown_name
from rljax.rewards import functions
from rljax.rewards.user_rewards import absolute, is_user_reward

FIELD = "config.scoring.rewards"
_KEYS = ("name", "as", "weight", "options", "gate", "right_at")

# Objectives add up squares of rewards in float32, which ends at 3.4e38.
LARGEST = 1e16

# Characters of what a reward says of a sample; the rest is cut.
LONGEST_FEEDBACK = 4000

Value = float | None  # None: does not apply


class RewardSpec(NamedTuple):
    """One member of a composition.

    Attributes:
        name: of `functions.REWARDS`, "path/to/file.py:function" or "package.module:function".
        label: its name in metrics; the config key is "as".
        weight: factor in the total.
        options: keyword arguments of the reward.
        gate: label of another member; this one counts only where that one reaches its `right_at`.
        right_at: the value from which this reward says "right".
        assumed: `right_at` was not given, and nobody knows the scale of a user's reward.
    """

    name: str
    label: str
    weight: float
    options: dict[str, Any]
    gate: str | None
    right_at: float
    assumed: bool


class Composition:
    """A validated list of rewards; total = sum of weight * value over members with open gates.

    A sample is right where the first member that applies to it reaches its `right_at`.

    Args:
        spec: list of mappings {name, as, weight, options, gate, right_at}; only the name is
            required.

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
            self._calls.append((function, functions.filled_in(function)))
        if functions.RIGHT in self._calls[0][1]:
            raise ValueError(
                f"Reward {self.primary!r} reads whether a sample is right, which the rewards "
                f"before it say: put one there ({FIELD})."
            )

    @property
    def needs_token_counts(self) -> bool:
        """Whether a member reads how many tokens a sample has."""
        return any(functions.COMPLETION_TOKENS in names for _, names in self._calls)

    @property
    def needs_episodes(self) -> bool:
        """Whether a member reads what became of an episode."""
        return any(functions.EPISODE in names for _, names in self._calls)

    def values(
        self,
        prompt: str,
        completion: str,
        reference: Any,
        completion_tokens: int | None,
        episode: Mapping[str, Any] | None = None,
    ) -> list[Value]:
        """Returns each member's value, before gates and weights; None where it does not apply.

        Raises:
            ValueError: as `judge`.
        """
        return self.judge(prompt, completion, reference, completion_tokens, episode)[0]

    def judge(
        self,
        prompt: str,
        completion: str,
        reference: Any,
        completion_tokens: int | None,
        episode: Mapping[str, Any] | None = None,
    ) -> tuple[list[Value], str]:
        """Returns the values of `values`, and what the members say of the sample, a line each.

        Raises:
            ValueError: a reward returns no number, or one too large for float32 statistics; or
                their weighted sum is too large.
        """
        values: list[Value] = []
        said: list[str] = []
        for member, (function, names) in zip(self.members, self._calls, strict=True):
            filled = {
                functions.COMPLETION_TOKENS: completion_tokens,
                functions.EPISODE: episode,
            }
            if functions.RIGHT in names:
                right = self._said_right(values)
                if right is None:  # no verdict yet, so that there is nothing to say
                    values.append(None)
                    continue
                filled[functions.RIGHT] = right
            options = member.options | {name: filled[name] for name in names}
            value = function(prompt, completion, reference, **options)
            value, text = _with_feedback(value, member.label)
            said += [text] * bool(text)
            values.append(None if value is None else _checked(value, member.label))
        total = self.total(values)
        if total is not None and not abs(total) <= LARGEST:
            raise ValueError(
                f"The weighted sum of the rewards is {total!r}; beyond {LARGEST:g} statistics in "
                f"float32 overflow ({FIELD})."
            )
        return values, "\n".join(said)

    def total(self, values: Sequence[Value]) -> Value:
        """Returns the weighted sum of one sample's values; None where no member applies."""
        by_label = dict(zip(self.labels, values, strict=True))
        gates = {member.label: member for member in self.members}
        counted, applies = [], False
        for member in self.members:
            value, gate = by_label[member.label], gates.get(member.gate)
            if value is None or (gate is not None and by_label[gate.label] is None):
                continue
            applies = True
            if gate is None or reaches(by_label[gate.label], gate.right_at):
                counted.append(member.weight * value)
        return sum(counted) if applies else None

    def is_right(self, values: Sequence[Value]) -> bool:
        """Whether the first member that applies says so."""
        return bool(self._said_right(values))

    def _said_right(self, values: Sequence[Value]) -> bool | None:
        """What the first of some members that applies says; None where none does."""
        for member, value in zip(self.members, values, strict=False):
            if value is not None:
                return reaches(value, member.right_at)
        return None

    def portable(self) -> list[dict[str, Any]]:
        """Returns the list for another process: plain values, absolute paths."""
        return [
            {
                "name": absolute(member.name) if is_user_reward(member.name) else member.name,
                "as": member.label,
                "weight": member.weight,
                "options": member.options,
                "gate": member.gate,
                "right_at": member.right_at,
            }
            for member in self.members
        ]


def reaches(value: float, right_at: float) -> bool:
    """Whether a value is at least the threshold, in float32, in which rewards are used."""
    return bool(np.float32(value) >= np.float32(right_at))


def right_score(spec: Iterable[Any]) -> float:
    """The score of a sample that is just right by the first reward alone: weight * right_at."""
    first = parse_rewards(spec)[0]
    return first.weight * first.right_at if first.weight > 0 else first.right_at


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
    for key, kinds in (("as", str), ("gate", str), ("options", Mapping)):
        if entry.get(key) is not None and not isinstance(entry[key], kinds):
            raise ValueError(
                f"Reward {name!r}: {key!r} must be a {kinds.__name__.lower()}, got {entry[key]!r} "
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
        gate=entry.get("gate") or None,
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


def _with_feedback(value: Any, label: str) -> tuple[Any, str]:
    """A reward's value, and what it says of the sample: a reward may return both."""
    if not isinstance(value, tuple):
        return value, ""
    if len(value) != 2 or not isinstance(value[1], str | None):
        raise ValueError(
            f"Reward {label!r} returned {_shown(value)}; beside its number stands what it says of "
            "the sample, a text or None."
        )
    return value[0], (value[1] or "").strip()[:LONGEST_FEEDBACK]


def _checked(value: Any, label: str) -> float:
    """The value as a Python number; a string or a list is none, whatever is in it."""
    if not isinstance(value, numbers.Real) and not hasattr(value, "__float__"):
        raise ValueError(f"Reward {label!r} returned {_shown(value)}, not a number.")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"Reward {label!r} returned {_shown(value)}, not a finite number.")
    if not abs(number) <= LARGEST:
        raise ValueError(
            f"Reward {label!r} returned {_shown(value)}; beyond {LARGEST:g} statistics in float32 "
            "overflow."
        )
    return number


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
