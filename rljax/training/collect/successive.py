"""Samples in rounds, of prompts that have not said enough yet (objectives/allocation.py)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.objectives.advantages.pooled import pool_statistics
from rljax.objectives.allocation import Allocation, kept_places, kept_right, leaves
from rljax.parallel.rules import rows_divisor
from rljax.rewards.pool import Scores
from rljax.sampling.request import Rollouts
from rljax.training.collect.experience import Annotations, Policy
from rljax.training.collect.prompts import Prompts
from rljax.training.collect.rollouts import (
    Samples,
    distinct_ids,
    join_samples,
    join_scores,
    take_scores,
)
from rljax.training.run.context import Context


class Pool(NamedTuple):
    """All samples of a step, round by round; D draws of each of B prompts, where there are any."""

    samples: list[Samples]
    scores: list[Scores]
    prompts: list[np.ndarray]  # of each round: the prompts that were sampled, [active] i32
    left: np.ndarray  # [B] bool, left before the rounds ran out


class Allocated(NamedTuple):
    """What is learned from, and what it took."""

    samples: Samples  # [B, n]
    scores: Scores
    annotations: Annotations
    scored: Scores  # of every draw


class Successive:
    """Draws the samples of a step's prompts in rounds."""

    def __init__(
        self,
        context: Context,
        stage: Stage,
        sample: Callable[..., Samples],
        scored: Callable[[Samples], tuple[Scores, float]],
    ) -> None:
        """Binds sampler and rewards.

        Args:
            context: of the run.
            stage: with allocation="successive".
            sample: `WholeRollouts.sample`, whose sampler draws the samples of a round.
            scored: samples to their scores and the seconds that they took.
        """
        self.allocation: Allocation = stage.objective.part("allocation")()
        self.group = stage.batch.samples_per_prompt
        self.sample, self.scored = sample, scored
        self.divisor = rows_divisor(context.rollout_mesh)
        self.problems = len(context.train_problems)

    def draw(self, weights: Params, policy: Policy, prompts: Prompts, step: int) -> Allocated:
        """All rounds of a step, and the group that is kept of each prompt."""
        count = len(prompts.records)
        # Of the whole step: a problem that comes twice keeps its noise when one of them has left.
        ids = distinct_ids([record["id"] for record in prompts.records], self.problems)
        right, wrong = np.zeros(count, np.int32), np.zeros(count, np.int32)
        pool, seconds = Pool([], [], [], np.zeros(count, bool)), 0.0
        for call in range(self.allocation.rounds):
            active = np.flatnonzero(~pool.left)
            asked = filled(active, count, self.divisor)
            some = Prompts([prompts.records[i] for i in asked], prompts.visits[asked])
            samples = self.sample(
                weights,
                policy,
                some,
                step=step,
                call=call,
                most_prompts=count,
                noise_ids=[ids[i] for i in asked],
            )
            samples = first_prompts(samples, len(active))
            scores, spent = self.scored(samples)
            seconds += spent
            shape = len(active), samples.samples_per_prompt
            here, correct = (~scores.left_out).reshape(shape), scores.correct.reshape(shape)
            right[active] += (here & correct).sum(axis=1)
            wrong[active] += (here & ~correct).sum(axis=1)
            pool.samples.append(samples)
            pool.scores.append(scores)
            pool.prompts.append(active)
            left = leaves(right, wrong, self.group, self.allocation.exit)
            pool.left[active] = left[active]
            if pool.left.all():
                break
        return self._kept(prompts, pool, right, wrong, seconds)

    def _kept(
        self, prompts: Prompts, pool: Pool, right: np.ndarray, wrong: np.ndarray, seconds: float
    ) -> Allocated:
        samples, scores = join_samples(pool.samples), join_scores(pool.scores)
        rows = drawn_rows(pool, len(prompts.records))
        drawn = (rows >= 0) & ~scores.left_out[rows]
        keep = kept_right(right, wrong, self.group)
        places = np.asarray(kept_places(scores.correct[rows], drawn, keep, self.group))
        chosen = np.take_along_axis(rows, places, axis=1)
        means, deviations = pool_statistics(np.where(drawn, scores.total[rows], 0.0), drawn)
        pools = {"pool_means": means, "pool_deviations": deviations}
        arrays = {name: np.asarray(x).repeat(self.group) for name, x in pools.items()}
        metrics = {
            "sampled_tokens": float(samples.rollouts.mask.sum()),
            "samples_per_prompt_mean": float((rows >= 0).sum(axis=1).mean()),
            "allocation_left_share": float(pool.left.mean()),
            "allocation_rounds": float(len(pool.samples)),
        }
        return Allocated(
            samples=chosen_samples(pool.samples[0], samples, chosen),
            scores=take_scores(scores, chosen.reshape(-1)),
            annotations=Annotations(arrays, metrics, {"scoring": seconds}),
            scored=scores,
        )


def filled(active: np.ndarray, count: int, divisor: int) -> np.ndarray:
    """The active prompts, and the first of them again until they are B, or a half, a quarter of it.

    So the rounds of all steps have few shapes, and few programs.

    Args:
        active: [A] i32, at least one.
        count: B.
        divisor: of every size.
    """
    size = count
    while size % 2 == 0 and size // 2 >= len(active) and size // 2 % divisor == 0:
        size //= 2
    return np.concatenate([active, active[:1].repeat(size - len(active))])


def first_prompts(samples: Samples, count: int) -> Samples:
    """Without the prompts that only filled a round up."""
    group = samples.samples_per_prompt
    return Samples(
        records=samples.records[:count],
        prompt_texts=samples.prompt_texts[:count],
        prompts=samples.prompts[:count],
        prompt_mask=samples.prompt_mask[:count],
        rollouts=jax.tree.map(lambda x: x[:count], samples.rollouts),
        versions=samples.versions[:count],
        texts=samples.texts[: count * group],
        seconds=samples.seconds,
    )


def drawn_rows(pool: Pool, count: int) -> np.ndarray:
    """[B, D] i64, where in the joined samples each draw of a prompt is; -1 where there is none."""
    found = np.full((count, sum(s.samples_per_prompt for s in pool.samples)), -1)
    row = place = 0
    for samples, prompts in zip(pool.samples, pool.prompts, strict=True):
        group = samples.samples_per_prompt
        size = len(prompts) * group
        found[prompts, place : place + group] = np.arange(row, row + size).reshape(-1, group)
        row, place = row + size, place + group
    return found


def chosen_samples(first: Samples, joined: Samples, rows: np.ndarray) -> Samples:
    """Samples of B prompts with these rows of the joined ones, [B, n]."""

    def gathered(x: np.ndarray | None) -> np.ndarray | None:
        return None if x is None else x.reshape(-1, *x.shape[2:])[rows]

    own = {name: value for name, value in joined.rollouts._asdict().items() if name != "slot_steps"}
    rollouts = Rollouts(
        **{name: gathered(value) for name, value in own.items()},
        slot_steps=first.rollouts.slot_steps,
    )
    return first._replace(
        rollouts=rollouts,
        versions=gathered(joined.versions),
        texts=[joined.texts[row] for row in rows.reshape(-1)],
        seconds=joined.seconds,
    )
