"""Samples behind hints, of prompts that the policy does not solve (Guide, arXiv:2506.13923)."""

import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.data.sources import place_of
from rljax.errors import typed
from rljax.rewards.pool import Scores
from rljax.sampling.engine import Engine
from rljax.training.collect.behind_hints import BehindHints
from rljax.training.collect.experience import Annotations
from rljax.training.collect.rewards import Reward
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.sampled import Drawn, timed_scores
from rljax.training.collect.told_prompts import check_room, prompts_with
from rljax.training.learner.group import Group
from rljax.training.run.context import Context, Record
from rljax.training.run.problems import checked_records

CALLS = 2  # of the sampler in a step: plain prompts, then those with hints


class GuidedSamples:
    """Draws as many samples again behind a hint, where no sample of a prompt is right."""

    def __init__(
        self,
        context: Context,
        stage: Stage,
        engine: Engine,
        reward: Reward,
        *,
        key: Array,
        first_step: int,
    ) -> None:
        """Binds the sampler that drew the plain samples; nothing runs.

        Args:
            context: of the run.
            stage: with demonstrations="guided".
            engine: of the stage.
            reward: of its samples.
            key: of the rollouts.
            first_step: steps of the run before the stage.
        """
        self.context, self.reward = context, reward
        self.hinted = BehindHints(context, stage, engine, key=key, first_step=first_step)

    def __call__(self, drawn: Drawn) -> tuple[Group, Annotations]:
        """The guided samples [B, G, T], with an empty mask where a prompt has none; and metrics."""
        samples, scores = drawn.samples, drawn.scores
        shape = samples.rollouts.mask.shape
        solved = (scores.correct & ~scores.left_out).reshape(shape[:2]).any(axis=1)
        hints = [hint_of(self.context, record) for record in samples.records]
        unsolved = ~solved & np.array([bool(hint) for hint in hints])
        empty = Group(
            tokens=np.full(shape, self.context.tokenizer.pad_id, np.int32),
            mask=np.zeros(shape, bool),
            logprobs=np.zeros(shape, np.float32),
            finished=np.zeros(shape[:2], bool),
            scores=np.zeros(shape[:2], np.float32),
            correct=np.zeros(shape[:2], bool),
        )
        plain = float(samples.rollouts.mask.sum())
        metrics = {"guided_share": float(unsolved.mean()), "sampled_tokens": plain}
        if not unsolved.any():
            return empty, Annotations({}, metrics, {})
        active = np.flatnonzero(unsolved)
        told = [hints[i] for i in active]
        guided = self.hinted.sample(drawn, active, told, call=CALLS - 1, keep_hints=False)
        found, seconds = timed_scores(self.reward, guided)
        group = put_rows_of(empty, active, guided, found)
        if (judged := found.judged & ~found.left_out).any():
            metrics["guided_accuracy"] = float(found.correct[judged].mean())
        metrics["sampled_tokens"] += float(guided.rollouts.mask.sum())
        metrics["guided_failures"] = float(found.failed.sum())
        return group, Annotations({}, metrics, {"sampling": guided.seconds, "scoring": seconds})


def put_rows_of(empty: Group, active: np.ndarray, guided: Samples, scores: Scores) -> Group:
    """The guided samples at the places of their prompts, [B, G, T].

    Args:
        empty: arrays of a group without any; they are changed.
        active: [A] i32, the prompts.
        guided: of these prompts.
        scores: of the guided samples.
    """
    rollouts, shape = guided.rollouts, guided.rollouts.mask.shape[:2]
    left_out = scores.left_out.reshape(shape)
    empty.tokens[active] = rollouts.tokens
    empty.mask[active] = rollouts.mask & ~left_out[..., None]
    empty.logprobs[active] = rollouts.logprobs
    empty.finished[active] = rollouts.finished
    empty.scores[active] = np.where(left_out, 0.0, scores.total.reshape(shape))
    empty.correct[active] = scores.correct.reshape(shape)
    return empty


def hint_of(context: Context, record: Record) -> str:
    """The hint of a problem; "" where it has none.

    Raises:
        ValueError: for a hint that is no text.
    """
    hint = record.get(context.config.data.hint_column)
    if hint is None:
        return ""
    if not isinstance(hint, str):
        where = place_of(context.train_problems, record["id"])
        raise ValueError(
            f"{where}: the hint must be a text, got {typed(hint)} (config.data.hint_column)."
        )
    return hint


def check_guidance(context: Context, stage: Stage) -> None:
    """Raises ValueError where no problem has a hint, or one is no text or too long."""
    column, problems = context.config.data.hint_column, context.train_problems
    records = checked_records(problems) if column else []
    hints = [hint_of(context, record) for record in records]
    if not any(hints):
        named = f"none of {len(records)} problems has one in {column!r}"
        missing = named if column else "no column is named"
        raise ValueError(
            f"demonstrations='guided' reads hints, and {missing} (config.data.hint_column)."
        )
    told = [(record, hint) for record, hint in zip(records, hints, strict=True) if hint]
    hinted, texts = zip(*told, strict=True)
    prompts_with(context, stage, hinted, texts, stage.objective.values["hint_pattern"])
    check_room(context, stage)
