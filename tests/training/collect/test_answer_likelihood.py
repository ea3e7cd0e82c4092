"""The likelihood of the reference answer takes the place of a verifier's score."""

import json

import numpy as np
import pytest

from rljax.config.load import complete
from rljax.config.validate import validate
from rljax.objectives.answer_rewards import ANSWER_REWARDS, with_missing
from rljax.parallel.rules import put_rows
from rljax.training.collect.answer_likelihood import AnswerLikelihood
from rljax.training.collect.reference_answers import answered_rows, form_of, without_thoughts
from rljax.training.collect.sampled import Drawn
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.update.logprobs import model_rows
from rljax.training.update.rows import per_sample


@pytest.mark.parametrize(
    "name, expected",
    [
        ("log_probability", np.log(0.5 * 0.25)),
        ("probability", 0.125),
        ("mean_token_probability", 0.375),
    ],
)
def test_rewards_by_hand(name, expected):
    logprobs = np.log(np.array([[0.9, 0.5, 0.25, 0.1]], np.float32))
    mask = np.array([[False, True, True, False]])
    np.testing.assert_allclose(ANSWER_REWARDS[name](logprobs, mask), [expected], rtol=1e-6)


def test_what_a_thought_adds_by_hand():
    """0.375 behind a thought; 0.3 without one is less, 0.5 is more and counts as nothing."""
    logprobs = np.log(np.array([[0.9, 0.5, 0.25]] * 2, np.float32))
    mask = np.array([[False, True, True]] * 2)
    bare = np.log(np.array([[0.2, 0.4, 0.1], [0.5, 0.5, 0.1]], np.float32))
    bare_mask = np.array([[True, True, False]] * 2)
    found = ANSWER_REWARDS["debiased_token_probability"](logprobs, mask, bare, bare_mask)
    np.testing.assert_allclose(found, [0.075, 0.0], atol=1e-6)


def test_a_sample_without_an_answer_never_beats_one_with_an_answer():
    """Of a long answer the log-probability may be below the reward of a missing one."""
    rewards = np.array([[-3.0, 7.0, -5.0], [-400.0, 7.0, -250.0], [7.0, 7.0, 7.0]], np.float32)
    there = np.array([[True, False, True], [True, False, True], [False] * 3])
    found = with_missing(rewards, there, missing_reward=-100.0)
    assert found.tolist() == [[-3, -100, -5], [-400, -400, -250], [-100] * 3]


@pytest.fixture
def drawn(pieces):
    """drawn(option) -> made pieces, the family, and the experience of its first step."""

    def draw(option: str, *words: str):
        made = pieces(
            "grpo",
            *("--config.grpo.method=rloo", "--config.grpo.batch.sequences_per_update=32"),
            f"--config.grpo.objective.answer_reward={option}",
            "--config.grpo.data.max_answer_tokens=4",
            # So that a fresh policy writes the phrase now and then.
            "--config.grpo.sampling.logit_bias=((259, 4.0),)",
            *(f"--config.grpo.{word}" for word in words),
        )
        family = PolicyGradient(made.context, made.stage, None, 12)
        experience, _ = family.source.collect(
            family.policy(made.state, 1), family.source.first_state(), 1
        )
        return made, family, experience

    return draw


@pytest.mark.parametrize("shared", [True, False])
def test_samples_are_compared_by_the_answer_behind_their_thought(drawn, shared):
    made, family, experience = drawn("log_probability", f"batch.share_prompts={shared}")
    scores, stage = experience.arrays["scores"], made.stage
    answered = answered_rows(
        made.context, form_of(stage), experience.samples, slots=10, share_prompts=False
    )
    there = answered.format_ok.reshape(-1)
    assert there.any() and not there.all()
    np.testing.assert_array_equal(scores[~there], -100.0)
    assert (scores[there] < 0).all()
    one = AnswerLikelihood(made.context, stage)
    if not shared:
        rows = model_rows(answered.rows)
        logprobs = per_sample(np.asarray(one.score(made.params, put_rows(rows, made.context.mesh))))
        totals = np.where(answered.rows["answer_mask"], logprobs, 0.0).sum(axis=-1)
        np.testing.assert_allclose(scores[there], totals[there], rtol=1e-5)
    assert experience.metrics["answer_reward"] == pytest.approx(scores.mean(), rel=1e-5)
    assert "accuracy" in experience.metrics  # the verifier still measures
    _, batches = family.batches(made.state, experience, 1)
    (batch,) = batches.batches
    groups = scores.reshape(-1, 4)
    expected = groups - (groups.sum(-1, keepdims=True) - groups) / 3
    np.testing.assert_allclose(  # the same at every token
        per_sample(batch["advantages"])[:, 0], expected.reshape(-1), rtol=1e-4, atol=1e-4
    )


def test_the_answer_without_a_thought_is_scored_behind_the_phrase(drawn):
    """What a sample that is the phrase alone would have: its debiased reward is 0."""
    made, family, experience = drawn("debiased_token_probability", "batch.share_prompts=False")
    one, samples = AnswerLikelihood(made.context, made.stage), experience.samples
    bare = without_thoughts(made.context, form_of(made.stage), samples)
    assert (bare.flat("tokens")[:, 0] == 259).all() and (bare.flat("mask").sum(axis=1) == 1).all()
    policy = family.policy(made.state, 1)
    of_bare = one(Drawn(policy, made.params, bare, experience.scores, 1)).arrays["scores"]
    np.testing.assert_allclose(of_bare, 0.0, atol=1e-6)
    scores = experience.arrays["scores"]
    assert (0 <= scores).all() and (scores < 1).all() and (scores > 0).any()


def test_an_empty_reference_answer_is_refused_before_anything_runs(pieces, tmp_path):
    path = tmp_path / "problems.jsonl"
    lines = [{"prompt": "1+1=", "reference": "2"}, {"prompt": "1+2=", "reference": ""}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = pieces(
        "grpo",
        *("--config.grpo.method=rloo", "--config.grpo.batch.sequences_per_update=32"),
        *("--config.grpo.objective.answer_reward=probability", f"--config.data.path={path}"),
        *("--config.grpo.data.max_answer_tokens=4", "--config.stages=('grpo',)"),
    )
    message = (
        "Problem 1 has an empty reference answer, and answer_reward='probability' .config.grpo"
    )
    with pytest.raises(ValueError, match=message):
        PolicyGradient.check(made.context, made.stage)


def settings(**objective):
    objective = {"answer_reward": "probability", **objective}
    stage = dict(method=objective.pop("method", "rloo"), objective=objective)
    return complete({"stages": ("s",), "s": stage, "data": {"tasks": ({"name": "chain_sum"},)}})


@pytest.mark.parametrize(
    "objective, message",
    [
        (dict(group_filter="mixed"), r"group_filter='mixed' reads scores before answer_reward"),
        (dict(method="remax"), r"compares with a greedy completion that the verifier scores"),
        (dict(answer_phrase=""), r"answer_phrase"),
        (dict(answer_reward="none", answer_phrase="So:"), r"answer_phrase='So:' is never read"),
    ],
)
def test_what_does_not_go_together_is_refused(objective, message):
    with pytest.raises(ValueError, match=message):
        validate(settings(**objective))
