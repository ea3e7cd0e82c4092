"""Rewards to advantages: how much better than expected each sampled token was.

Every part maps per-token rewards [N, T] to advantages [N, T]. The *score* of a row is the sum of
its token rewards inside the mask, and all parts here give every token of a row the same value.
They run on the whole batch, before rows are shuffled, split or sharded; groups are found through
`group_ids`, never through the order of rows.

Rows without a single True in the mask are not there: they get 0 and enter no statistic. To train
on fewer tokens than were scored (for example to leave truncated rows out of the loss but inside
their group's mean), compute advantages with the full mask and aggregate with the narrower one.

Methods that give tokens of one row different values (rewards-to-go, whitening over tokens, a
critic) belong in this table too.
"""

from rljax.objectives.advantages.baselines import (
    batch_mean,
    ema,
    group_leave_one_out,
    group_mean,
    group_zscore,
    none,
    update_ema_baseline,
)

ADVANTAGES = {
    "none": none,
    "batch_mean": batch_mean,
    "ema": ema,
    "group_leave_one_out": group_leave_one_out,
    "group_mean": group_mean,
    "group_zscore": group_zscore,
}

# Parts whose baseline is the prompt's other samples: at least two samples per prompt.
NEEDS_GROUPS = frozenset({"group_leave_one_out", "group_mean", "group_zscore"})

# Parts with a state: they take it as the last positional argument, and the function here moves
# it on after use. Its keyword-only arguments are config fields of the part as well.
BASELINE_UPDATES = {"ema": update_ema_baseline}
