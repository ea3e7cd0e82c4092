"""Learning what is good from feedback: a network with a reward head scores completions."""

from rljax.objectives.parts import Field
from rljax.objectives.reward_models import (
    REPRESENTATIONS,
    REWARD_LOSSES,
    goal_similarities,
    length_discrepancy,
)
from rljax.registry.families.description import Family, Reads, Together
from rljax.registry.families.limits import COUNT, NOT_NEGATIVE, POSITIVE, Limit
from rljax.registry.families.shared import DEFAULT_VERDICTS, FEEDBACK_FILE, PAIRS, QUESTION

# Losses of rows with K completions; a row of a file may have fewer.
_SCORED = ("regression", "all_pairs", "plackett_luce")
_PERCENTILE = Limit(lambda x: 0 <= x < 1, "in [0, 1)")

REWARD = Family(
    name="reward",
    data="feedback",
    online=False,
    choices={"reward_loss": REWARD_LOSSES, "representation": REPRESENTATIONS},
    defaults={"representation": "none"},
    fields={"representation=goal_conditioned": {"goal_samples": Field(16, int)}},
    functions={
        "representation=goal_conditioned": {"goal_similarities": goal_similarities},
        "representation=length_invariance": {"length_discrepancy": length_discrepancy},
    },
    docs={
        "reward_loss": "scores of a prompt's completions to loss (objectives/reward_models/)",
        "representation": "what is asked of a pair's states besides (objectives/reward_models/)",
        "goal_samples": "S, states that are drawn as sources, and as goals, of a side",
    },
    limits={
        "positive_weight": POSITIVE,
        "margin_scale": NOT_NEGATIVE,
        "goal_weight": NOT_NEGATIVE,
        "invariance_weight": NOT_NEGATIVE,
        "invariance_bins": Limit(lambda x: x >= 2, "a whole number >= 2"),
        "goal_samples": COUNT,
        "source_percentile": _PERCENTILE,
        "goal_percentile": _PERCENTILE,
    },
    reads=PAIRS,
    sources={"jsonl": FEEDBACK_FILE, "parquet": FEEDBACK_FILE},
    adds={
        **{f"reward_loss={loss}": Reads(batch={"samples_per_prompt": 4}) for loss in _SCORED},
        "reward_loss=step_binary": Reads(data={"step_separator": "\n"}),
        "reward_loss=verdict": Reads(data={"question": QUESTION, "verdicts": DEFAULT_VERDICTS}),
    },
    together=Together(in_batch=2, in_row=2, reason="a pair is two sequences"),
    togethers={
        **{f"reward_loss={loss}": Together() for loss in ("binary", "step_binary", "verdict")},
        **{
            f"reward_loss={loss}": Together(None, None, "the completions of a row are compared")
            for loss in _SCORED
        },
    },
    completion_slots=("data.max_completion_tokens",),
    heads=("reward",),
    option_heads={"reward_loss=verdict": ("language_model",)},
    causal=(True, False),
    from_the_left={
        "reward_loss=step_binary": "a step is judged by what comes before its end",
        "reward_loss=verdict": "a verdict is the token that comes next",
        "representation=goal_conditioned": "an early state is one of what comes before it",
    },
    checks=("goals_are_of_pairs", "reward_texts_are_there"),
)
