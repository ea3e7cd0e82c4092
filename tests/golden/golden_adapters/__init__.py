"""Adapters from golden cases to rljax, one function per slug.

An adapter takes a case and returns the fields of its `outputs`, computed by the functions that
training uses. It raises `NotBuilt` for a case of a method that rljax does not have (yet); such
cases are counted as missing.
"""

from golden_adapters import (
    adapters,
    balance,
    diffusion,
    evidence,
    guided,
    preference,
    selection,
    supervised,
    trl,
    tunix,
    verl_advantages,
    verl_aggregation,
    verl_losses,
)
from golden_adapters.common import NotBuilt

ADAPTERS = {
    "best-of-n": selection.best_of_n_and_votes,
    "dpo-family": preference.dpo_family,
    "dynamic-logits-fusion": guided.dynamic_logits_fusion,
    "gedi": guided.gedi,
    "genarm": guided.genarm,
    "hpt": supervised.hpt,
    "jepo": evidence.jepo,
    "lora": adapters.lora,
    "mdlm": diffusion.mdlm,
    "moe-aux-free": balance.moe_aux_free,
    "policy-gradient-advantages": verl_advantages.advantages,
    "policy-gradient-agg-kl-is": verl_aggregation.aggregation_and_kl,
    "policy-gradient-losses": verl_losses.losses,
    "policy-gradient-trl": trl.loss,
    "policy-gradient-tunix": tunix.tunix,
    "sft-variants": supervised.sft_variants,
    "tulu3-dpo": preference.tulu3,
    "vas": guided.vas,
}

__all__ = ["ADAPTERS", "NotBuilt"]
