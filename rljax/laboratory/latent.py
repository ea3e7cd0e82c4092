"""Entries of latent chain of thought: what is estimated is log p(a* | x), or p(a* | x) itself.

Every value, advantage and loss comes from the function that training calls (objectives/evidence.py,
posterior.py, policy_gradient.py); here are only the draws, and what each entry claims.

Costs are in forward passes of one token: a sampled token 1, a scored one 1, a trained one 3. A
chain has 1 token, an answer A. What scores reference answers samples n chains, scores and trains n
rows of 1 + A tokens; what has a verifier samples and trains n completions, and scores nothing.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rljax.laboratory import problem
from rljax.laboratory.draws import multisets
from rljax.laboratory.entry import Entry
from rljax.laboratory.problem import ANSWER_TOKENS, CHAINS, RIGHT, Params
from rljax.objectives.advantages import ADVANTAGES
from rljax.objectives.evidence import (
    BOUNDS,
    EvidenceAdvantages,
    evidence_advantages,
    evidence_loss,
)
from rljax.objectives.policy_gradient import policy_gradient_loss
from rljax.objectives.posterior import (
    CONTROL_VARIATES,
    accepted_proposals,
    chain_weights,
    posterior_loss,
    right_share,
)
from rljax.objectives.ratios import RATIOS
from rljax.objectives.surrogates import SURROGATES

SCORED = 1 + 4 * (1 + ANSWER_TOKENS)  # a chain that is sampled, then scored and trained
VERIFIED = 4 * (1 + ANSWER_TOKENS)  # a completion that is sampled and trained
CHAINS_AT_ONCE = 4  # of TRICE


def chains(params: Params, count: int) -> Array:
    """Slots that draw chains of thought from the policy."""
    return jnp.tile(problem.chain_logprobs(params), (count, 1))


def completions(params: Params, count: int) -> Array:
    """Slots that draw whole completions from the policy."""
    return jnp.tile(problem.completion_logprobs(params).sum(axis=-1), (count, 1))


def explained_chains(params: Params, count: int) -> Array:
    """Slots that draw chains of thought given the answer."""
    joint = problem.chain_logprobs(params) + problem.answer_logprobs(params)
    return jnp.tile(jax.nn.log_softmax(joint), (count, 1))


def expected_bound(params: Params, samples: int) -> Array:
    """[], E[log mean exp l] of n chains: by sets of chains with their multiplicities."""
    draws, ways = multisets(CHAINS, samples)
    weights = jnp.exp(problem.chain_logprobs(params)[draws].sum(axis=-1)) * ways
    bounds = jax.nn.logsumexp(problem.answer_logprobs(params)[draws], axis=-1) - np.log(samples)
    return (weights * bounds).sum()


def upper_bound(params: Params) -> Array:
    """[], E[l] over chains given the answer: log p(a* | x) + KL(posterior || policy)."""
    weights = jnp.exp(explained_chains(params, 1)[0])
    return (weights * problem.answer_logprobs(params)).sum()


def likelihood(params: Params) -> Array:
    """[], p(a* | x)."""
    return jnp.exp(problem.log_likelihood(params))


def truncated_log_likelihood(params: Params, samples: int) -> Array:
    """[], the first n terms of log p = -sum_k (1 - p)^k / k, whose gradient fresh samples give."""
    k = np.arange(1, samples + 1)
    return -((1 - likelihood(params)) ** k / k).sum()


def evidence_estimate(
    params: Params, draw: Array, *, bound: str, baseline: str, scale: float = 1.0, normalised=False
) -> tuple[Array, Array]:
    """Value and loss of one prompt with n chains of thought.

    Args:
        params: of the policy.
        draw: [n] i32, chains.
        bound: a name of `BOUNDS`.
        baseline: "leave_one_out", or "none": the sample's own signal instead of the advantage.
        scale: factor of the advantages. The multi-sample policy gradient is a sum over samples, and
            the loss divides by n.
        normalised: divided by their deviation in the group, and clipped, as JEPO trains.
    """
    shape = (1, len(draw))
    everything = jnp.ones(shape, bool)
    answers = problem.answer_logprobs(params)[draw].reshape(shape)
    value, advantages = BOUNDS[bound](answers, everything)
    if baseline == "none":
        own = {"single_sample": answers, "probability": jnp.exp(answers)}
        advantages = own.get(bound, jnp.broadcast_to(value[:, None], shape))
    if normalised:
        found = evidence_advantages(
            answers, everything, everything, bound=BOUNDS[bound], norm_scope="group"
        )
        advantages = found.reasoning
    advantages = EvidenceAdvantages(
        scale * jax.lax.stop_gradient(advantages), jnp.zeros(shape, answers.dtype)
    )
    token = everything.reshape(-1, 1)
    losses, _ = evidence_loss(
        problem.chain_logprobs(params)[draw][:, None],
        None,
        token,
        token,
        answers,
        advantages,
        everything,
        everything,
        bound=BOUNDS[bound],
    )
    return value[0], losses[0]


def rloo_estimate(params: Params, draw: Array, *, baseline: str) -> tuple[Array, Array]:
    """Value and loss of exact match with n whole completions."""
    logprobs = problem.completion_logprobs(params)[draw]
    mask = jnp.ones(logprobs.shape, bool)
    right = jnp.asarray(RIGHT)[draw].astype(logprobs.dtype)
    rewards = jnp.zeros(logprobs.shape, logprobs.dtype).at[:, -1].set(right)
    if baseline == "none":
        advantages = jnp.broadcast_to(right[:, None], logprobs.shape)
    else:
        groups = jnp.zeros(len(draw), int)
        advantages = ADVANTAGES["group_leave_one_out"](rewards, mask, groups)
    arrays = {
        "logprobs": logprobs,
        "old_logprobs": jax.lax.stop_gradient(logprobs),
        "mask": mask,
        "advantages": advantages,
    }
    per_token, _ = policy_gradient_loss(
        arrays, ratio=RATIOS["none"], surrogate=SURROGATES["policy_gradient"]
    )
    return right.mean(), per_token.sum(axis=-1).mean()


def trice_slots(params: Params, count: int) -> Array:
    """Slots of M chains in their posterior, then of their M fresh samples."""
    fresh = completions(params, count)
    states = jax.nn.log_softmax(jnp.where(RIGHT, fresh, -jnp.inf))
    return jnp.concatenate([states, fresh])


def trice_estimate(params: Params, draw: Array, *, variate: str) -> tuple[Array, Array]:
    """Loss of one step of M chains; a step has no value."""
    states, proposals = draw.reshape(2, -1)
    right = jnp.asarray(RIGHT)
    accepted, after = accepted_proposals(right[states], right[proposals])
    share = CONTROL_VARIATES[variate](after, right[proposals])
    rows = jnp.stack([jnp.where(accepted, proposals, states), proposals], axis=-1).reshape(-1)
    return _weighted(params, rows, chain_weights(after, share).reshape(-1))


def fresh_estimate(params: Params, draw: Array) -> tuple[Array, Array]:
    """Loss of the right ones among n fresh completions of one prompt."""
    return _weighted(params, draw, right_share(jnp.asarray(RIGHT)[draw][None])[0])


def _weighted(params: Params, rows: Array, weights: Array) -> tuple[Array, Array]:
    logprobs = problem.completion_logprobs(params)[rows]
    loss, _ = posterior_loss(logprobs, jnp.ones(logprobs.shape, bool), weights)
    return jnp.zeros((), logprobs.dtype), loss


def upper_estimate(params: Params, draw: Array) -> tuple[Array, Array]:
    """Value of n chains that were drawn given the answer; it has no gradient of its own."""
    answers = problem.answer_logprobs(params)[draw][None]
    value, _ = BOUNDS["single_sample"](answers, jnp.ones(answers.shape, bool))
    return value[0], jnp.zeros((), answers.dtype)


def _evidence(name: str, bound: str, samples: int, baseline: str, aim: Callable, **more) -> Entry:
    scale = samples if bound == "multi_sample" else 1.0
    fields = dict(bound=bound, baseline=baseline, scale=scale) | more.pop("settings", {})
    return Entry(
        name=name,
        samples=samples,
        baseline=baseline,
        slots=functools.partial(chains, count=samples),
        estimate=functools.partial(evidence_estimate, **fields),
        aim=aim,
        cost=samples * SCORED,
        **more,
    )


def _verified(name: str, samples: int, baseline: str, estimate: Callable, aim: Callable, **more):
    slots = functools.partial(completions, count=samples)
    fields = dict(slots=slots, cost=samples * VERIFIED) | more
    return Entry(name, samples, baseline, estimate=estimate, aim=aim, **fields)


def entries() -> list[Entry]:
    """All entries of latent chain of thought."""
    return [*_unbiased(), *_as_trained(), *_posterior(), *_upper()]


def _unbiased() -> list[Entry]:
    found = []
    for baseline in ("none", "leave_one_out"):
        for n in (2, 4):
            single = functools.partial(expected_bound, samples=1)
            found.append(
                _evidence("single_sample", "single_sample", n, baseline, single, side="lower")
            )
        for n in (2, 4, 8):
            bound = functools.partial(expected_bound, samples=n)
            found.append(
                _evidence("multi_sample", "multi_sample", n, baseline, bound, side="lower")
            )
        for n in (2, 4):
            found.append(_evidence("probability", "probability", n, baseline, likelihood))
        for n in (2, 4):
            estimate = functools.partial(rloo_estimate, baseline=baseline)
            found.append(_verified("exact_match", n, baseline, estimate, likelihood))
    return found


def _as_trained() -> list[Entry]:
    found = []
    four = functools.partial(expected_bound, samples=4)
    for name, settings in (("jepo_raw", {}), ("jepo", {"normalised": True})):
        found.append(
            _evidence(
                name,
                "multi_sample",
                4,
                "leave_one_out",
                four,
                settings={"scale": 1.0, **settings},
                claims_gradient=False,
            )
        )
    return found


def _posterior() -> list[Entry]:
    found = []
    for n in (2, 4):
        aim = functools.partial(truncated_log_likelihood, samples=n)
        found.append(_verified("posterior_fresh", n, "none", fresh_estimate, aim, has_value=False))
    for variate in CONTROL_VARIATES:
        found.append(
            _verified(
                "trice",
                CHAINS_AT_ONCE,
                variate,
                functools.partial(trice_estimate, variate=variate),
                problem.log_likelihood,
                slots=functools.partial(trice_slots, count=CHAINS_AT_ONCE),
                # Sampled once, and two rows trained.
                cost=CHAINS_AT_ONCE * 7 * (1 + ANSWER_TOKENS),
                has_value=False,
                alike=False,
            )
        )
    return found


def _upper() -> list[Entry]:
    found = []
    for n in (1, 4):
        found.append(
            Entry(
                name="upper",
                samples=n,
                baseline="none",
                slots=functools.partial(explained_chains, count=n),
                estimate=upper_estimate,
                aim=upper_bound,
                cost=n * (2 + ANSWER_TOKENS),
                side="upper",
                has_gradient=False,
            )
        )
    return found
