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
    policy_gradient,
    preference,
    selection,
    supervised,
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
    "policy-gradient-advantages": policy_gradient.verl_advantages,
    "policy-gradient-agg-kl-is": policy_gradient.verl_aggregation_and_kl,
    "policy-gradient-losses": policy_gradient.verl_losses,
    "policy-gradient-trl": policy_gradient.trl,
    "policy-gradient-tunix": policy_gradient.tunix,
    "sft-variants": supervised.sft_variants,
    "tulu3-dpo": preference.tulu3,
    "vas": guided.vas,
}

__all__ = ["ADAPTERS", "NotBuilt"]
