"""The method table: a method is a row of parts, not a class.

To add one: write the part that is new (a function in a table of `rljax/objectives/`, its
keyword-only arguments are its config fields) and add a row below. `python launch/methods.py` prints
the table; a config picks a row with `config.<stage>.method` and may change any part or field of it
with `config.<stage>.objective`.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from rljax.errors import unknown_name
from rljax.objectives.advantages import ADVANTAGES, BASELINE_UPDATES
from rljax.objectives.aggregation import AGGREGATIONS
from rljax.objectives.evidence import BOUNDS, NORM_SCOPES, evidence_advantages, evidence_loss
from rljax.objectives.kl import KL_ESTIMATORS
from rljax.objectives.parts import Field, fields_of
from rljax.objectives.preference import LINKS, SCORES
from rljax.objectives.ratios import RATIOS
from rljax.objectives.surrogates import SURROGATES


@dataclasses.dataclass(frozen=True)
class Family:
    """Methods that share a loss function and a kind of data.

    Attributes:
        data: what a stage of this family reads, in words.
        choices: part name -> its table, option -> function (None: there is nothing to call).
        fields: option-independent fields, and those of options that are no functions:
            {"": {...}, "kl_placement=loss": {...}}.
        defaults: the option taken where neither method nor config names one.
    """

    data: str
    choices: Mapping[str, Mapping[str, Callable | None]]
    fields: Mapping[str, Mapping[str, Field]]
    defaults: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Method:
    """One row: options and field values, and where they come from."""

    name: str
    family: str
    paper: str
    summary: str
    parts: Mapping[str, Any]


_KL = {
    "kl_placement=loss": {
        "kl_estimator": Field("k3_plus", str),
        "kl_weight": Field(0.0, float),
        "kl_importance_weighted": Field(False, bool),
    },
    "kl_placement=reward": {
        "kl_estimator": Field("k1", str),
        "kl_weight": Field(0.0, float),
    },
}

FAMILIES: dict[str, Family] = {
    "supervised": Family(
        data="demonstrations (prompt, completion)",
        choices={"aggregation": AGGREGATIONS},
        fields={},
        defaults={"aggregation": "token_mean"},
    ),
    "policy_gradient": Family(
        data="prompts with a verifier",
        choices={
            "advantage": ADVANTAGES,
            "ratio": RATIOS,
            "surrogate": SURROGATES,
            "aggregation": AGGREGATIONS,
            "kl_placement": {"none": None, "loss": None, "reward": None},
        },
        fields={"": {"entropy_weight": Field(0.0, float)}, **_KL},
        defaults={"aggregation": "token_mean", "kl_placement": "none"},
    ),
    "preference": Family(
        data="pairs (prompt, chosen, rejected)",
        choices={"score": SCORES, "link": LINKS},
        fields={},
        defaults={"score": "log_ratio"},
    ),
    "evidence": Family(
        data="prompts with a reference answer, no verifier",
        choices={"bound": BOUNDS, "kl_placement": {"none": None, "loss": None}},
        fields={
            "": {
                "answer_phrase": Field("<answer>", str),
                "answer_end": Field("</answer>", str),
                **fields_of(evidence_advantages, leave_out=("bound",)),
                **fields_of(evidence_loss, leave_out=("bound", "kl", "kl_weight")),
            },
            "kl_placement=loss": {
                "kl_estimator": Field("k3_plus", str),
                "kl_weight": Field(1e-3, float),
            },
        },
        defaults={"kl_placement": "none"},
    ),
}

FIELD_DOCS: dict[str, str] = {
    "advantage": "how rewards become advantages (objectives/advantages.py)",
    "ratio": "policy in the denominator of the importance ratio (objectives/ratios.py)",
    "surrogate": "ratio and advantage to per-token loss (objectives/surrogates.py)",
    "aggregation": "per-token losses to one number (objectives/aggregation.py)",
    "kl_placement": "where a KL to the stage's start enters: none, loss, reward",
    "kl_estimator": "k1, k2, k3, k1_plus, k3_plus (objectives/kl.py)",
    "kl_weight": "factor of the KL term; 0 needs no reference policy",
    "kl_importance_weighted": "multiply the KL term by the ratio, for several updates per step",
    "entropy_weight": "factor of the entropy bonus",
    "advantage_epsilon": "added to the deviation that advantages are divided by",
    "ema_decay": "weight of the past in the moving average of rewards",
    "clip_low": "clip width below a ratio of 1",
    "clip_high": "clip width above a ratio of 1",
    "dual_clip": "cap on the ratio where the advantage is negative",
    "aggregation_length": "tokens that sequence_mean_token_scale divides by; default: T",
    "score": "log-probabilities to the score of a side (objectives/preference.py)",
    "link": "margin of scores to loss (objectives/preference.py)",
    "beta": "inverse temperature of the preference model, factor of the margin",
    "label_smoothing": "assumed share of flipped labels, in [0, 0.5)",
    "bound": "lower bound on the answer's log-likelihood (objectives/evidence.py)",
    "answer_phrase": "ends the chain of thought; the reference answer is appended after it",
    "answer_end": "text between the reference answer and eos",
    "norm_scope": "deviation of the advantages over the batch or over each group",
    "advantage_clip": "bound on the normalised advantages",
    "format_penalty": "lost by a sample without the answer phrase",
    "supervised_weight": "factor of the answer's own likelihood term",
}

# Allowed values of fields that are numbers or a choice, besides their type.
_LIMITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "clip_low": (lambda x: x >= 0, ">= 0"),
    "clip_high": (lambda x: x >= 0, ">= 0"),
    "dual_clip": (lambda x: x > 1, "> 1"),
    "kl_weight": (lambda x: x >= 0, ">= 0"),
    "ema_decay": (lambda x: 0 <= x <= 1, "in [0, 1]"),
    "advantage_epsilon": (lambda x: x >= 0, ">= 0"),
    "advantage_clip": (lambda x: x > 0, "> 0"),
    "aggregation_length": (lambda x: x > 0, "a positive number of tokens"),
    "beta": (lambda x: x > 0, "> 0"),
    "label_smoothing": (lambda x: 0 <= x < 0.5, "in [0, 0.5)"),
    "supervised_weight": (lambda x: x >= 0, ">= 0"),
    "format_penalty": (lambda x: x >= 0, ">= 0"),
    "norm_scope": (lambda x: x in NORM_SCOPES, f"one of {', '.join(map(repr, NORM_SCOPES))}"),
    "answer_phrase": (bool, "a text that is not empty"),
}

# Families whose stages sample their training data anew in every step.
ONLINE_FAMILIES = ("policy_gradient", "evidence")

_ON_POLICY = dict(ratio="none", surrogate="policy_gradient", aggregation="sequence_mean_token_sum")
_CLIPPED = dict(ratio="token", surrogate="clipped")

_ROWS = (
    Method("sft", "supervised", "-", "negative log-likelihood of demonstrations", {}),
    Method(
        "reinforce",
        "policy_gradient",
        "Williams 1992",
        "reward minus a moving average of earlier batches",
        dict(advantage="ema", **_ON_POLICY),
    ),
    Method(
        "rloo",
        "policy_gradient",
        "arXiv:2402.14740",
        "leave-one-out baseline within the group",
        dict(advantage="group_leave_one_out", **_ON_POLICY),
    ),
    Method(
        "grpo",
        "policy_gradient",
        "arXiv:2402.03300",
        "group z-score, clipped token ratio, mean over sequences of token means, KL in the loss",
        dict(
            advantage="group_zscore",
            aggregation="sequence_mean_token_mean",
            kl_placement="loss",
            kl_estimator="k3",
            kl_weight=0.04,
            **_CLIPPED,
        ),
    ),
    Method(
        "dr_grpo",
        "policy_gradient",
        "arXiv:2503.20783",
        "no division by the group's deviation nor by the length, no KL",
        dict(advantage="group_mean", aggregation="sequence_mean_token_scale", **_CLIPPED),
    ),
    Method(
        "dapo",
        "policy_gradient",
        "arXiv:2503.14476",
        "the loss of DAPO: clip-higher, mean over all tokens, no KL",
        dict(advantage="group_zscore", aggregation="token_mean", clip_high=0.28, **_CLIPPED),
    ),
    Method(
        "dpo",
        "preference",
        "arXiv:2305.18290",
        "logistic loss on the margin of log-ratios to the reference",
        dict(score="log_ratio", link="logistic", beta=0.1),
    ),
    Method(
        "jepo_single",
        "evidence",
        "arXiv:2503.19618",
        "Jensen's bound: mean log-likelihood of the reference answer",
        dict(bound="single_sample", kl_placement="loss"),
    ),
    Method(
        "jepo",
        "evidence",
        "arXiv:2503.19618",
        "the n-sample bound: log of the mean likelihood of the reference answer",
        dict(bound="multi_sample", kl_placement="loss"),
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in _ROWS}


@dataclasses.dataclass(frozen=True)
class Objective:
    """A resolved method: every choice made, every field that they read has a value."""

    method: Method
    family: str
    choices: Mapping[str, str]
    values: Mapping[str, Any]

    def part(self, choice: str) -> Callable:
        """The chosen function with its fields bound."""
        function = FAMILIES[self.family].choices[choice][self.choices[choice]]
        fields = {name: self.values[name] for name in fields_of(function)}
        return functools.partial(function, **fields)

    @property
    def kl(self) -> Callable | None:
        """The KL estimator, or None without a KL term: a weight of 0 costs nothing."""
        weight = self.values.get("kl_weight", 0.0)
        return KL_ESTIMATORS[self.values["kl_estimator"]] if weight else None

    @property
    def needs_reference(self) -> bool:
        """Whether the frozen reference policy enters the loss or the reward."""
        return self.family == "preference" or self.kl is not None

    def as_dict(self) -> dict[str, Any]:
        """Choices and values, as saved with the resolved config."""
        return {**self.choices, **self.values}


def objective_fields(family: str) -> dict[str, Field]:
    """Every choice and field that some option of the family reads."""
    description = FAMILIES[family]
    fields = {choice: Field(None, str) for choice in description.choices}
    for table in description.choices.values():
        for function in table.values():
            fields |= {} if function is None else fields_of(function)
    for group in description.fields.values():
        fields |= group
    fields |= {} if family != "policy_gradient" else _baseline_fields(None)
    return fields


def _baseline_fields(advantage: str | None) -> dict[str, Field]:
    """Fields of the baseline's update: of one advantage, or (None) of all."""
    chosen = BASELINE_UPDATES if advantage is None else {advantage: BASELINE_UPDATES.get(advantage)}
    fields: dict[str, Field] = {}
    for function in chosen.values():
        fields |= {} if function is None else fields_of(function)
    return fields


def read_fields(family: str, choices: Mapping[str, str]) -> dict[str, Field]:
    """The fields that these choices read."""
    description = FAMILIES[family]
    fields = dict(description.fields.get("", {}))
    for choice, option in choices.items():
        function = description.choices[choice][option]
        fields |= {} if function is None else fields_of(function)
        fields |= description.fields.get(f"{choice}={option}", {})
    return fields | _baseline_fields(choices.get("advantage", ""))


def resolve_objective(
    method: str, overrides: Mapping[str, Any], where: str = "config"
) -> Objective:
    """A method's row with the config's changes.

    Args:
        method: a name in `METHODS`.
        overrides: choices and fields that the config sets; None values count as not set.
        where: path of the stage in the config, for errors.

    Raises:
        ValueError: unknown method, option or field; a field that the chosen parts never read.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS, f"{where}.method")
    row = METHODS[method]
    description = FAMILIES[row.family]
    overrides = {name: value for name, value in overrides.items() if value is not None}
    known = objective_fields(row.family)
    for name in overrides:
        if name not in known:
            raise unknown_name(
                f"field of the {row.family} family", name, known, f"{where}.objective"
            )
    choices = {}
    for choice, table in description.choices.items():
        option = overrides.get(choice, row.parts.get(choice, description.defaults.get(choice)))
        if option not in table:
            raise unknown_name(choice, option, table, f"{where}.objective.{choice}")
        choices[choice] = option
    read = read_fields(row.family, choices)
    unread = sorted(set(overrides) - set(choices) - set(read))
    if unread:
        raise ValueError(
            f"{where}.objective.{unread[0]}={overrides[unread[0]]!r} is never read with "
            f"{', '.join(f'{c}={o!r}' for c, o in choices.items())}; fields that are: "
            f"{', '.join(sorted(read)) or 'none'} ({where}.objective)."
        )
    preset = {name: field.default for name, field in read.items()} | {
        name: value for name, value in row.parts.items() if name in read
    }
    values = preset | {name: value for name, value in overrides.items() if name in read}
    if values.get("kl_estimator", "k1") not in KL_ESTIMATORS:
        name = values["kl_estimator"]
        raise unknown_name("kl_estimator", name, KL_ESTIMATORS, f"{where}.objective.kl_estimator")
    for name, value in values.items():
        fits, allowed = _LIMITS.get(name, (lambda _: True, "a finite number"))
        finite = not isinstance(value, float) or math.isfinite(value)
        if value is not None and not (finite and fits(value)):
            raise ValueError(f"{name} must be {allowed}, got {value!r} ({where}.objective.{name}).")
    return Objective(row, row.family, choices, values)


def method_table() -> list[dict[str, str]]:
    """The rows as text: method, family, parts, data, reference policy, paper."""
    rows = []
    for method in METHODS.values():
        objective = resolve_objective(method.name, {})
        parts = {
            **objective.choices,
            **{k: v for k, v in method.parts.items() if k in objective.values},
        }
        rows.append(
            {
                "method": method.name,
                "family": method.family,
                "parts": ", ".join(f"{name}={value}" for name, value in parts.items()),
                "reads": FAMILIES[method.family].data,
                "reference policy": "yes" if objective.needs_reference else "no",
                "paper": method.paper,
            }
        )
    return rows
