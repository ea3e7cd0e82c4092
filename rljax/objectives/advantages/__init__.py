"""Rewards to advantages: how much better than expected each sampled token was.

Every part maps named arrays (`objectives/arrays.py`), token rewards [N, T] among them, to
advantages [N, T]. The *score* of a row is the sum of its token rewards inside the mask, and most
parts give every token of a row the same value. They run on the whole batch, before rows are
shuffled, split or sharded; groups are found through `group_ids`, never through the order of rows.

Rows without a single True in the mask count as absent: they get 0 and enter no statistic. To train
on fewer tokens than were scored (for example to leave truncated rows out of the loss but inside
their group's mean), compute advantages with the full mask and aggregate with the narrower one.

Parts that need a critic or segments of a row are in `objectives/credit/`, but for `trajectory.py`,
which compares with the group too, and `mixed_components` (`objectives/multipliers.py`).

| file | what it holds |
| --- | --- |
| `groups.py` | scores of samples and statistics of their groups; every part below uses it |
| `accepted.py` | right samples that weigh as much as their prompt (GVM) |
| `baselines.py` | none, batch, moving average; the group's mean, z-score, leave-one-out |
| `batch_deviation.py` | the group's mean over the batch's deviation (Lite PPO) |
| `bnpo.py` | over a Beta density that is fitted to success rates |
| `budgeted.py` | long samples within a budget (IBPO) |
| `calibrated.py` | rewards that only what satisfies all constraints earns (CGPO) |
| `components.py` | several rewards, mixed after each is normalised |
| `canon.py`, `canon_schedule.py` | halves of a group compared, and how the comparison is weighted |
| `demonstrations.py` | groups that hold demonstrations besides samples |
| `filtered.py` | the likelihood of samples that are better than their group |
| `gpg.py` | the group's mean, scaled up for groups without signal |
| `length_weighted.py` | the group's mean weighted by length (OPO) |
| `likelihood_scaled.py` | the group's mean over itself (MaxRL) |
| `ngrpo.py` | a z-score with virtual right samples |
| `optimal_token.py` | the baseline of each slot that leaves the least variance |
| `pass_at_k.py` | the best sample of a group only |
| `pooled.py` | all that was drawn of a prompt, kept or not (Reinforce-Ada) |
| `rewards_to_go.py` | rewards to come: REINFORCE++, ReMax |
| `reweighted.py` | several rewards, weighed by how each is still learned (RECAP) |
| `roles.py` | episodes of several roles: a moving average, a group, the turns of each role |
| `signed.py` | right samples, wrong ones, or both with weights of their own |
| `softmax.py` | a weight among the good samples minus one among the bad ones (wd1) |
| `token_zscore.py` | a z-score over tokens instead of rows (HAPO) |
| `trajectory.py` | a critic of denoising steps (TraceRL) |
| `whitened.py` | the group's mean, whitened over the batch |
"""

from rljax.objectives.advantages.accepted import accepted_mean
from rljax.objectives.advantages.baselines import (
    batch_mean,
    ema,
    group_leave_one_out,
    group_mean,
    group_zscore,
    none,
    update_ema_baseline,
)
from rljax.objectives.advantages.batch_deviation import group_mean_batch_deviation
from rljax.objectives.advantages.bnpo import bnpo
from rljax.objectives.advantages.budgeted import budgeted
from rljax.objectives.advantages.calibrated import best_constrained, calibrated_constrained
from rljax.objectives.advantages.canon import canon_entropy, canon_length, canon_order
from rljax.objectives.advantages.components import component_zscore
from rljax.objectives.advantages.demonstrations import (
    group_mean_sampled,
    signed_beside_demonstrations,
)
from rljax.objectives.advantages.filtered import better_than_group
from rljax.objectives.advantages.gpg import gpg
from rljax.objectives.advantages.length_weighted import group_length_weighted
from rljax.objectives.advantages.likelihood_scaled import group_mean_ratio
from rljax.objectives.advantages.ngrpo import group_zscore_virtual
from rljax.objectives.advantages.optimal_token import optimal_token_baseline
from rljax.objectives.advantages.pass_at_k import pass_at_k
from rljax.objectives.advantages.pooled import pool_mean
from rljax.objectives.advantages.rewards_to_go import reinforce_plus_plus, remax
from rljax.objectives.advantages.reweighted import reweighted_components
from rljax.objectives.advantages.roles import (
    role_baseline,
    role_group_mean,
    role_turn_zscore,
    update_role_baselines,
)
from rljax.objectives.advantages.signed import keep_sign, signed_outcome
from rljax.objectives.advantages.softmax import group_softmax
from rljax.objectives.advantages.token_zscore import group_token_zscore
from rljax.objectives.advantages.trajectory import trajectory_gae
from rljax.objectives.advantages.whitened import reinforce_plus_plus_baseline
from rljax.objectives.credit.gae import gae, gae_length_adaptive
from rljax.objectives.credit.macro_gae import macro_gae
from rljax.objectives.credit.search_values import search_mean
from rljax.objectives.credit.segment_values import segment_difference
from rljax.objectives.multipliers import mixed_components

# Whole samples against the batch, the past or themselves.
_UNGROUPED = {
    "none": none,
    "batch_mean": batch_mean,
    "ema": ema,
    "signed_outcome": signed_outcome,
    "signed_beside_demonstrations": signed_beside_demonstrations,
    "reinforce_plus_plus": reinforce_plus_plus,
    "remax": remax,
    "pool_mean": pool_mean,
    "accepted_mean": accepted_mean,
    "calibrated_constrained": calibrated_constrained,
    "role_baseline": role_baseline,
    "role_turn_zscore": role_turn_zscore,
}

# Whole samples against the prompt's other samples.
_GROUPED = {
    "better_than_group": better_than_group,
    "group_leave_one_out": group_leave_one_out,
    "group_mean": group_mean,
    "group_zscore": group_zscore,
    "group_mean_batch_deviation": group_mean_batch_deviation,
    "group_length_weighted": group_length_weighted,
    "group_mean_ratio": group_mean_ratio,
    "group_mean_sampled": group_mean_sampled,
    "group_softmax": group_softmax,
    "group_token_zscore": group_token_zscore,
    "group_zscore_virtual": group_zscore_virtual,
    "gpg": gpg,
    "pass_at_k": pass_at_k,
    "reinforce_plus_plus_baseline": reinforce_plus_plus_baseline,
    "bnpo": bnpo,
    "canon_length": canon_length,
    "canon_entropy": canon_entropy,
    "canon_order": canon_order,
    "budgeted": budgeted,
    "best_constrained": best_constrained,
    "component_zscore": component_zscore,
    "reweighted_components": reweighted_components,
    "optimal_token_baseline": optimal_token_baseline,
    "trajectory_gae": trajectory_gae,
    "role_group_mean": role_group_mean,
}

# Tokens and segments against the values of states.
_CREDIT = {
    "gae": gae,
    "gae_length_adaptive": gae_length_adaptive,
    "macro_gae": macro_gae,
    "mixed_components": mixed_components,
    "segment_difference": segment_difference,
    "search_mean": search_mean,
}

ADVANTAGES = {**_UNGROUPED, **_GROUPED, **_CREDIT}

# Parts whose baseline is the prompt's other samples: at least two samples per prompt.
NEEDS_GROUPS = frozenset(_GROUPED)

# Parts in which a factor of all scores cancels: they divide by a deviation or a mean, or ask only
# which sample is better. Others do where they whiten (`whiten_advantages`).
SCALE_FREE = frozenset(
    {
        *("accepted_mean", "better_than_group", "budgeted", "component_zscore", "group_zscore"),
        *("group_mean_batch_deviation", "group_mean_ratio", "group_token_zscore", "pass_at_k"),
        *("mixed_components", "reinforce_plus_plus", "reinforce_plus_plus_baseline"),
        *("role_turn_zscore", "signed_beside_demonstrations"),
    }
)

# Parts with a state: they take it as the last positional argument, and the function here computes
# the next state. Its keyword-only arguments are config fields of the part as well.
BASELINE_UPDATES = {"ema": update_ema_baseline}

__all__ = [
    "ADVANTAGES",
    "BASELINE_UPDATES",
    "NEEDS_GROUPS",
    "SCALE_FREE",
    "keep_sign",
    "update_ema_baseline",
    "update_role_baselines",
]
