"""Learning from pairs: a chosen and a rejected completion of each prompt."""

from rljax.objectives.preference import LINKS, SCORES
from rljax.registry.families.description import Family, Reads, Together
from rljax.registry.families.limits import POSITIVE, Limit
from rljax.registry.families.shared import (
    FEEDBACK_FILE,
    LIKELIHOOD_DOCS,
    LIKELIHOODS,
    SAMPLING,
)

# A stage that samples and ranks its own pairs, once, before it begins.
_SAMPLED_PAIRS = Reads(
    batch={"samples_per_prompt": 8},
    sampling=SAMPLING,
    data={"pair_prompts": 256, "placeholder_pairs": False},
)

# A file stays the same, and so does what a frozen reference says of it.
_PAIRS_FILE = FEEDBACK_FILE | Reads(data={"reference_cache": ""})

PREFERENCE = Family(
    name="preference",
    data="pairs (prompt, chosen, rejected)",
    online=False,
    choices={"score": SCORES, "link": LINKS, "likelihood": LIKELIHOODS},
    defaults={"score": "log_ratio", "likelihood": "autoregressive"},
    docs={
        "score": "what is known of a side to its score (objectives/preference.py)",
        "link": "scores of the sides, or their margin, to loss (objectives/preference.py)",
        **LIKELIHOOD_DOCS,
        "beta": "inverse temperature of the preference model, factor of the margin",
        "label_smoothing": "assumed share of flipped labels, in [0, 0.5)",
    },
    limits={
        "beta": POSITIVE,
        "label_smoothing": Limit(lambda x: 0 <= x < 0.5, "in [0, 0.5)"),
    },
    reads=Reads(
        batch={
            "sequences_per_update": 32,
            "sequences_per_micro_batch": 0,
            "share_prompts": None,
        },
        data={"source": "jsonl", "path": "", "heldout_path": "", "max_completion_tokens": 64},
    ),
    sources={"jsonl": _PAIRS_FILE, "parquet": _PAIRS_FILE, "sampled_pairs": _SAMPLED_PAIRS},
    together=Together(in_batch=2, in_row=2, reason="a pair is two sequences"),
    completion_slots=("data.max_completion_tokens",),
    checks=("samples_fit_pairs", "reference_is_there"),
)
