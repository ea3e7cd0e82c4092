"""Learning from completions that are desired or not, without pairs; from their steps, too."""

from rljax.objectives.curricula import OF_SAMPLES
from rljax.objectives.parts import Field
from rljax.objectives.unpaired import STEP_LOSS_REDUCTIONS, UNPAIRED_LINKS
from rljax.registry.families.description import Family, Reads
from rljax.registry.families.limits import NOT_NEGATIVE, POSITIVE, one_of
from rljax.registry.families.shared import (
    LIKELIHOOD_DOCS,
    LIKELIHOOD_FIELDS,
    LIKELIHOOD_LIMITS,
    LIKELIHOODS,
    REFERENCED_FILE,
    ROUND_CURRICULUM_DOC,
    SAMPLED_ROUNDS,
)

# A stage that samples its own completions, and labels them by a rule.
_SAMPLED_LABELS = SAMPLED_ROUNDS | Reads(data={"label_rule": "right", "label_threshold": 0.0})

# Where the reference point of steps comes from; training has the functions.
STEP_BASELINES = ("mismatched", "by_length", "zero")

UNPAIRED = Family(
    name="unpaired",
    data="labelled completions (prompt, completion, label)",
    online=False,
    choices={
        "curriculum": {"in_turn": None, **OF_SAMPLES},
        "link": UNPAIRED_LINKS,
        "likelihood": LIKELIHOODS,
    },
    defaults={"curriculum": "in_turn", "likelihood": "autoregressive"},
    fields={
        "link=step_kto": {
            "first_error_only": Field(False, bool),
            "step_baseline_from": Field("mismatched", str),
        },
        **LIKELIHOOD_FIELDS,
    },
    docs={
        "curriculum": ROUND_CURRICULUM_DOC,
        "link": "log-ratio and label to loss (objectives/unpaired/)",
        "first_error_only": "steps behind the first wrong one have no say: their prefix is wrong",
        "step_baseline_from": "reference point of steps: mismatched (their mean log-ratio behind "
        "other prompts), by_length (the completions' one, by the share of a step's length) or zero",
        **LIKELIHOOD_DOCS,
    },
    limits={
        "beta": POSITIVE,
        "desirable_weight": NOT_NEGATIVE,
        "undesirable_weight": NOT_NEGATIVE,
        "outcome_weight": NOT_NEGATIVE,
        "step_weight": NOT_NEGATIVE,
        "step_reduction": one_of(STEP_LOSS_REDUCTIONS),
        "step_baseline_from": one_of(STEP_BASELINES),
        **LIKELIHOOD_LIMITS,
    },
    reads=Reads(
        batch={"sequences_per_update": 32, "sequences_per_micro_batch": 0},
        data={"source": "jsonl", "path": "", "max_completion_tokens": 64},
    ),
    sources={
        "jsonl": REFERENCED_FILE,
        "parquet": REFERENCED_FILE,
        "sampled_labels": _SAMPLED_LABELS,
    },
    completion_slots=("data.max_completion_tokens",),
    causal=(True, False),
    checks=("sampled_rounds", "order", "mismatched_prompts", "reference_is_there"),
)
