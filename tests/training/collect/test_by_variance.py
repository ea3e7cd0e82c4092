"""Samples by variance: what is asked of the samplers, what is handed on, what is refused."""

import numpy as np
import pytest

from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.objectives.variance_allocation import by_variance, sample_shares, whole_samples
from rljax.rewards.pool import Scores
from rljax.sampling.request import Rollouts, StopReason
from rljax.training.collect.by_variance import SampledByVariance, check_noise
from rljax.training.collect.experience import Policy
from rljax.training.collect.prompts import Prompts
from rljax.training.collect.rollouts import Samples
from rljax.training.families.policy_gradient import PolicyGradient
from tests.training.steps import take_step

RIGHT = {0: "1111", 1: "1000", 2: "0000"}  # of four pilot samples


def stage_of(**objective):
    rl = {
        "method": "gvm_grpo",
        "steps": 1,
        "batch": {"prompts_per_step": 3, "samples_per_prompt": 4},
        "objective": objective,
    }
    return validate(complete({"stages": ("rl",), "rl": rl}))[0]


def samples_of(prompts, group):
    ids = [record["id"] for record in prompts.records]
    tokens = np.zeros((len(ids), group, 1), np.int32)
    mask, zeros = np.ones(tokens.shape, bool), np.zeros(tokens.shape, np.float32)
    rollouts = Rollouts(
        tokens=tokens,
        mask=mask,
        **{n: zeros for n in ("logprobs", "model_logprobs", "tempered_logprobs")},
        entropy=zeros,
        temperature=zeros,
        stop_reason=np.full(tokens.shape[:2], StopReason.STOP_TOKEN),
        slot_steps=np.zeros(len(ids), int),
    )
    texts = [RIGHT[one][g] for one in ids for g in range(group)]
    prompts_of = np.array(ids)[:, None]
    return Samples(
        prompts.records, ["p"] * len(ids), prompts_of, prompts_of >= 0, rollouts,
        np.zeros(mask.shape, np.int32), texts, 0.5,
    )  # fmt: skip


def scored(samples):
    right = np.array([text == "1" for text in samples.texts])
    none, total = np.zeros(len(right), bool), right.astype(np.float32)
    return Scores(total, {"r": total}, right, ~none, none, none, None), 0.25


def drawn(**objective):
    calls = []

    def sampler(group):
        def sample(weights, policy, prompts, *, step, call=0, most_prompts):
            ids = [record["id"] for record in prompts.records]
            calls.append((call, ids, most_prompts))
            return samples_of(prompts, group)

        return sample

    def norms(params, samples, rows):
        assert rows.tolist() == [0, 1, 2, 3, 4]  # the right ones
        return np.array([1.0, 1.0, 3.0, 3.0, 3.0])

    stage = stage_of(pilot_samples=4, **objective)
    allocation = SampledByVariance(stage, sampler(4), sampler(1), scored, norms)
    prompts = Prompts([{"id": one} for one in RIGHT], np.arange(3))
    return allocation.draw({}, Policy({}, version=3), prompts, step=1), calls


def test_pilot_samples_say_how_often_each_prompt_is_sampled():
    found, calls = drawn()
    shares = sample_shares(np.array([1, 0.25, 0]), np.array([2.0, 3.0, 0]), 12, by_variance())
    counts = whole_samples(shares, 12)
    assert counts.tolist() == [3, 9, 0]  # by 2 / sqrt(1) and 3 / sqrt(0.25)
    place = np.repeat([0, 1, 2], counts).tolist()
    assert calls == [(0, [0, 1, 2], 12), (1, place, 12)]
    assert found.annotations.arrays["group_ids"].tolist() == place
    assert found.samples.rollouts.tokens.shape == (12, 1, 1)
    metrics = found.annotations.metrics
    assert metrics["sampled_tokens"] == 24 and metrics["samples_per_prompt_mean"] == 8
    assert metrics["samples_per_prompt_max"] == 9
    assert metrics["allocation_share"] == pytest.approx(2 / 3)
    assert found.samples.seconds == 1.0 and found.annotations.seconds == {"scoring": 0.5}
    assert len(found.scored.correct) == 24


def test_a_step_compares_samples_with_those_of_their_own_problem(pieces):
    """Nine programs and a real step: the groups have different sizes, and sum to 0 each."""
    made = pieces(
        "grpo",
        "--config.grpo.method=gvm_grpo",
        "--config.grpo.objective.kl_placement=none",
        "--config.grpo.objective.pilot_samples=4",
        "--config.grpo.batch.sequences_per_update=32",
    )
    PolicyGradient.check(made.context, made.stage)
    family = PolicyGradient(made.context, made.stage, None, 0)
    _, batches = take_step(family, made.state, 1)
    rows = batches.detail.rows
    ids = rows["group_ids"]
    problems = [record["id"] for record in batches.detail.samples.records]
    assert len(problems) == 32 and len(set(problems)) == len(set(ids.tolist()))
    advantages = rows["advantages"][:, 0]
    sums = np.bincount(ids, weights=advantages)
    np.testing.assert_allclose(sums, 0, atol=1e-5)
    # The same problem draws other noise each time.
    texts = np.array(batches.detail.samples.texts)
    most = np.bincount(ids).argmax()
    assert len(set(texts[ids == most])) > 1


def test_addresses_of_noise_must_suffice():
    check_noise(2**26, stage_of())
    with pytest.raises(ValueError, match="134217728 problems 12 times in a step"):
        check_noise(2**27, stage_of())


@pytest.mark.parametrize(
    ("objective", "batch", "message"),
    [
        ({"group_filter": "mixed"}, {}, "it must be 'none'"),
        ({"curriculum": "vade"}, {}, "draws more of some problems"),
        ({"advantage": "pool_mean"}, {}, "take 'successive'"),
        ({"segmentation": "tokens"}, {}, "segmentation"),
        ({"advantage": "remax"}, {}, "scores a greedy completion of each prompt"),
        ({}, {"share_prompts": True}, "share_prompts=True puts the samples"),
        ({"damping": -1.0}, {}, r"damping"),
    ],
)
def test_what_does_not_go_with_it_is_refused(objective, batch, message):
    rl = {"method": "gvm_grpo", "steps": 1, "objective": objective, "batch": batch}
    with pytest.raises(ValueError, match=message):
        validate(complete({"stages": ("rl",), "rl": rl}))
