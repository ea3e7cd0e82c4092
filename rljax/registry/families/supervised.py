"""Learning from demonstrations: their likelihood."""

from rljax.objectives.aggregation import AGGREGATIONS
from rljax.registry.families.description import Family, Reads
from rljax.registry.families.shared import (
    AGGREGATION_DOCS,
    AGGREGATION_LIMITS,
    LIKELIHOOD_DOCS,
    LIKELIHOODS,
)

# A conversation of a file may have several answers.
_OF_FILES = Reads(data={"learn": "last"})

SUPERVISED = Family(
    name="supervised",
    data="demonstrations (prompt, completion)",
    online=False,
    choices={"aggregation": AGGREGATIONS, "likelihood": LIKELIHOODS},
    defaults={"aggregation": "token_mean", "likelihood": "autoregressive"},
    docs=AGGREGATION_DOCS | LIKELIHOOD_DOCS,
    limits=AGGREGATION_LIMITS,
    reads=Reads(
        batch={"sequences_per_update": 32, "sequences_per_micro_batch": 0},
        data={"source": "problems", "path": "", "limit": 0, "row_tokens": 256, "packed": True},
    ),
    sources={
        "problems": Reads(data={"worked_share": None}),
        "jsonl": _OF_FILES,
        "parquet": _OF_FILES,
    },
    completion_slots=(),
    row_slots="data.row_tokens",
)
