"""Sampling until a step has enough groups to learn from: DAPO's dynamic sampling."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from rljax.config.stage import Stage
from rljax.rewards.pool import Scores
from rljax.training.collect.prompts import State
from rljax.training.collect.rollouts import (
    Samples,
    join_samples,
    join_scores,
    reward_metrics,
    take_prompts,
    take_scores,
)


def most_rounds(stage: Stage) -> int:
    """Times that a step samples prompts, at most."""
    filtered = stage.objective.choices.get("group_filter", "none") != "none"
    return stage.objective.values["filter_rounds"] if filtered else 1


def drawn_at_once(stage: Stage) -> int:
    """Samples of a prompt in the first call of a step."""
    values = stage.objective.values
    sizes = [
        values[name]
        for name in ("round_samples", "screen_samples", "pilot_samples")
        if name in values
    ]
    return sizes[0] if sizes else stage.batch.samples_per_prompt


class Round(NamedTuple):
    """The samples of one call for B prompts."""

    samples: Samples
    scores: Scores | None  # None where nothing is verified
    scoring_seconds: float
    prompts: State  # of the prompt source, after the call


class Rounds(NamedTuple):
    """A step's samples, and what they cost."""

    samples: Samples  # of B prompts
    scores: Scores | None
    count: int  # rounds
    filled: int  # prompts of the B that the filter would have dropped
    scoring_seconds: float
    failed: int  # samples that the verifier failed on, in all rounds
    prompts: State  # of the prompt source, after the last round
    of_all: dict[str, float]  # metrics of all that was sampled, kept or not; {} without a filter


def sample_rounds(
    rounds: Iterable[Round],
    keep: Callable[[Samples, Scores], np.ndarray],
    *,
    prompts: int,
) -> Rounds:
    """Takes rounds of B prompts until B of them pass, or there are no more rounds.

    As in DAPO (arXiv:2503.14476, section 3.2), but for what happens when rounds run out.

    The first B that pass are taken, in the order of sampling; a surplus is dropped. Where too few
    pass, the first ones of the last round that do not pass fill the step: they are part of its
    rows, and the filter keeps them out of the loss.

    Args:
        rounds: at least one; each is sampled when it is asked for.
        keep: [B] bool, which prompts pass.
        prompts: B.
    """
    passed: list[tuple[Samples, Scores]] = []
    sampled: list[Scores] = []
    count, scoring, sampling, failed = 0, 0.0, 0.0, 0
    for number, latest in enumerate(rounds, start=1):
        scoring += latest.scoring_seconds
        sampled.append(latest.scores)
        passes = np.asarray(keep(latest.samples, latest.scores))
        index = np.flatnonzero(passes)[: prompts - count]
        sampling += latest.samples.seconds
        failed += int(latest.scores.failed.sum())
        if len(index) == prompts:  # nothing to join
            samples = latest.samples._replace(seconds=sampling)
            of_all, state = means(sampled), latest.prompts
            return Rounds(samples, latest.scores, number, 0, scoring, failed, state, of_all)
        passed.append(_take(latest, index))
        count += len(index)
        if count == prompts:
            break
    filled = prompts - count
    if filled:
        passed.append(_take(latest, np.flatnonzero(~passes)[:filled]))
    samples = join_samples([part[0] for part in passed])._replace(seconds=sampling)
    scores = join_scores([part[1] for part in passed])
    of_all, state = means(sampled), latest.prompts
    return Rounds(samples, scores, number, filled, scoring, failed, state, of_all)


def means(rounds: Sequence[Scores]) -> dict[str, float]:
    """Mean reward and accuracy of all samples: what the policy is worth, before a filter chose."""
    found = reward_metrics(join_scores(rounds))
    return {f"sampled_{name}": found[name] for name in ("reward", "accuracy") if name in found}


def one_round(latest: Round) -> Rounds:
    """A step that takes whatever its one round has sampled."""
    failed = 0 if latest.scores is None else int(latest.scores.failed.sum())
    return Rounds(
        latest.samples, latest.scores, 1, 0, latest.scoring_seconds, failed, latest.prompts, {}
    )


def _take(latest: Round, index: Sequence[int]) -> tuple[Samples, Scores]:
    group = latest.samples.samples_per_prompt
    rows = (np.asarray(index, int)[:, None] * group + np.arange(group)).reshape(-1)
    return take_prompts(latest.samples, index), take_scores(latest.scores, rows)
