"""Noise of repeated prompts, and what is told of samples."""

import numpy as np
import pytest

from rljax.environments.record import episode_record
from rljax.rewards.pool import Scores
from rljax.sampling.request import Rollouts, StopReason
from rljax.training.collect.rollouts import Samples, distinct_ids, rollout_metrics


def test_repeated_prompts_of_a_step_get_noise_of_their_own():
    assert distinct_ids([3, 7, 3, 3], 10) == [3, 7, 13, 23]
    # Without repetition the noise is that of the prompt alone, whatever else is in the step.
    assert distinct_ids([9, 0], 10) == [9, 0]


@pytest.mark.parametrize("end", ["done", "failed"])
def test_a_player_that_was_never_asked_counts_in_no_mean(end):
    """Of two players one has three tokens and reward 1; an episode that failed counts whole."""
    mask = np.array([[[1, 1, 1]], [[0, 0, 0]]], bool)
    ids, numbers = mask.astype(np.int32), mask.astype(np.float32)
    stop = np.full((2, 1), StopReason.STOP_TOKEN, np.int32)
    said = dict.fromkeys(
        ("logprobs", "model_logprobs", "tempered_logprobs", "entropy", "temperature"), numbers
    )
    steps = np.ones(2, np.int32)
    rollouts = Rollouts(
        tokens=ids, mask=mask, stop_reason=stop, inserted=~mask & False, slot_steps=steps, **said
    )
    failed = np.full(2, end == "failed")
    scores = Scores(
        total=np.array([1.0, 0.0], np.float32),
        parts={},
        correct=np.array([True, False]),
        judged=np.ones(2, bool),
        failed=failed,
        left_out=np.zeros(2, bool),
        first_error=None,
    )
    episodes = [
        episode_record([], [], end, None, role="first", measures={"won": 1.0}),
        episode_record([], [], end, None, role="second"),
    ]
    prompts = np.ones((2, 1), np.int32)
    samples = Samples(
        [{}, {}], ["", ""], prompts, prompts > 0, rollouts, ids, ["a", ""], 0.0, episodes
    )
    found = rollout_metrics(samples, scores)
    mean = 0.5 if end == "failed" else 1.0
    assert (found["completion_tokens"], found["reward"], found["accuracy"]) == (
        3 * mean,
        mean,
        mean,
    )
    assert (found["episode/won"], found[f"episodes_{end}"]) == (1.0, 1.0)
    assert found["scoring_failures"] == failed.sum()
