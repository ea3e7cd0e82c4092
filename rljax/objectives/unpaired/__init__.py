"""Losses on single completions that are desired or not: no pairs are needed.

    loss[n] = link(log policy(y) - log reference(y), label),   averaged over all completions

N completions, T slots of each. Parts read arrays by name (`UNPAIRED_ARRAYS`). What a loss knows of
other completions, a baseline or a shift of the rewards, is a constant of the update that is found
over the whole batch, so neither devices nor micro-batches change it.

| file | what it holds |
| --- | --- |
| `links.py` | losses on whole completions |
| `steps.py` | a loss on completions and on their steps |
| `baselines.py` | what a loss knows of the whole batch |
| `loss.py` | the loss of a completion, from these parts |
"""

from rljax.objectives.unpaired.baselines import kl_estimate, running_mean
from rljax.objectives.unpaired.links import apo_zero_unpaired, bco, kto
from rljax.objectives.unpaired.loss import unpaired_loss
from rljax.objectives.unpaired.steps import STEP_LOSS_REDUCTIONS, step_kto, step_sums

UNPAIRED_LINKS = {
    "kto": kto,
    "apo_zero_unpaired": apo_zero_unpaired,
    "bco": bco,
    "step_kto": step_kto,
}

__all__ = [
    "STEP_LOSS_REDUCTIONS",
    "UNPAIRED_LINKS",
    "kl_estimate",
    "running_mean",
    "step_sums",
    "unpaired_loss",
]
