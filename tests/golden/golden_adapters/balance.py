"""The bias of auxiliary-loss-free balancing in slug moe-aux-free."""

import jax.numpy as jnp

from rljax.objectives.balance import bias_update


def moe_aux_free(case: dict) -> dict:
    experts = jnp.arange(case["args"]["num_experts"])
    chosen = jnp.asarray(case["inputs"]["top_k_indices"]).reshape(-1, 1)
    counts = (chosen == experts).sum(axis=0).astype(float)
    return {"bias_update": bias_update(counts, rate=case["args"]["rate"])}
