"""The expected gradient by enumeration (test_enumeration.py), of what a method may be joined with.

Filters, ends of completions, splits of the batch; KL and entropy; another sampler, more updates.
"""

import numpy as np
import pytest

from tests.training.learner import tabular
from tests.training.learner.enumerated import (
    EVERY,
    OTHER,
    POLICY,
    REFERENCE,
    REWARDS,
    SUM,
    TABLE,
    assert_gradient,
    few,
    given_to,
    quiet_unless_useless,
)
from tests.training.learner.tabular import (
    PROMPTS,
    Given,
    completions,
    exact,
    expected_step,
    stage_of,
)

FILTERS = {
    "temperature": {"temperature": 0.7},
    "top_k": {"top_k": 2},
    "top_p": {"top_p": 0.75},
    "min_p": {"min_p": 0.4, "temperature": 1.3},
    "bias": {"logit_bias": ((1, 0.8),), "temperature": 0.9},
    "forbidden": {"forbidden_tokens": (1,)},
    "all": {"temperature": 0.8, "top_k": 2, "min_p": 0.2, "logit_bias": ((0, -0.5),)},
}


@pytest.mark.parametrize("name", few(FILTERS, "top_p", "forbidden", "all"))
def test_it_is_the_gradient_of_the_policy_under_the_filter_of_the_sampler(name):
    stage = stage_of("rloo", sampling=FILTERS[name])
    policy = exact(TABLE, EVERY, stage.token_filter)
    np.testing.assert_allclose(policy.probability.sum(axis=1), 1.0)
    whole = name in ("temperature", "bias")
    assert whole or (policy.probability == 0).any()  # something is excluded
    assert_gradient(expected_step(stage, given_to(stage)), policy.gradient(REWARDS))


ENDS = {
    "a stop string": (tabular.stop_string, {"top_k": 2}),
    "the limit alone": (tabular.never, {"top_k": 2}),
}


@pytest.mark.parametrize("name", few(ENDS, "a stop string"))
def test_whatever_ends_a_completion(name):
    """Its tokens are those of the mask; one that ends at the limit counts like any other."""
    ends, sampling = ENDS[name]
    every = completions(ends)
    rewards = np.random.default_rng(4).normal(size=(PROMPTS, len(every.tokens)))
    stage = stage_of("rloo", sampling=sampling)
    policy = exact(TABLE, every, stage.token_filter)
    found = expected_step(stage, Given(TABLE, every, rewards))
    assert_gradient(found, policy.gradient(rewards))


SPLITS = {
    "an update for each prompt": {"sequences_per_update": 2},
    "an update for each sample": {"sequences_per_update": 1},
    "two passes": {"sequences_per_micro_batch": 2},
    "a pass for each sample, two epochs": {"sequences_per_micro_batch": 1, "epochs_per_step": 2},
}


@pytest.mark.parametrize("name", few(SPLITS, "an update for each prompt", "two passes"))
def test_no_split_of_the_batch_changes_it(name):
    changes = {"advantage": "group_leave_one_out", **SUM}
    stage = stage_of("dr_grpo", changes, batch=SPLITS[name])
    assert_gradient(expected_step(stage, given_to(stage)), POLICY.gradient(REWARDS))


# ------------------------------------------------------------------------------ claims: KL

REF = exact(REFERENCE, EVERY)
GAP = np.where(EVERY.mask, POLICY.token_logprobs - REF.token_logprobs, 0.0)  # x, [P, K, T]
BETA = 0.3
SLOPES = {  # of the estimator as a function of x
    "k1": np.ones_like,
    "k2": lambda x: x,
    "k3": lambda x: 1 - np.exp(-x),
    "k1_plus": lambda x: x,
    "k3_plus": lambda x: x,
}
VALUES = {
    "k1": lambda x: x,
    "k2": lambda x: x**2 / 2,
    "k3": lambda x: np.exp(-x) - 1 + x,
}


def occupancy(policy):
    """[S] f64, expected visits of each state, mean over prompts."""
    visits = np.zeros(len(TABLE))
    weight = np.where(EVERY.mask, policy.probability[..., None], 0.0) / PROMPTS
    np.add.at(visits, policy.states, weight)
    return visits


def state_kl_gradient(visits, *, forward):
    """[S * V], of the KL between next-token distributions, states visited as often as before.

    Args:
        visits: [S] of each state.
        forward: KL(policy || reference); else KL(reference || policy).
    """
    p, q = POLICY.table, REF.table
    if forward:
        log_ratio = np.log(p / q)
        slope = p * (log_ratio - (p * log_ratio).sum(axis=1, keepdims=True))
    else:
        slope = p - q
    return (visits[:, None] * slope).reshape(-1)


SEQUENCE_KL = POLICY.gradient(GAP.sum(axis=2))  # gradient of KL(policy || ref) of completions


@pytest.mark.parametrize("estimator", few(SLOPES, "k1", "k2", "k3", "k3_plus"))
def test_the_gradient_of_a_kl_in_the_loss(estimator):
    """The gradient of the KL of states: k2, k1_plus, k3_plus forward, k3 backward, k1 none."""
    changes = {"kl_placement": "loss", "kl_estimator": estimator, "kl_weight": BETA}
    with quiet_unless_useless(estimator):
        stage = stage_of("rloo", changes)
    found = expected_step(stage, given_to(stage, reference=REFERENCE))
    slopes = np.where(EVERY.mask, SLOPES[estimator](GAP), 0.0)
    term = np.einsum("pk,pkt,pktd->d", POLICY.probability, slopes, POLICY.token_scores) / PROMPTS
    assert_gradient(found, POLICY.gradient(REWARDS) - BETA * term)
    forward, backward = (state_kl_gradient(occupancy(POLICY), forward=x) for x in (True, False))
    stated = {"k1": 0 * forward, "k3": backward}.get(estimator, forward)
    np.testing.assert_allclose(term, stated, atol=1e-12)
    assert np.abs(forward - SEQUENCE_KL).max() > 0.05  # which is not that of completions


@pytest.mark.parametrize("estimator", few(VALUES, "k1", "k3"))
def test_the_gradient_of_a_kl_in_the_reward(estimator):
    """k1 gives the gradient of KL(policy || ref) of completions; k2 and k3 leave a part out."""
    changes = {"kl_placement": "reward", "kl_estimator": estimator, "kl_weight": BETA}
    stage = stage_of("rloo", changes)
    found = expected_step(stage, given_to(stage, reference=REFERENCE))
    penalty = np.where(EVERY.mask, VALUES[estimator](GAP), 0.0).sum(axis=2)
    assert_gradient(found, POLICY.gradient(REWARDS - BETA * penalty))
    if estimator == "k1":
        assert_gradient(found, POLICY.gradient(REWARDS) - BETA * SEQUENCE_KL)
    if estimator == "k3":
        # Its expected value is that of k1, but its own dependence on the policy is left out.
        missing = state_kl_gradient(occupancy(POLICY), forward=False)
        whole = POLICY.gradient(REWARDS) - BETA * SEQUENCE_KL
        assert_gradient(found, whole + BETA * missing)


@pytest.mark.parametrize("estimator", few(SLOPES, "k3", "k3_plus"))
def test_a_kl_that_is_weighted_by_the_ratio_is_that_of_the_policy(estimator):
    """With samples of an older policy: in the states that this one visits."""
    changes = {"kl_placement": "loss", "kl_estimator": estimator, "kl_weight": BETA}
    changes |= {"kl_importance_weighted": True, "surrogate": "unclipped", **SUM}
    with quiet_unless_useless(estimator):
        stage = stage_of("dr_grpo", changes, batch={"epochs_per_step": 2})
    given = given_to(stage, 0 * REWARDS, reference=REFERENCE, old=OTHER)
    visits = occupancy(exact(OTHER, EVERY))
    assert_gradient(expected_step(stage, given), -BETA * state_kl_gradient(visits, forward=True))


def test_the_entropy_bonus_is_the_entropy_of_states():
    stage = stage_of("rloo", {"entropy_weight": 0.2})
    found = expected_step(stage, given_to(stage, 0 * REWARDS))
    log_p = np.log(POLICY.table)
    mean = (POLICY.table * log_p).sum(axis=1, keepdims=True)
    slope = -POLICY.table * (log_p - mean)
    assert_gradient(found, 0.2 * (occupancy(POLICY)[:, None] * slope).reshape(-1))


# -------------------------------------------------------------- claims: samples of other policies


def test_whole_weights_of_sequences_undo_another_sampler():
    """Without a cap that binds they are exact, whatever sampled: trainer / sampler, by sequence."""
    changes = {"advantage": "ema", "surrogate": "cispo", "ratio": "token", **SUM}
    changes |= {"correction_level": "sequence", "correction_cap": 1e6}
    stage = stage_of("tis", changes)
    found = expected_step(stage, given_to(stage, behavior=OTHER))
    assert_gradient(found, POLICY.gradient(REWARDS))


@pytest.mark.parametrize("cap", [1.2, 1e6])
def test_weights_of_tokens_have_the_bias_of_their_definition(cap):
    """min(trainer / sampler, cap) of each token; even whole ones correct no state before it."""
    changes = {"advantage": "ema", "surrogate": "cispo", "correction_cap": cap, **SUM}
    stage = stage_of("tis", changes)
    found = expected_step(stage, given_to(stage, behavior=OTHER))
    sampler = exact(OTHER, EVERY)
    weights = np.minimum(np.exp(POLICY.token_logprobs - sampler.token_logprobs), cap)
    factors = sampler.probability[..., None] * weights * (REWARDS - 0.3)[..., None]
    expected = np.einsum("pkt,pktd->d", factors, POLICY.token_scores) / PROMPTS
    assert_gradient(found, expected)
    assert np.abs(expected - POLICY.gradient(REWARDS)).max() > 0.01


@pytest.mark.parametrize("surrogate", ["unclipped", "clipped"])
def test_later_updates_of_a_step_have_the_bias_of_their_definition(surrogate):
    """The ratio of a token times its advantage, nothing where the clip stops it."""
    changes = {"advantage": "ema", "surrogate": surrogate, **SUM}
    stage = stage_of("dr_grpo", changes, batch={"epochs_per_step": 2})
    found = expected_step(stage, given_to(stage, old=OTHER))
    old, advantages = exact(OTHER, EVERY), (REWARDS - 0.3)[..., None]
    ratio = np.exp(POLICY.token_logprobs - old.token_logprobs)
    if surrogate == "clipped":
        stopped = np.where(advantages > 0, ratio > 1.2, ratio < 0.8)
        assert 0.2 < stopped[:, EVERY.mask].mean() < 0.8
        ratio = np.where(stopped, 0.0, ratio)
    factors = old.probability[..., None] * ratio * advantages
    assert_gradient(found, np.einsum("pkt,pktd->d", factors, POLICY.token_scores) / PROMPTS)
