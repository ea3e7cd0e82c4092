"""Learning from preferences: pairs, two groups, or rated completions of each prompt."""

from rljax.objectives.curricula import OF_SAMPLES
from rljax.objectives.parts import Field
from rljax.objectives.preference import (
    CHOSEN_NLL,
    GROUP_ESTIMATORS,
    LINKS,
    MATCHED,
    PAIR_WEIGHTS,
    RATED_LINKS,
    SCORES,
)
from rljax.registry.families.description import Family, Reads, Together
from rljax.registry.families.limits import COUNT, NOT_NEGATIVE, POSITIVE, SHARE, Limit
from rljax.registry.families.shared import (
    LIKELIHOOD_DOCS,
    LIKELIHOOD_FIELDS,
    LIKELIHOOD_LIMITS,
    LIKELIHOODS,
    PAIRS,
    REFERENCED_FILE,
    ROUND_CURRICULUM_DOC,
    SAMPLED_ROUNDS,
)

# A stage that samples its own pairs, and ranks them by a rule.
_SAMPLED_PAIRS = SAMPLED_ROUNDS | Reads(
    data={"pair_rule": "first_right_first_wrong", "pair_margin": 0.0, "pairs_most": 4}
)

# Choices whose rows are no pairs: up to `samples_per_prompt` completions of a prompt.
_SEVERAL = (
    *(f"group_estimator={name}" for name, part in GROUP_ESTIMATORS.items() if part is not None),
    *(f"link={name}" for name in RATED_LINKS),
)

PREFERENCE = Family(
    name="preference",
    data="pairs, groups or ratings of completions",
    online=False,
    choices={
        "curriculum": {"in_turn": None, **OF_SAMPLES},
        "score": SCORES,
        "link": {**LINKS, **RATED_LINKS},
        "second_link": {"none": None, **LINKS},
        "group_estimator": GROUP_ESTIMATORS,
        "chosen_nll": CHOSEN_NLL,
        "pair_weight": PAIR_WEIGHTS,
        # Training has the function (training/update/moving_copy.py).
        "reference_update": {"none": None, "moving": None},
        "likelihood": LIKELIHOODS,
    },
    defaults={
        "curriculum": "in_turn",
        "score": "log_ratio",
        "second_link": "none",
        "group_estimator": "none",
        "chosen_nll": "none",
        "pair_weight": "none",
        "reference_update": "none",
        "likelihood": "autoregressive",
    },
    fields={
        "": {"link_weight": Field(1.0, float)},
        **LIKELIHOOD_FIELDS,
        "reference_update=moving": {
            "reference_update_steps": Field(512, int),
            "reference_mixup": Field(0.6, float),
        },
        **{f"second_link={link}": {"second_weight": Field(1.0, float)} for link in LINKS},
    },
    batch_inputs=MATCHED,
    docs={
        "curriculum": ROUND_CURRICULUM_DOC,
        "score": "what is known of a side to its score (objectives/preference/scores.py)",
        "link": "scores of the sides, or their margin, to loss (objectives/preference/)",
        "second_link": "another link of the same scores, which is added (the same)",
        "group_estimator": "how two groups are compared; none: pairs (group_estimators.py)",
        "chosen_nll": "likelihood of the chosen side, which is added (preference/extras.py)",
        "pair_weight": "constant factor of the links of a pair (objectives/preference/extras.py)",
        "reference_update": "moving: the reference follows the policy (TR-DPO); it is saved with "
        "the state (training/update/moving_copy.py)",
        "reference_update_steps": "updates between two moves of the reference",
        "reference_mixup": "share of the policy in a move; 1: the reference becomes the policy",
        "link_weight": "factor of the link",
        "second_weight": "factor of the second link",
        **LIKELIHOOD_DOCS,
        "beta": "inverse temperature of the preference model, factor of the margin",
        "label_smoothing": "assumed share of flipped labels, in [0, 0.5)",
    },
    limits={
        **LIKELIHOOD_LIMITS,
        "beta": POSITIVE,
        "label_smoothing": Limit(lambda x: 0 <= x < 0.5, "in [0, 0.5)"),
        "link_weight": POSITIVE,
        "reference_update_steps": COUNT,
        "reference_mixup": Limit(lambda x: 0 < x <= 1, "in (0, 1]"),
        "second_weight": NOT_NEGATIVE,
        "nll_weight": NOT_NEGATIVE,
        "tail_weight": SHARE,
        "largest_reward": POSITIVE,
        "blend_temperature": POSITIVE,
    },
    reads=PAIRS,
    adds={option: Reads(batch={"samples_per_prompt": 4}) for option in _SEVERAL},
    sources={"jsonl": REFERENCED_FILE, "parquet": REFERENCED_FILE, "sampled_pairs": _SAMPLED_PAIRS},
    together=Together(in_batch=2, in_row=2, reason="a pair is two sequences"),
    togethers={
        option: Together(None, None, "the completions of a prompt are compared")
        for option in _SEVERAL
    },
    completion_slots=("data.max_completion_tokens",),
    causal=(True, False),
    checks=("sampled_rounds", "order", "preference", "reference_is_there"),
)
