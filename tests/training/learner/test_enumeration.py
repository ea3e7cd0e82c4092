"""The expected gradient of every method, by enumeration of all batches, against what it claims.

The learner's own functions compute the gradient of every batch that a tabular policy can sample
(tabular.py); its mean is exact up to float32. It is compared with

- the gradient of expected reward, or of the stated regularised objective, where a method claims it;
- else with what the method's definition gives, written down here once more: `ADVANTAGES`,
  `TOKEN_WEIGHTS`. So the bias of a method is what its paper says, and nothing else.
"""

import dataclasses
import functools

import numpy as np
import pytest
from scipy import stats

from rljax.registry import METHODS
from rljax.sampling.distribution import TokenFilter
from tests.training.learner.enumerated import (
    CRITIC,
    EVERY,
    GRADED,
    POLICY,
    REWARDS,
    SUM,
    TABLE,
    assert_gradient,
    few,
    given_to,
)
from tests.training.learner.tabular import (
    PROMPTS,
    SAMPLES,
    SLOTS,
    VOCAB,
    every_batch,
    exact,
    expected_step,
    stage_of,
)

# ------------------------------------------------------------------- claims: expected reward

# Method -> (what else the config sets, by which factor of the gradient its updates go).
UNBIASED = {
    "reinforce": ({}, 1),
    "rloo": ({}, 1),
    "remax": ({}, 1),
    "pipeline_rl": ({}, 1),
    # A sample that is part of its own baseline shrinks the gradient, by a constant.
    "reinforce_batch": ({}, 1 - 1 / (PROMPTS * SAMPLES)),
    "dr_grpo": ({}, (1 - 1 / SAMPLES) / SLOTS),
    # A critic, however wrong, is a baseline where lambda is 1 and nothing is whitened.
    "vc_ppo": ({"whiten_advantages": False, "gae_lambda": 1.0, **SUM}, 1),
}


@pytest.mark.parametrize("method", UNBIASED)
def test_an_unbiased_method_follows_the_gradient_of_expected_reward(method):
    changes, factor = UNBIASED[method]
    stage = stage_of(method, changes, **(CRITIC if method == "vc_ppo" else {}))
    found = expected_step(stage, given_to(stage))
    assert_gradient(found, factor * POLICY.gradient(REWARDS))


# ----------------------------------------------------- by definition: rows with the bias they say


@dataclasses.dataclass(frozen=True)
class Batch:
    """Every batch that can be sampled: [M, P, G] each."""

    scores: np.ndarray  # after the shaping of the row
    correct: np.ndarray
    lengths: np.ndarray
    kept: np.ndarray  # whose group the filter of the row keeps


def _z(scores, deviation_of):
    centred = scores - scores.mean(axis=2, keepdims=True)
    return centred / (deviation_of + 1e-6)


def _deviation(scores):
    return scores.std(axis=2, ddof=1, keepdims=True)


def _whitened(values, batch):
    """Mean 0 and unbiased variance 1 over the tokens that are kept."""
    tokens = (batch.lengths * batch.kept).sum(axis=(1, 2), keepdims=True)
    weight = batch.lengths * batch.kept / np.maximum(tokens, 1)
    mean = (weight * values).sum(axis=(1, 2), keepdims=True)
    variance = (weight * (values - mean) ** 2).sum(axis=(1, 2), keepdims=True)
    variance = variance * tokens / np.maximum(tokens - 1, 1)
    return (values - mean) / np.sqrt(variance + 1e-8)


def _centred(b):
    return b.scores - b.scores.mean(axis=2, keepdims=True)


def _gpg(b):
    signal = np.ptp(b.scores, axis=2, keepdims=True) > 0
    share = np.broadcast_to(signal, b.scores.shape).mean(axis=(1, 2), keepdims=True)
    return _centred(b) / np.maximum(share, 1e-9)


def _pass_at_k(b):
    ordered = np.sort(b.scores, axis=2)
    lead = ordered[..., -1:] - ordered[..., -2:-1]
    best = b.scores == ordered[..., -1:]
    return np.where(best, lead / (_deviation(b.scores) + 1e-6), 0.0)


def _bnpo(b):
    rates = b.scores.mean(axis=2)
    mu, v = rates.mean(axis=1), rates.var(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        k = np.where(v > 0, mu * (1 - mu) / v - 1, 0.0)
        alpha, beta = (np.maximum(1 + k * x / 3, 1)[:, None] for x in (mu, 1 - mu))
        weight = np.minimum(1 / stats.beta.pdf(rates, alpha, beta), 1e6)
    return np.where(np.ptp(b.scores, axis=2) > 0, weight, 0.0)[..., None] * _centred(b)


def _virtual(b):
    more = np.concatenate([b.scores, np.ones_like(b.scores[..., :1])], axis=2)
    return (b.scores - more.mean(axis=2, keepdims=True)) / (_deviation(more) + 1e-6)


ADVANTAGES = {
    "mean": _centred,
    "zscore": lambda b: _z(b.scores, _deviation(b.scores)),
    "negative zscore": lambda b: np.minimum(_z(b.scores, _deviation(b.scores)), 0.0),
    "batch deviation": lambda b: _z(b.scores, b.scores.std(axis=(1, 2), ddof=1, keepdims=True)),
    "whitened": lambda b: _whitened(b.scores, b),
    "whitened mean": lambda b: _whitened(_centred(b), b),
    "length weighted": lambda b: (
        b.scores
        - (b.lengths * b.scores).sum(axis=2, keepdims=True) / b.lengths.sum(axis=2, keepdims=True)
    ),
    "score": lambda b: np.maximum(b.scores, 0.0),
    "better": lambda b: (_centred(b) > 0).astype(float),
    "right only": lambda b: np.where(b.correct, b.scores, 0.0),
    "wrong only": lambda b: np.where(b.correct, 0.0, b.scores - 1),
    "right a tenth": lambda b: np.where(b.correct, 0.1 * b.scores, b.scores - 1),
    "gpg": _gpg,
    "pass at k": _pass_at_k,
    "mean ratio": lambda b: _centred(b) / (b.scores.mean(axis=2, keepdims=True) + 1e-6),
    "bnpo": _bnpo,
    "virtual": _virtual,
}
TOKEN_WEIGHTS = {
    "token mean": lambda b: b.kept / np.maximum((b.lengths * b.kept).sum((1, 2), keepdims=True), 1),
    "row mean of token mean": lambda b: 1 / b.lengths / (PROMPTS * SAMPLES),
    "row mean of token sum": lambda b: np.full(b.scores.shape, 1 / (PROMPTS * SAMPLES)),
}
OF_TOKENS, OF_ROWS, SUMMED = TOKEN_WEIGHTS

# On the policy that sampled every ratio is 1 and no clip stops anything: method -> (advantage,
# weight of a token). What else a row has, a KL or an entropy bonus, is switched off here.
BY_DEFINITION = {
    "reinforce_pp": ("whitened", OF_TOKENS),
    "reinforce_pp_baseline": ("whitened mean", OF_TOKENS),
    "grpo": ("zscore", OF_ROWS),
    "dapo": ("zscore", OF_TOKENS),
    "lite_ppo": ("batch deviation", OF_TOKENS),
    "gpg": ("gpg", OF_TOKENS),
    "opo": ("length weighted", OF_TOKENS),
    "pass_at_k": ("pass at k", OF_TOKENS),
    "maxrl": ("mean ratio", OF_TOKENS),
    "raft": ("score", OF_TOKENS),
    "raft_plus_plus": ("score", OF_TOKENS),
    "filtered": ("better", SUMMED),
    "psr": ("right only", OF_TOKENS),
    "nsr": ("wrong only", OF_TOKENS),
    "w_reinforce": ("right a tenth", OF_TOKENS),
    "grpo_n": ("negative zscore", OF_ROWS),
    "gspo_n": ("negative zscore", OF_ROWS),
    "ngrpo": ("virtual", OF_TOKENS),
    "bnpo": ("bnpo", SUMMED),
    "dler": ("whitened mean", OF_TOKENS),
    "da_dler": ("whitened mean", OF_TOKENS),
    "gspo": ("zscore", OF_ROWS),
    "luspo": ("zscore", SUMMED),
    # The loss of given problems; which ones are given is the business of a curriculum.
    "vade": ("zscore", OF_ROWS),
    "dump": ("zscore", OF_ROWS),
    "gain_rl": ("zscore", OF_ROWS),
    "cispo": ("zscore", OF_TOKENS),
    "sapo": ("zscore", OF_ROWS),
    "gmpo": ("zscore", OF_ROWS),
    "vespo": ("zscore", OF_TOKENS),
    "dppo_tv": ("zscore", OF_TOKENS),
    "dppo_kl": ("zscore", OF_TOKENS),
    "dro": ("zscore", OF_TOKENS),
    "kl_cov": ("zscore", OF_TOKENS),
    "tis": ("zscore", OF_ROWS),
    "mis": ("zscore", OF_ROWS),
    "icepop": ("zscore", OF_ROWS),
    "geo_rs": ("zscore", OF_ROWS),
    "m2po": ("zscore", OF_ROWS),
    "aipo": ("mean", OF_TOKENS),
    "areal": ("whitened", OF_TOKENS),
    "prime_rl": ("mean", OF_TOKENS),
    "prime_rl_ipo": ("mean", OF_TOKENS),
}
FAST = ("grpo", "dapo", "reinforce_pp", "bnpo", "kl_cov")

# A critic's rows and demonstrations have tests of their own below.
OWN_TEST = ("ppo", "vc_ppo", "hpt")

# Rows that claim another gradient than that of expected reward, and are not enumerated.
NOT_ENUMERATED = {
    "pcl": "the loss of dr_grpo over lengths; its critic only chooses problems",
    "grpo_without_ties": "the loss of grpo; leaves out groups without signal",
    "greso": "the loss of grpo; leaves out groups and chooses problems",
    "balanced_filter": "the loss of grpo on groups within bounds; two samples are too few",
    "reinforce_ada": "keeps a balanced choice of more samples; its own test",
    "reinforce_ada_positive": "the same",
    "speed": "leaves out groups by their first samples",
    "gvm_raft_plus_plus": "the loss of raft_plus_plus; draws more samples of some problems",
    "gvm_grpo": "the loss of grpo; draws more samples of some problems",
    "canon_inter": "compares halves of a group, for which two samples are too few",
    "canon_intra": "the same",
    "canon_dynamic": "the same",
    "canon_eff": "the same",
    "crpg": "rewards what satisfies constraints, and by its log-ratio to the start",
    "crraft": "learns one sample of a prompt, the best that satisfies constraints",
    "grpo_gradient_weighted": "is GRPO on rewards whose weights move",
    "recap": "is GRPO on each of several rewards, whose weights move",
    "spiral": "compares roles of episodes; its own test",
    "hierarchical_grpo": "the same",
    "waltzrl": "the same",
    "mu_ppo": "mixes the KL and each reward by multipliers that move",
    "xi_ppo": "the same",
    "grpo_components": "is GRPO on each of several rewards",
    "rloo_hypervolume": "is RLOO with a factor of all rewards",
    "ibpo": "chooses samples by a budget of long ones",
    "tokenbuncher": "its reward is the policy's own entropy",
    "clip_cov": "leaves out random tokens",
    "steer": "weighs tokens by their entropy",
    "lp_reg": "pulls rare tokens to another policy",
    "hapo": "weighs tokens by their entropy",
    "top_entropy": "chooses tokens by their entropy",
    "d3s": "chooses tokens by their entropy",
    "disco": "scores right samples above wrong ones",
    "disco_b": "the same",
    "disco_ratio": "the same",
    "vapo": "lambda by length, and likelihood of right samples",
    "t_ppo": "a step holds parts of completions",
    "ppo_plus_plus": "a guide writes a part of the samples",
    "aggrevated": "the same",
    "lols": "the same",
    "d2lols": "the same",
    "ma_rlhf": "macro actions of more tokens than there are here",
    "spo_chain": "samples from prefixes",
    "spo_tree": "samples branch",
    "deepsearch": "trajectories of a search are no independent samples",
    "vineppo": "samples from prefixes",
    "luffy": "demonstrations are rewarded as samples",
    "srft": "the same",
    "scaf_grpo": "a sample behind a hint takes the place of another",
    "guide_grpo": "samples behind hints are rewarded as samples",
    "copg_on_policy": "its scores hold the log-ratio to the start; its own test",
    "opd": "its advantage is a teacher's log-ratio",
    "spg": "masked diffusion has bounds of its likelihood, no likelihood",
    "bgpo": "the same",
    "diffu_grpo": "the same",
    "wd1": "the same",
    "unigrpo": "the same",
    "coupled_grpo": "the same",
    "espo": "the same",
    "gdpo": "the same",
    "tracerl": "the same",
    "tracerl_value": "the same",
}


def test_every_row_is_enumerated_or_says_why_not():
    rows = {name for name, row in METHODS.items() if row.family == "policy_gradient"}
    listed = [*UNBIASED, *BY_DEFINITION, *NOT_ENUMERATED, *OWN_TEST]
    assert set(listed) == rows
    assert len(listed) == len(rows) + 1  # vc_ppo: once as it is, once without its bias


@functools.cache
def batches():
    """Every batch of POLICY and its probability."""
    return every_batch(POLICY)


def batch_of(stage, rewards=GRADED):
    """Every batch as a row's advantages see it: shaped, and filtered by its groups."""
    index, _ = batches()
    row = np.arange(PROMPTS)[:, None]
    scores, lengths, correct = rewards[row, index], EVERY.lengths[index], (rewards == 1)[row, index]
    finished, shaping = EVERY.finished[index], stage.objective.choices["reward_shaping"]
    if shaping in ("truncation", "difficulty_truncation"):
        scores = scores * finished
    if shaping == "soft_overlong":  # the limit is 3, the buffer 1
        scores = scores - 0.5 * (lengths == SLOTS)
    rates = correct.mean(axis=2, keepdims=True)
    kept = {
        "none": np.full(rates.shape, True),
        "mixed": (rates > 0) & (rates < 1),
        "not_all_correct": rates < 1,
        "with_signal": np.ptp(scores, axis=2, keepdims=True) > 0,
    }[stage.objective.choices["group_filter"]]
    return Batch(scores, correct, lengths, np.broadcast_to(kept, scores.shape))


def without_regularisers(method):
    """A row's objective with nothing but its policy gradient."""
    parts, changes = METHODS[method].parts, {}
    if parts.get("kl_placement"):
        changes["kl_placement"] = "none"
    return changes | ({"entropy_weight": 0.0} if parts.get("entropy_weight") else {})


@pytest.mark.parametrize("method", few(BY_DEFINITION, *FAST))
def test_a_biased_method_has_the_bias_of_its_definition(method):
    advantage, weight = BY_DEFINITION[method]
    stage = stage_of(method, without_regularisers(method))
    found = expected_step(stage, given_to(stage, GRADED))
    index, chances = batches()
    batch = batch_of(stage)
    kept = ADVANTAGES[advantage](batch) * TOKEN_WEIGHTS[weight](batch) * batch.kept
    scores = POLICY.scores[np.arange(PROMPTS)[:, None], index]
    expected = np.einsum("m,mpg,mpgd->d", chances, kept, scores)
    assert_gradient(found, expected)
    assert _angle(expected, POLICY.gradient(GRADED)) > 0.01  # else it belongs to UNBIASED


def _angle(x, y):
    """Between two directions, in radians."""
    cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    return float(np.arccos(np.clip(cosine, -1, 1)))


@pytest.mark.parametrize("method, gae_lambda", [("vc_ppo", 0.9), ("ppo", 0.95)])
def test_a_critic_s_rows_have_the_bias_of_lambda_and_whitening(method, gae_lambda):
    """GAE of a critic that is wrong, whitened over the batch's tokens."""
    stage = stage_of(method, {"gae_lambda": gae_lambda, **without_regularisers(method)}, **CRITIC)
    found = expected_step(stage, given_to(stage, GRADED))
    index, chances = batches()
    row = np.arange(PROMPTS)[:, None]
    values = (TABLE @ np.array([0.5, -0.3, 0.8]) + 0.2)[POLICY.states[row, index]]
    mask = EVERY.mask[index]
    last = np.arange(SLOTS) == EVERY.lengths[index][..., None] - 1
    advantages, following = np.zeros(mask.shape), np.zeros(mask.shape[:-1])
    for t in reversed(range(SLOTS)):
        next_value = np.where(last[..., t] | (t == SLOTS - 1), 0.0, values[..., min(t + 1, 2)])
        reward = np.where(last[..., t], GRADED[row, index], 0.0)
        following = reward + next_value - values[..., t] + gae_lambda * following
        following = advantages[..., t] = np.where(mask[..., t], following, 0.0)
    tokens = mask.sum(axis=(1, 2, 3), keepdims=True)
    mean = advantages.sum(axis=(1, 2, 3), keepdims=True) / tokens
    off = np.where(mask, advantages - mean, 0.0)
    variance = (off**2).sum(axis=(1, 2, 3), keepdims=True) / (tokens - 1)
    factors = off / np.sqrt(variance + 1e-8) / tokens
    scores = POLICY.token_scores[row, index]
    assert_gradient(found, np.einsum("m,mpgt,mpgtd->d", chances, factors, scores))


def test_hpt_is_the_mean_over_prompts_of_samples_or_of_the_demonstration():
    """arXiv:2509.04419: a prompt without a right sample learns its demonstration instead."""
    stage = stage_of("hpt", {"entropy_weight": 0.0, "supervised_weight": 0.7})
    shown = np.array([5, 9])
    found = expected_step(stage, given_to(stage, GRADED, shown=shown))
    index, chances = batches()
    row = np.arange(PROMPTS)[:, None]
    rewards = GRADED[row, index]
    advantages = rewards - rewards.mean(axis=2, keepdims=True)
    samples = np.einsum("mpg,mpgd->mpd", advantages, POLICY.scores[row, index]) / SAMPLES / SLOTS
    likelihood = POLICY.scores[np.arange(PROMPTS), shown] / EVERY.lengths[shown][:, None]
    fails = (rewards < 1).all(axis=2)[..., None]
    step = np.where(fails, 0.7 * likelihood, samples).mean(axis=1)
    assert_gradient(found, chances @ step)


def test_the_table_is_drawn_from_as_the_network_computes_it():
    """tabular.py itself: probabilities add up, and each token has a state of its own."""
    for token_filter in (TokenFilter(), TokenFilter(temperature=0.5, top_p=0.9)):
        policy = exact(TABLE, EVERY, token_filter)
        np.testing.assert_allclose(policy.probability.sum(axis=1), 1.0)
        # The mean of the score of a distribution is 0.
        np.testing.assert_allclose(policy.gradient(np.ones_like(REWARDS)), 0.0, atol=1e-12)
    used = POLICY.states[:, EVERY.mask]
    assert len(np.unique(used)) == PROMPTS * (1 + 2 + 4) and used.max() < len(TABLE)
    assert TABLE.shape == (PROMPTS * (1 + VOCAB + VOCAB**2), VOCAB)
