"""Rewards of other scales, and samples that no reward applies to, in whole runs."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rljax.config.validate import validate
from rljax.reporting.files import read_rows
from rljax.rewards.pool import Scores
from rljax.training import loop
from rljax.training.collect.grouped import step_group
from rljax.training.collect.rollouts import (
    join_scores,
    require_rewards,
    reward_metrics,
    spread_scores,
    take_scores,
)
from rljax.training.collect.rounds import means

HERE = Path(__file__).parent
SHORT = ("evaluation.samples_per_prompt=0", "evaluation.every_steps=0", "reinforce.steps=2")


@pytest.fixture
def trained(tiny_config, tmp_path, one_device_runs):
    """trained(method, reward, *words) -> the rows of training, the first step's prompts."""

    def run(method, reward, *words):
        name = f"{HERE / 'odd_reward.py'}:{reward}"
        words = (*SHORT, f"reinforce.method={method}", f"scoring.rewards=({{'name': '{name}'}},)")
        config = tiny_config("reinforce", *(f"--config.{word}" for word in words))
        loop.run(config, tmp_path)
        rows = [r for r in read_rows(tmp_path / "metrics.jsonl") if r["kind"] == "train"]
        record = json.loads((tmp_path / "rollouts/reinforce-000001.json").read_text())
        return rows, record["prompts"]

    return run


def test_a_sample_without_verdict_has_no_part_in_its_group(trained):
    """trl#5902, trl#4501: such samples once got 0.0, which entered the baselines of the others."""
    rows, prompts = trained("rloo", "some")
    left_out = 0
    for prompt in prompts:
        rewards = np.array([s["reward"] for s in prompt["samples"]], float)  # None becomes NaN
        left_out += int(np.isnan(rewards).sum())
        for sample, own in zip(prompt["samples"], rewards, strict=True):
            others = np.delete(rewards, list(rewards).index(own)) if own == own else np.array([])
            others = others[~np.isnan(others)]
            expected = own - others.mean() if len(others) else 0.0
            np.testing.assert_allclose(sample["advantage"], expected, atol=1e-6)
    judged = [s["reward"] for p in prompts for s in p["samples"] if s["reward"] is not None]
    assert rows[0]["left_out_samples"] == left_out > 0
    assert rows[0]["reward"] == pytest.approx(np.mean(judged))
    assert rows[0]["accuracy"] == 1.0  # over verdicts: 1.0 and 2.0 are right
    assert all(row["updates_skipped"] == 0 and row["gradient_norm"] > 0 for row in rows)


def test_dynamic_sampling_learns_from_rewards_of_two_points(trained):
    """verl#7792, rlhf-book#384: ten rounds, no prompt kept, accuracy 0.000, nothing said."""
    rows, prompts = trained("dapo", "two_points")
    assert all(row["gradient_norm"] > 0 and row["sampling_rounds"] < 10 for row in rows)
    assert all(row["filled_prompts"] == 0 for row in rows)
    rewards = [s["reward"] for p in prompts for s in p["samples"]]
    assert set(rewards) == {0.0, 2.0}
    assert rows[0]["accuracy"] == pytest.approx(np.mean(np.array(rewards) == 2.0))


@pytest.mark.parametrize(
    "method, field", [("ngrpo", "virtual_score"), ("bnpo", "reward_max"), ("psr", "right_score")]
)
def test_fields_that_say_what_is_right_follow_the_rewards(tiny_config, method, field):
    def value(*words):
        words = (f"reinforce.method={method}", *words)
        config = tiny_config("reinforce", *(f"--config.{word}" for word in words))
        return validate(config)[0].objective.values[field]

    rewards = "scoring.rewards=({'name': 'math_string', 'weight': 2.0},)"
    assert value() == 1.0
    assert value(rewards) == 4.0
    assert value(rewards, f"reinforce.objective.{field}=3.0") == 3.0


def four_scores():
    """Right, failed and left out, not judged by a part, wrong."""
    total = np.array([2.0, np.nan, 0.5, 0.0], np.float32)
    parts = {
        "z": np.array([2.0, 0.0, np.nan, 0.0], np.float32),
        "a": np.array([0.0, 0.0, 0.5, 0.0], np.float32),
    }
    left_out = np.isnan(total)
    failed = np.array([False, True, False, False])
    return Scores(total, parts, total == 2.0, ~left_out, failed, left_out, "broken")


def test_scores_are_taken_joined_and_spread_whole():
    scores = four_scores()
    again = join_scores([take_scores(scores, np.arange(2)), take_scores(scores, np.arange(2, 4))])
    assert list(again.parts) == ["z", "a"] and again.first_error == "broken"
    for name in ("total", "correct", "judged", "failed", "left_out"):
        np.testing.assert_array_equal(getattr(again, name), getattr(scores, name))
    said = scores._replace(feedback=np.array(["no", "", "yes", ""], object))
    wider = spread_scores(said, np.array([True, False, True, True, True]), missing=0.0)
    assert wider.feedback.tolist() == ["no", "", "", "yes", ""]
    assert not wider.judged[1] and not wider.left_out[1] and wider.total[1] == 0.0
    metrics = reward_metrics(scores)
    assert metrics["reward"] == pytest.approx(2.5 / 3)
    assert metrics["accuracy"] == pytest.approx(1 / 3)
    assert metrics["reward/z"] == pytest.approx(2 / 3)


def test_samples_left_out_have_no_part_in_the_means_of_all_rounds():
    scores = four_scores()
    twice = means([scores, take_scores(scores, np.array([0]))])
    assert twice["sampled_reward"] == pytest.approx(4.5 / 4)
    assert twice["sampled_accuracy"] == pytest.approx(2 / 4)
    assert means([take_scores(scores, np.array([1]))]) == {}


def test_a_sample_left_out_has_an_empty_mask_and_no_number():
    rollouts = SimpleNamespace(
        tokens=np.ones((2, 2, 3), np.int32),
        mask=np.ones((2, 2, 3), bool),
        logprobs=np.zeros((2, 2, 3), np.float32),
        finished=np.ones((2, 2), bool),
    )
    group = step_group(SimpleNamespace(rollouts=rollouts), four_scores())
    assert group.mask.any(axis=2).tolist() == [[True, False], [True, True]]
    assert group.scores.tolist() == [[2.0, 0.0], [0.5, 0.0]]


def test_methods_that_compare_fixed_sets_refuse_a_gap():
    with pytest.raises(ValueError, match="1 of 4 samples have no reward.*A tree.*failed_samples"):
        require_rewards(four_scores(), "A tree of samples")
