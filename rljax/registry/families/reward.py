"""Learning what is good from feedback: a network with a reward head scores completions."""

from rljax.objectives.reward_models import REWARD_LOSSES
from rljax.registry.families.description import Family, Reads, Together
from rljax.registry.families.limits import NOT_NEGATIVE, POSITIVE
from rljax.registry.families.shared import FEEDBACK_FILE

# Losses of rows with K completions; a row of a file may have fewer.
_SCORED = ("regression", "all_pairs", "plackett_luce")

REWARD = Family(
    name="reward",
    data="pairs, labelled or scored completions; a network with a reward head",
    online=False,
    choices={"reward_loss": REWARD_LOSSES},
    docs={"reward_loss": "scores of a prompt's completions to loss (objectives/reward_models/)"},
    limits={"positive_weight": POSITIVE, "margin_scale": NOT_NEGATIVE},
    reads=Reads(
        batch={
            "sequences_per_update": 32,
            "sequences_per_micro_batch": 0,
            "share_prompts": None,
        },
        data={"source": "jsonl", "path": "", "heldout_path": "", "max_completion_tokens": 64},
    ),
    sources={"jsonl": FEEDBACK_FILE, "parquet": FEEDBACK_FILE},
    adds={f"reward_loss={loss}": Reads(batch={"samples_per_prompt": 4}) for loss in _SCORED},
    together=Together(in_batch=2, in_row=2, reason="a pair is two sequences"),
    togethers={
        "reward_loss=binary": Together(),
        **{
            f"reward_loss={loss}": Together(None, None, "the completions of a row are compared")
            for loss in _SCORED
        },
    },
    completion_slots=("data.max_completion_tokens",),
    heads=("reward",),
)
