"""Noise of repeated prompts."""

from rljax.training.collect.rollouts import distinct_ids


def test_repeated_prompts_of_a_step_get_noise_of_their_own():
    assert distinct_ids([3, 7, 3, 3], 10) == [3, 7, 13, 23]
    # Without repetition the noise is that of the prompt alone, whatever else is in the step.
    assert distinct_ids([9, 0], 10) == [9, 0]
