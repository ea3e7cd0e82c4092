"""Fields that belong to no part: what they mean and what they may be.

A part documents its own fields in its docstring and checks them itself.
"""

from collections.abc import Callable
from typing import Any

from rljax.objectives.credit.tree import EDGE_STYLES
from rljax.objectives.evidence import NORM_SCOPES
from rljax.objectives.kl_controllers import KL_UNITS

FIELD_DOCS: dict[str, str] = {
    "fitness": "scores of members to their weights in the update (objectives/evolution.py)",
    "sigma": "standard deviation of the noise in an entry of a parameter",
    "rank": "r of the noise A B^T / sqrt(r) of a matrix",
    "noise_reuse": "updates that keep the same directions; 0: all of them",
    "freeze_vectors": "no noise in scales and biases",
    "modules": "projections with noise: query, key, value, out, gate, up, down; default: all",
    "prompts_per_member": "prompts that a member answers; their mean is its score",
    "rollouts": "whole completions; windows: a bounded number of new tokens a step; tree: branches",
    "reward_shaping": "what is done to scores first (objectives/reward_shaping.py)",
    "group_filter": "groups trained on; others are sampled again (objectives/selections.py)",
    "segmentation": "how a completion is cut into segments (objectives/credit/)",
    "denominator": "old: the policy that the step started from; behavior: as the sampler reported",
    "token_weight": "factor of each token's surrogate (objectives/batch_inputs/)",
    "correction": "for a sampler that is not quite the trainer (objectives/corrections/)",
    "rejection": "tokens and samples whose sampler was too far off (objectives/corrections/)",
    "selection": "which sampled tokens are trained on (objectives/selections.py)",
    "demonstrations": "none; switch: instead of the samples of a prompt that is not solved (HPT); "
    "in_group: one more sample of each prompt (LUFFY)",
    "switch_threshold": "share of right samples up to which a prompt counts as not solved",
    "shaping": "c of p / (p + c), by which demonstrations in the group are weighted",
    "value_target": "what a critic learns (objectives/values.py)",
    "value_samples": "continuations of each state whose value is their mean score (SPO, VinePPO)",
    "cut_limit": "cuts of a completion that are sampled from, at most; the first ones",
    "fill_values": "segments that begin beyond cut_limit have no advantage (VinePPO); else they "
    "belong to the segment before them",
    "unfinished_score": "score of a sample that was cut off, in values of states and segments",
    "branching": "samples of each node, level by level; their product is samples_per_prompt",
    "segment_tokens": "new tokens of a node of the tree; nodes of the last level go to the end",
    "edge_style": "rloo: V(child) - V(node); grpo: divided by the deviation of the children",
    "edge_epsilon": "added to the deviation of edge_style=grpo",
    "window_tokens": "new tokens of a response in one step, at most; it goes on in the next one",
    "filter_rounds": "with group_filter: times that prompts are sampled in a step, at most",
    "advantage_sign": "both, or negative / positive: the other advantages become 0",
    "advantage": "how rewards become advantages (objectives/advantages/)",
    "ratio": "policy in the denominator of the importance ratio (objectives/ratios.py)",
    "surrogate": "ratio and advantage to per-token loss (objectives/surrogates/)",
    "aggregation": "per-token losses to one number (objectives/aggregation.py)",
    "kl_placement": "where a KL to the stage's start enters: none, loss, reward",
    "kl_controller": "fixed, or adaptive: the weight follows the KL that was measured",
    "kl_unit": "of kl_target: sequence_sum or token_mean (objectives/kl_controllers.py)",
    "kl_estimator": "k1, k2, k3, k1_plus, k3_plus (objectives/kl.py)",
    "kl_weight": "factor of the KL term; 0 needs no reference policy",
    "kl_importance_weighted": "multiply the KL term by the ratio, for several updates per step",
    "proxy_threshold": "tokens less likely than this share of the likeliest one are noise",
    "likelihood_weight": "factor of the negative log-likelihood of right samples, mean over tokens",
    "entropy_weight": "factor of the entropy bonus",
    "advantage_epsilon": "added to the deviation that advantages are divided by",
    "ema_decay": "weight of the past in the moving average of rewards",
    "clip_low": "clip width below a ratio of 1",
    "clip_high": "clip width above a ratio of 1",
    "dual_clip": "cap on the ratio where the advantage is negative",
    "aggregation_length": "tokens that sequence_mean_token_scale divides by; default: T",
    "score": "log-probabilities to the score of a side (objectives/preference.py)",
    "link": "margin of scores to loss (objectives/preference.py)",
    "beta": "inverse temperature of the preference model, factor of the margin",
    "label_smoothing": "assumed share of flipped labels, in [0, 0.5)",
    "bound": "lower bound on the answer's log-likelihood (objectives/evidence.py)",
    "answer_phrase": "ends the chain of thought; the reference answer is appended after it",
    "answer_end": "text between the reference answer and eos",
    "norm_scope": "deviation of the advantages over the batch or over each group",
    "advantage_clip": "bound on the normalised advantages",
    "format_penalty": "lost by a sample without the answer phrase",
    "supervised_weight": "factor of the likelihood of the reference answer, or of demonstrations",
}


# Allowed values of fields that are numbers or a choice, besides their type.
LIMITS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "sigma": (lambda x: x > 0, "> 0"),
    "rank": (lambda x: x >= 1, "a whole number >= 1"),
    "noise_reuse": (lambda x: x >= 0, "a whole number >= 0"),
    "prompts_per_member": (lambda x: x >= 1, "a whole number >= 1"),
    "window_tokens": (lambda x: x >= 1, "a whole number >= 1"),
    "clip_low": (lambda x: x >= 0, ">= 0"),
    "clip_high": (lambda x: x >= 0, ">= 0"),
    "dual_clip": (lambda x: x > 1, "> 1"),
    "kl_weight": (lambda x: x >= 0, ">= 0"),
    "filter_rounds": (lambda x: x >= 1, "a whole number >= 1"),
    "proxy_threshold": (lambda x: 0 <= x <= 1, "in [0, 1]"),
    "likelihood_weight": (lambda x: x >= 0, ">= 0"),
    "value_samples": (lambda x: x >= 1, "a whole number >= 1"),
    "cut_limit": (lambda x: x >= 1, "a whole number >= 1"),
    "segment_tokens": (lambda x: x >= 1, "a whole number >= 1"),
    "branching": (
        lambda x: len(x) and all(isinstance(n, int) and n >= 2 for n in x),
        "one or more whole numbers >= 2: an only child has no advantage",
    ),
    "edge_style": (EDGE_STYLES.__contains__, f"one of {', '.join(map(repr, EDGE_STYLES))}"),
    "edge_epsilon": (lambda x: x >= 0, ">= 0"),
    "kl_unit": (lambda x: x in KL_UNITS, f"one of {', '.join(map(repr, KL_UNITS))}"),
    "ema_decay": (lambda x: 0 <= x <= 1, "in [0, 1]"),
    "advantage_epsilon": (lambda x: x >= 0, ">= 0"),
    "advantage_clip": (lambda x: x > 0, "> 0"),
    "aggregation_length": (lambda x: x > 0, "a positive number of tokens"),
    "beta": (lambda x: x > 0, "> 0"),
    "label_smoothing": (lambda x: 0 <= x < 0.5, "in [0, 0.5)"),
    "supervised_weight": (lambda x: x >= 0, ">= 0"),
    "format_penalty": (lambda x: x >= 0, ">= 0"),
    "norm_scope": (lambda x: x in NORM_SCOPES, f"one of {', '.join(map(repr, NORM_SCOPES))}"),
    "answer_phrase": (bool, "a text that is not empty"),
}
