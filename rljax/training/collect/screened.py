"""Further samples of the prompts whose first few passed the group filter (SPEED)."""

from collections.abc import Callable

import numpy as np

from rljax.models.network import Params
from rljax.rewards.pool import Scores
from rljax.sampling.request import Rollouts
from rljax.training.collect.experience import Policy
from rljax.training.collect.prompts import Prompts
from rljax.training.collect.rollouts import Samples, map_scores
from rljax.training.collect.rounds import Rounds


class Continuation:
    """Completes the groups of a step; see `objectives/allocation.py`, `screening`."""

    def __init__(
        self,
        sample: Callable[..., Samples],
        scored: Callable[[Samples], tuple[Scores, float]],
        *,
        call: int,
    ) -> None:
        """Binds a sampler and the rewards.

        Args:
            sample: `WholeRollouts.sample` of a sampler with as many samples as groups lack.
            scored: samples to their scores and the seconds that they took.
            call: number of the call in a step, behind those of all rounds.
        """
        self.sample, self.scored, self.call = sample, scored, call

    def __call__(self, weights: Params, policy: Policy, found: Rounds, step: int) -> Rounds:
        """The same prompts with all their samples; those of the rounds first."""
        count = len(found.samples.records)
        asked = Prompts(list(found.samples.records), np.zeros(count, np.int64))
        others = self.sample(weights, policy, asked, step=step, call=self.call)
        scores, seconds = self.scored(others)
        samples = joined_samples(found.samples, others)
        if found.filled:  # the last ones have failed the screen: they fill the step's rows alone
            mask = samples.rollouts.mask.copy()
            mask[-found.filled :] = False
            samples = samples._replace(rollouts=samples.rollouts._replace(mask=mask))
        return found._replace(
            samples=samples,
            scores=joined_scores(found.scores, scores, count),
            scoring_seconds=found.scoring_seconds + seconds,
            failed=found.failed + int(scores.failed.sum()),
        )


def joined_samples(first: Samples, others: Samples) -> Samples:
    """Samples [B, G] and [B, H] of the same prompts as [B, G + H]."""

    def joined(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.concatenate([a, b], axis=1)

    arrays = {
        name: joined(value, getattr(others.rollouts, name))
        for name, value in first.rollouts._asdict().items()
        if value is not None and name != "slot_steps"
    }
    rollouts: Rollouts = first.rollouts._replace(**arrays)
    group, more = first.samples_per_prompt, others.samples_per_prompt
    texts = [
        text
        for b in range(len(first.records))
        for text in (
            *first.texts[b * group : (b + 1) * group],
            *others.texts[b * more : (b + 1) * more],
        )
    ]
    return first._replace(
        rollouts=rollouts,
        versions=joined(first.versions, others.versions),
        texts=texts,
        seconds=first.seconds + others.seconds,
    )


def joined_scores(first: Scores, others: Scores, prompts: int) -> Scores:
    """The scores of `joined_samples`, in its order."""

    def joined(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        both = [x.reshape(prompts, -1, *x.shape[1:]) for x in (a, b)]
        whole = np.concatenate(both, axis=1)
        return whole.reshape(-1, *whole.shape[2:])

    return map_scores(joined, first, others)
