"""Learning from samples of the posterior: chains of thought given that the answer is right.

A prompt x comes with a known answer y and a checker of whole completions z, rationale and answer:

    p(y | x) = sum_z p(z | x) right(z)
    grad log p(y | x) = E_{z ~ p(z | x, y)} [ grad log p(z | x) ]

so each prompt's right samples weigh as the posterior says, and not by how many of the others are
right. TRICE (arXiv:2312.02179) keeps one sample of the posterior for each prompt, the state of a
Markov chain that goes on whenever the prompt is visited; `right_share` takes several fresh samples.

STaR, RFT and RAFT are rounds of supervised stages on samples that a verifier kept
(`data.source="sampled"`, training/collect/kept_samples.py): every kept sample weighs 1 there.
"""

import jax.numpy as jnp
from jax import Array

from rljax.objectives.metrics import SumCount, masked
from rljax.objectives.sequences import sequence_logprobs


def accepted_proposals(memory_right: Array, proposal_right: Array) -> tuple[Array, Array]:
    """One step of independence Metropolis-Hastings with the prior as proposal (arXiv:2312.02179).

    Proposal and prior cancel, so a right proposal is always accepted and a wrong one never, not
    even in place of another wrong one.

    Args:
        memory_right: [M] bool, the chain's state gives the right answer.
        proposal_right: [M] bool, the fresh sample does.

    Returns:
        Which proposals are accepted, and whether the new state is right: [M] bool each.
    """
    return proposal_right, memory_right | proposal_right


def no_variate(memory_right: Array, proposal_right: Array) -> Array:
    """The plain estimator: proposals that are not accepted have no weight.

    Args:
        memory_right: [M] bool, of the new states.
        proposal_right: [M] bool.

    Returns:
        [M] f32, zeros.
    """
    return jnp.zeros(jnp.broadcast_shapes(memory_right.shape, proposal_right.shape))


def leave_one_out(memory_right: Array, proposal_right: Array) -> Array:
    """The share of the other right chains whose proposal was accepted (arXiv:2312.02179).

    grad log p of a fresh sample is 0 in the mean, and is close to that of the state where most
    proposals are accepted; so this share of it is taken off. The share leaves the prompt itself
    out, or it would depend on the sample that it weighs.

    Args:
        memory_right: [M] bool, of the new states.
        proposal_right: [M] bool.

    Returns:
        [M] f32 in [0, 1]; 0 where no other chain is right.
    """
    right = memory_right.astype(float)
    accepted = right * proposal_right
    others = right.sum() - right
    return jnp.where(others > 0, (accepted.sum() - accepted) / jnp.maximum(others, 1.0), 0.0)


CONTROL_VARIATES = {"none": no_variate, "leave_one_out": leave_one_out}


def chain_weights(memory_right: Array, share: Array) -> Array:
    """Weights of grad log p of the new states and of the proposals.

    Args:
        memory_right: [M] bool, of the new states.
        share: [M] f32, what a value of `CONTROL_VARIATES` says.

    Returns:
        [M, 2] f32: 1 / S of each right state and -share / S of its proposal, S the number of right
        states; zeros for the others.
    """
    right = memory_right.astype(float)
    each = right / jnp.maximum(right.sum(), 1.0)
    return jnp.stack([each, -share * each], axis=-1)


def net_weights(weights: Array, accepted: Array) -> Array:
    """The same gradient, with both weights of an accepted proposal on the state that it became.

    Where nearly all proposals are accepted the two cancel: left to float32 their sum would be
    noise, which an optimizer that divides by its size turns into whole steps.

    Args:
        weights: [M, 2] f32, of `chain_weights`.
        accepted: [M] bool, proposals that are the new state.

    Returns:
        [M, 2] f32; exactly zero where a share of 1 was taken off.
    """
    state, proposal = weights[:, 0], weights[:, 1]
    both = jnp.where(accepted, state + proposal, state)
    return jnp.stack([both, jnp.where(accepted, 0.0, proposal)], axis=-1)


def right_share(right: Array) -> Array:
    """Weights of G fresh samples of each prompt: the posterior, self-normalised.

    The expected gradient is (1 - (1 - p)^G) grad log p for a prompt that is solved with probability
    p, up to the share of prompts that have a right sample.

    Args:
        right: [M, G] bool.

    Returns:
        [M, G] f32: 1 / (S k) of each of the k right samples of a prompt, S the number of prompts
        with one; zeros for the others.
    """
    count = right.sum(axis=-1, keepdims=True)
    prompts = (count > 0).sum()
    return jnp.where(right, 1.0 / jnp.maximum(count * prompts, 1), 0.0)


def posterior_loss(
    logprobs: Array, mask: Array, weights: Array
) -> tuple[Array, dict[str, SumCount]]:
    """-sum of weight * log p(z | x), over the rows of a part of the batch.

    Args:
        logprobs: [N, T] f32 of all completion tokens, differentiated.
        mask: [N, T] bool, all completion tokens.
        weights: [N] f32, of the whole batch, constant.

    Returns:
        The loss [], and the metric `sequence_logprob` over rows that are learned.
    """
    totals = sequence_logprobs(logprobs, mask)
    return -jnp.sum(weights * totals), {"sequence_logprob": masked(totals, weights > 0)}
