"""Learning from demonstrations: their likelihood, token by token, near the reference or not."""

from rljax.objectives.aggregation import AGGREGATIONS
from rljax.objectives.divergences import DIVERGENCES
from rljax.objectives.supervised import TOKEN_LOSSES, TOKEN_WEIGHTS, anchor_loss
from rljax.registry.families.description import Family, Reads
from rljax.registry.families.shared import (
    AGGREGATION_DOCS,
    AGGREGATION_LIMITS,
    CONTEXT_ROOM,
    FEEDBACK_FILE,
    LIKELIHOOD_DOCS,
    LIKELIHOOD_FIELDS,
    LIKELIHOOD_LIMITS,
    LIKELIHOODS,
    SAMPLING,
)

# A conversation of a file may have several answers, an answer may have labelled steps: the marker
# is the default of data/step_examples.py.
_OF_FILES = FEEDBACK_FILE | Reads(
    data={
        "learn": "last",
        "error_phrases": (),
        "answer_rank": 0.0,
        "unsure_marker": "Unsure from Here",
        "balance_column": "",
        "weight_column": "",
    }
)

# Samples of the policy that the stage starts from, drawn and verified once, before it begins.
_SAMPLED = Reads(
    batch={"samples_per_prompt": 8},
    sampling=SAMPLING,
    data={"sampled_prompts": 256, "keep": "right", "keep_most": 4, "hint_pattern": ""},
)
_SAMPLED |= CONTEXT_ROOM

SUPERVISED = Family(
    name="supervised",
    data="demonstrations (prompt, completion)",
    online=False,
    choices={
        "token_loss": TOKEN_LOSSES,
        "token_weight": TOKEN_WEIGHTS,
        "anchor": {"none": None, **DIVERGENCES},
        "aggregation": AGGREGATIONS,
        "likelihood": LIKELIHOODS,
    },
    defaults={
        "token_loss": "nll",
        "token_weight": "none",
        "anchor": "none",
        "aggregation": "token_mean",
        "likelihood": "autoregressive",
    },
    fields=LIKELIHOOD_FIELDS,
    functions={f"anchor={name}": {"anchor_loss": anchor_loss} for name in DIVERGENCES},
    docs={
        "token_loss": "loss of a demonstrated token (objectives/supervised.py)",
        "token_weight": "none, or key_tokens: what decides a tool call weighs more; of files with "
        "the columns completion and tool_names (objectives/supervised.py)",
        "anchor": "none, or the divergence from the reference that is added, over the whole "
        "vocabulary (objectives/divergences.py)",
        **AGGREGATION_DOCS,
        **LIKELIHOOD_DOCS,
    },
    limits={**AGGREGATION_LIMITS, **LIKELIHOOD_LIMITS},
    reads=Reads(
        batch={"sequences_per_update": 32, "sequences_per_micro_batch": 0},
        data={"source": "problems", "path": "", "limit": 0, "row_tokens": 256, "packed": True},
    ),
    # A canvas is filled to its end, one demonstration in a row.
    adds={"likelihood=elbo": Reads(data={"packed": False, "canvas_tokens": 0})},
    causal=(True, False),
    sources={
        "problems": Reads(data={"worked_share": None}),
        "jsonl": _OF_FILES,
        "parquet": _OF_FILES,
        "sampled": _SAMPLED,
    },
    completion_slots=(),
    row_slots="data.row_tokens",
    episodes=True,
    checks=("tools_of_files", "hints", "marker_is_written", "phrases_are_read"),
)
