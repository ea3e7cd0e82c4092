"""Learning from completions that are desired or not, without pairs."""

from rljax.objectives.unpaired import UNPAIRED_LINKS
from rljax.registry.families.description import Family, Reads
from rljax.registry.families.limits import NOT_NEGATIVE, POSITIVE
from rljax.registry.families.shared import (
    LIKELIHOOD_DOCS,
    LIKELIHOODS,
    REFERENCED_FILE,
    SAMPLED_ROUNDS,
)

# A stage that samples its own completions, and labels them by a rule.
_SAMPLED_LABELS = SAMPLED_ROUNDS | Reads(data={"label_rule": "right", "label_threshold": 0.0})

UNPAIRED = Family(
    name="unpaired",
    data="labelled completions (prompt, completion, label)",
    online=False,
    choices={"link": UNPAIRED_LINKS, "likelihood": LIKELIHOODS},
    defaults={"likelihood": "autoregressive"},
    docs={"link": "log-ratio and label to loss (objectives/unpaired.py)", **LIKELIHOOD_DOCS},
    limits={
        "beta": POSITIVE,
        "desirable_weight": NOT_NEGATIVE,
        "undesirable_weight": NOT_NEGATIVE,
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
    checks=("sampled_rounds", "mismatched_prompts", "reference_is_there"),
)
