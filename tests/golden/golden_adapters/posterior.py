"""Slug trice: one step of many chains, and exactly enumerated toys."""

import itertools

import jax
import jax.numpy as jnp

from golden_adapters.common import bools, floats
from rljax.objectives.posterior import (
    CONTROL_VARIATES,
    accepted_proposals,
    chain_weights,
    posterior_loss,
)


def _step(case: dict) -> dict:
    memory, proposal = bools(case, "memory_correct"), bools(case, "proposal_correct")
    accepted, after = accepted_proposals(memory, proposal)
    share = CONTROL_VARIATES["leave_one_out"](after, proposal)
    weights = chain_weights(after, share)
    basic = chain_weights(after, CONTROL_VARIATES["none"](after, proposal))
    return {
        "memory_correct_after": after.astype(int),
        "accepted": accepted.astype(int),
        # The files give the share of wrong chains too, which nothing is multiplied with.
        "beta": share,
        "weight_memory": weights[:, 0],
        "weight_proposal": weights[:, 1],
        "basic_weight": basic[:, 0],
    }


def _toy(case: dict) -> dict:
    """All pairs of a state from the posterior and a proposal from p(z)."""
    logits, right = floats(case, "logits"), bools(case, "correct")

    def log_marginal(logits):
        return jax.nn.logsumexp(jax.nn.log_softmax(logits), where=right)

    value = log_marginal(logits)
    prior = jax.nn.softmax(logits)
    posterior = jnp.where(right, prior, 0.0) / jnp.exp(value)
    pairs = jnp.asarray(list(itertools.product(range(len(logits)), repeat=2)))
    states, proposals = pairs[:, 0], pairs[:, 1]
    accepted, _ = accepted_proposals(right[states], right[proposals])
    after = jnp.where(accepted, proposals, states)
    chance = posterior[states] * prior[proposals]

    def estimate(share):
        def one(after, proposal):
            def loss(logits):
                rows = jax.nn.log_softmax(logits)[jnp.stack([after, proposal])][:, None]
                weights = chain_weights(jnp.ones(1, bool), jnp.full(1, share))[0]
                return posterior_loss(rows, jnp.ones((2, 1), bool), weights)[0]

            return -jax.grad(loss)(logits)

        each = jax.vmap(one)(after, proposals)
        mean = chance @ each
        return mean, chance @ ((each - mean) ** 2).sum(axis=-1)

    shares = {"0": 0.0, "_half": 0.5, "_acc": jnp.exp(value), "1": 1.0}
    found = {name: estimate(share) for name, share in shares.items()}
    outputs = {f"variance_beta{name}": spread for name, (_, spread) in found.items()}
    return outputs | {
        "posterior": jnp.zeros(len(logits)).at[after].add(chance),  # after one step
        "marginal": jnp.exp(value),
        "grad_log_marginal": found["_acc"][0],
    }


def trice(case: dict) -> dict:
    return _toy(case) if "logits" in case["inputs"] else _step(case)
