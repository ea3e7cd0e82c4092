"""Sampling until a step has enough groups to learn from: DAPO's dynamic sampling."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rljax.rewards.pool import Scores
from rljax.training.collect.rollouts import (
    Samples,
    join_samples,
    join_scores,
    take_prompts,
    take_scores,
)


class Sampled(NamedTuple):
    """A step's samples, and what they cost."""

    samples: Samples  # of B prompts
    scores: Scores
    rounds: int
    filled: int  # prompts of the B that the filter would have dropped
    scoring_seconds: float
    failed: int  # samples that the verifier failed on, of all rounds


def sample_rounds(
    sample: Callable[[int], tuple[Samples, Scores, float]],
    keep: Callable[[Samples, Scores], np.ndarray],
    *,
    prompts: int,
    rounds: int,
) -> Sampled:
    """Samples B prompts at a time until B of them pass, or the rounds are used up.

    As in DAPO (arXiv:2503.14476, section 3.2), but for what happens when rounds run out.

    The first B that pass are taken, in the order of sampling; a surplus is dropped. Where too few
    pass, the first ones of the last round that do not pass fill the step: they are part of its
    rows, and the filter keeps them out of the loss.

    Args:
        sample: round (from 0) -> samples of B prompts, their scores, seconds of scoring.
        keep: [B] bool, which prompts pass.
        prompts: B.
        rounds: at most so many.
    """
    passed: list[tuple[Samples, Scores]] = []
    count, seconds, sampling, failed = 0, 0.0, 0.0, 0
    for number in range(rounds):
        samples, scores, scoring = sample(number)
        seconds += scoring
        passes = np.asarray(keep(samples, scores))
        index = np.flatnonzero(passes)[: prompts - count]
        sampling += samples.seconds
        failed = failed + int(scores.failed.sum())
        if len(index) == prompts:  # nothing to join
            samples = samples._replace(seconds=sampling)
            return Sampled(samples, scores, number + 1, 0, seconds, failed)
        passed.append(_take(samples, scores, index))
        count += len(index)
        if count == prompts:
            break
    filled = prompts - count
    if filled:
        passed.append(_take(samples, scores, np.flatnonzero(~passes)[:filled]))
    joined = join_samples([part[0] for part in passed])._replace(seconds=sampling)
    scores = join_scores([part[1] for part in passed])
    return Sampled(joined, scores, number + 1, filled, seconds, failed)


def _take(samples: Samples, scores: Scores, index: Sequence[int]) -> tuple[Samples, Scores]:
    group = samples.samples_per_prompt
    rows = (np.asarray(index)[:, None] * group + np.arange(group)).reshape(-1)
    return take_prompts(samples, index), take_scores(scores, rows)
