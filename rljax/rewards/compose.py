"""Several rewards into one number, and from which value on a sample is right.

    value ─► 0 below its threshold ─► clip ─► times its weight ─► added, where its gates are open

A reward that returns None *does not apply* to a sample: it is left out of the sum, as TRL leaves it
out; so is one whose `where` does not hold of the problem. A part whose gate does not apply does not
apply either. Where no part applies there is no verdict, which is not a zero. A constraint is no
summand: it says whether the sample satisfies it. Nor is a held-out reward, which is only logged.
"""

import inspect
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rljax.errors import unknown_name
from rljax.rewards import functions
from rljax.rewards.member import FIELD, LARGEST, RewardSpec, parse_rewards
from rljax.rewards.thresholds import reaches
from rljax.rewards.user_rewards import absolute, is_user_reward

# Characters of what a reward says of a sample; the rest is cut.
LONGEST_FEEDBACK = 4000

Value = float | None  # None: does not apply


class Composition:
    """A validated list of rewards; total = sum of weight * value over members with open gates.

    A sample is right where the first member that applies to it, and is trained on, reaches its
    `right_at`.

    Args:
        spec: list of mappings with the keys of `RewardSpec`; only the name is required.

    Raises:
        ValueError: unknown name, key, option or gate; missing option; repeated label; empty list.
    """

    def __init__(self, spec: Iterable[Any]) -> None:
        self.members = parse_rewards(spec)
        self.labels = tuple(member.label for member in self.members)
        self.first = first_reward(self.members)
        self._calls = []
        for member in self.members:
            function = functions.find_reward(member.name)
            _check_options(member, function)
            self._calls.append((function, functions.filled_in(function)))
        if functions.RIGHT in functions.filled_in(functions.find_reward(self.first.name)):
            raise ValueError(
                f"Reward {self.first.label!r} reads whether a sample is right, which the rewards "
                f"before it say: put one there ({FIELD})."
            )

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights of the members that are trained on."""
        return tuple(member.weight for member in self.members if member.counts)

    @property
    def constraints(self) -> tuple[str, ...]:
        """The labels of the members that are constraints."""
        return tuple(member.label for member in self.members if member.constraint)

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
            RuntimeError: the environment of the sample's episode failed.
            ValueError: a reward returns no number, or one too large for float32 statistics; or
                their weighted sum is too large.
        """
        if episode is not None and episode["error"]:
            raise RuntimeError(episode["error"])  # the environment's: the sample has failed
        values: list[Value] = []
        said: list[str] = []
        for member, (function, names) in zip(self.members, self._calls, strict=True):
            if not member.applies_to(reference):
                values.append(None)
                continue
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
        counted = self._counted(values)
        if all(value is None for value in counted):
            return None
        pairs = zip(self.weights, counted, strict=True)
        return sum(weight * value for weight, value in pairs if value is not None)

    def components(self, values: Sequence[Value]) -> list[float]:
        """Returns what each member that is trained on adds, before its weight."""
        return [0.0 if value is None else value for value in self._counted(values)]

    def applying(self, values: Sequence[Value]) -> list[bool]:
        """Returns which members that are trained on have a say."""
        return [value is not None for value in self._counted(values)]

    def _counted(self, values: Sequence[Value]) -> list[Value]:
        """What each member that is trained on counts as; None where it does not apply."""
        by_label = dict(zip(self.labels, values, strict=True))
        known = {member.label: member for member in self.members}
        return [
            self._counts_as(member, by_label, [known[label] for label in member.gates])
            for member in self.members
            if member.counts
        ]

    def _counts_as(
        self, member: RewardSpec, by_label: Mapping[str, Value], gates: Sequence[RewardSpec]
    ) -> Value:
        value = by_label[member.label]
        if value is None or any(by_label[gate.label] is None for gate in gates):
            return None
        opened = all(reaches(by_label[gate.label], gate.right_at) for gate in gates)
        return member.counted(value) if opened else 0.0

    def satisfies(self, values: Sequence[Value]) -> bool:
        """Whether every constraint that applies reaches its `right_at`."""
        return all(
            reaches(value, member.right_at)
            for member, value in zip(self.members, values, strict=True)
            if member.constraint and value is not None
        )

    def is_right(self, values: Sequence[Value]) -> bool:
        """Whether the first member that applies says so."""
        return bool(self._said_right(values))

    def _said_right(self, values: Sequence[Value]) -> bool | None:
        """What the first of some members that applies says; None where none does."""
        for member, value in zip(self.members, values, strict=False):
            if value is not None and member.counts:
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
                "threshold": member.threshold,
                "clip": member.clip,
                "gate": ",".join(member.gates),
                "where": member.where,
                "constraint": member.constraint,
                "heldout_of": member.heldout_of,
                "right_at": member.right_at,
            }
            for member in self.members
        ]


def first_reward(members: Sequence[RewardSpec]) -> RewardSpec:
    """The first member that is trained on: it judges where it applies."""
    return next(member for member in members if member.counts)


def right_score(spec: Iterable[Any]) -> float:
    """The score of a sample that is just right by the first reward alone: weight * right_at."""
    first = first_reward(parse_rewards(spec))
    return first.weight * first.right_at if first.weight > 0 else first.right_at


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
