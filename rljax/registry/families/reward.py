"""Learning what is good from pairs: a network with a reward head scores completions."""

from rljax.objectives.reward_models import REWARD_LOSSES
from rljax.registry.families.description import Family, Reads, Together
from rljax.registry.families.shared import FEEDBACK_FILE

REWARD = Family(
    name="reward",
    data="pairs (prompt, chosen, rejected); a network with a reward head",
    online=False,
    choices={"reward_loss": REWARD_LOSSES},
    docs={"reward_loss": "scores of a pair to loss (objectives/reward_models.py)"},
    reads=Reads(
        batch={
            "sequences_per_update": 32,
            "sequences_per_micro_batch": 0,
            "share_prompts": None,
        },
        data={"source": "jsonl", "path": "", "heldout_path": "", "max_completion_tokens": 64},
    ),
    sources={"jsonl": FEEDBACK_FILE, "parquet": FEEDBACK_FILE},
    together=Together(in_batch=2, in_row=2, reason="a pair is two sequences"),
    completion_slots=("data.max_completion_tokens",),
    heads=("reward",),
)
