"""The families of methods: what they choose from and which fields they have."""

import dataclasses
from collections.abc import Callable, Mapping

from rljax.objectives.advantages import ADVANTAGES
from rljax.objectives.aggregation import AGGREGATIONS
from rljax.objectives.batch_inputs import TOKEN_WEIGHTS
from rljax.objectives.corrections import CORRECTIONS, REJECTIONS
from rljax.objectives.credit import SEGMENTATIONS
from rljax.objectives.credit.tree import edge_advantages
from rljax.objectives.evidence import BOUNDS, evidence_advantages, evidence_loss
from rljax.objectives.evolution import FITNESS, low_rank_noise
from rljax.objectives.kl_controllers import KL_CONTROLLERS
from rljax.objectives.parts import Field, fields_of
from rljax.objectives.preference import LINKS, SCORES
from rljax.objectives.ratios import RATIOS
from rljax.objectives.reward_models import REWARD_LOSSES
from rljax.objectives.reward_shaping import REWARD_SHAPINGS
from rljax.objectives.selections import GROUP_FILTERS, SELECTIONS
from rljax.objectives.surrogates import SURROGATES
from rljax.objectives.temperatures import TEMPERATURES
from rljax.objectives.values import VALUE_TARGETS


@dataclasses.dataclass(frozen=True)
class Family:
    """Methods that share a loss function and a kind of data.

    Attributes:
        data: what a stage of this family reads, in words.
        choices: part name -> its table, option -> function (None: there is nothing to call).
        fields: option-independent fields, and those of options that are no functions:
            {"": {...}, "kl_placement=loss": {...}}.
        defaults: the option taken where neither method nor config names one.
        heads: those of the networks that it trains (models/config.py).
        causal: whether tokens see only what is before them, in the networks that it trains.
    """

    data: str
    choices: Mapping[str, Mapping[str, Callable | None]]
    fields: Mapping[str, Mapping[str, Field]]
    defaults: Mapping[str, str] = dataclasses.field(default_factory=dict)
    heads: tuple[str, ...] = ("language_model",)
    causal: tuple[bool, ...] = (True,)


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

_POLICY_GRADIENT = Family(
    data="prompts with a verifier",
    choices={
        "rollouts": {"whole": None, "windows": None, "tree": None},
        "sampling_temperature": TEMPERATURES,
        "reward_shaping": REWARD_SHAPINGS,
        "group_filter": GROUP_FILTERS,
        "segmentation": SEGMENTATIONS,
        "advantage": ADVANTAGES,
        "value_target": {"none": None, **VALUE_TARGETS},
        "ratio": RATIOS,
        "denominator": {"old": None, "behavior": None},
        "surrogate": SURROGATES,
        "token_weight": TOKEN_WEIGHTS,
        "correction": CORRECTIONS,
        "rejection": REJECTIONS,
        "selection": SELECTIONS,
        "aggregation": AGGREGATIONS,
        "kl_placement": {"none": None, "loss": None, "reward": None},
        "kl_controller": KL_CONTROLLERS,
        "demonstrations": {"none": None, "switch": None, "in_group": None},
    },
    fields={
        "": {
            "entropy_weight": Field(0.0, float),
            "advantage_sign": Field("both", str),
            "likelihood_weight": Field(0.0, float),
        },
        **{
            f"group_filter={option}": {"filter_rounds": Field(10, int)}
            for option in GROUP_FILTERS
            if option != "none"
        },
        "kl_controller=adaptive": {"kl_unit": Field("sequence_sum", str)},
        "demonstrations=switch": {
            "switch_threshold": Field(0.0, float),
            "supervised_weight": Field(1.0, float),
        },
        "demonstrations=in_group": {"shaping": Field(0.1, float)},
        "advantage=segment_difference": {
            "value_samples": Field(9, int),
            "cut_limit": Field(8, int),
            "fill_values": Field(False, bool),
            "unfinished_score": Field(0.0, float),
        },
        "rollouts=windows": {"window_tokens": Field(32, int)},
        "rollouts=tree": {
            "branching": Field((6, 6, 6), tuple),
            "segment_tokens": Field(30, int),
            **fields_of(edge_advantages),
        },
        "surrogate=lp_reg": {"proxy_threshold": Field(0.02, float)},
        **_KL,
    },
    defaults={
        "rollouts": "whole",
        "sampling_temperature": "constant",
        "reward_shaping": "none",
        "value_target": "none",
        "group_filter": "none",
        "segmentation": "none",
        "denominator": "old",
        "token_weight": "none",
        "correction": "none",
        "rejection": "none",
        "selection": "none",
        "aggregation": "token_mean",
        "kl_placement": "none",
        "kl_controller": "fixed",
        "demonstrations": "none",
    },
)

FAMILIES: dict[str, Family] = {
    "supervised": Family(
        data="demonstrations (prompt, completion)",
        choices={"aggregation": AGGREGATIONS},
        fields={},
        defaults={"aggregation": "token_mean"},
    ),
    "policy_gradient": _POLICY_GRADIENT,
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
    "evolution": Family(
        data="prompts with a verifier; no gradient",
        choices={"fitness": FITNESS},
        fields={
            "": {
                **fields_of(low_rank_noise, leave_out=("dtype",)),
                "noise_reuse": Field(1, int),
                "freeze_vectors": Field(True, bool),
                "modules": Field(None, tuple),
                "prompts_per_member": Field(1, int),
            }
        },
        defaults={"fitness": "group_mean"},
    ),
    "reward": Family(
        data="pairs (prompt, chosen, rejected); a network with a reward head",
        choices={"reward_loss": REWARD_LOSSES},
        fields={},
        heads=("reward",),
    ),
}

# Families whose stages sample their training data anew in every step.
ONLINE_FAMILIES = ("policy_gradient", "evidence", "evolution")
