"""Adapters from golden cases to rljax, one function per slug.

An adapter takes a case and returns the fields of its `outputs`, computed by the functions that
training uses. It raises `NotBuilt` for a case of a method that rljax does not have (yet); such
cases are counted as missing.
"""

from golden_adapters import (
    adapters,
    balance,
    bnpo,
    canon,
    diffusion,
    disco,
    dler,
    evidence,
    guided,
    hapo,
    lp_reg,
    ma_rlhf,
    ngrpo,
    ppo,
    preference,
    selection,
    spo,
    steer,
    supervised,
    t_ppo,
    text_rewards,
    tokenbuncher,
    trl,
    tunix,
    unpacking,
    verl_advantages,
    verl_aggregation,
    verl_losses,
)
from golden_adapters.common import NotBuilt

ADAPTERS = {
    "best-of-n": selection.best_of_n_and_votes,
    "bnpo": bnpo.bnpo,
    "canon": canon.canon,
    "cov-entropy": verl_losses.cov_entropy,
    "disco": disco.disco,
    "dler": dler.dler,
    "dllm-tasks": text_rewards.dllm_tasks,
    "dpo-family": preference.dpo_family,
    "dynamic-logits-fusion": guided.dynamic_logits_fusion,
    "gedi": guided.gedi,
    "genarm": guided.genarm,
    "hapo": hapo.hapo,
    "hpt": supervised.hpt,
    "jepo": evidence.jepo,
    "lora": adapters.lora,
    "lp-reg": lp_reg.lp_reg,
    "ma-rlhf": ma_rlhf.ma_rlhf,
    "mdlm": diffusion.mdlm,
    "moe-aux-free": balance.moe_aux_free,
    "ngrpo": ngrpo.ngrpo,
    "policy-gradient-advantages": verl_advantages.advantages,
    "policy-gradient-agg-kl-is": verl_aggregation.aggregation_and_kl,
    "policy-gradient-losses": verl_losses.losses,
    "policy-gradient-trl": trl.loss,
    "policy-gradient-tunix": tunix.tunix,
    "ppo": ppo.ppo,
    "sft-variants": supervised.sft_variants,
    "spo": spo.spo,
    "steer": steer.steer,
    "t-ppo": t_ppo.t_ppo,
    "tokenbuncher": tokenbuncher.tokenbuncher,
    "tulu3-dpo": preference.tulu3,
    "unpacking-dpo-ppo": unpacking.unpacking,
    "vapo": ppo.vapo,
    "vas": guided.vas,
}

__all__ = ["ADAPTERS", "NotBuilt"]
