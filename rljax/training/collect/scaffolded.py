"""The smallest hint that helps, for prompts that the policy does not solve (Scaf-GRPO).

arXiv:2510.19807: the hints of a problem are tiers, from the vaguest to the plainest, each a list of
parts that are told one after the other. A level of help is a tier up to one of its parts. Prompts
without a right sample are sampled once at each level, until a sample is right. That sample takes
the place of a wrong one of its group, together with the prompt that it was sampled from: policy and
old policy both read the hint, so that nothing is off-policy.
"""

from collections.abc import Sequence

import numpy as np
from jax import Array

from rljax.config.stage import Stage
from rljax.data.sources import place_of
from rljax.errors import typed
from rljax.sampling.engine import Engine
from rljax.training.collect.behind_hints import BehindHints
from rljax.training.collect.experience import Annotations
from rljax.training.collect.rewards import Reward
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.sampled import Drawn, Scaffolded, timed_scores
from rljax.training.collect.single_rows import replaced_rows, replaced_scores, single_rows
from rljax.training.collect.told_prompts import check_room, prompts_with
from rljax.training.run.context import Context, Record
from rljax.training.run.problems import checked_records


class ScaffoldedSamples:
    """Replaces a wrong sample by the first right one behind a hint, where no sample is right."""

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
        """Binds a sampler of one sample each; nothing runs.

        Args:
            context: of the run.
            stage: with demonstrations="scaffolded".
            engine: with one sample of each prompt.
            reward: of its samples.
            key: of the rollouts.
            first_step: steps of the run before the stage.
        """
        self.context, self.stage, self.reward = context, stage, reward
        self.hinted = BehindHints(context, stage, engine, key=key, first_step=first_step)
        values = stage.objective.values
        self.most_levels = values["hint_levels"]
        self.exempt = round(values["exempt_share"] * stage.steps)

    def __call__(self, drawn: Drawn) -> Scaffolded:
        """The samples as rows of their own prompts, some of them replaced; their scores; metrics.

        In the first steps, `exempt_share` of the stage, no hint is told: what only looks hard is
        left to solve itself.
        """
        samples, scores = drawn.samples, drawn.scores
        count, group = len(samples.records), samples.samples_per_prompt
        present = ~scores.left_out.reshape(count, group)
        solved = (scores.correct.reshape(count, group) & present).any(axis=1)
        levels = [
            levels_of(hints_of(self.context, record))[: self.most_levels]
            for record in samples.records
        ]
        tried = ~solved & present.any(axis=1) & np.array([bool(level) for level in levels])
        tried &= drawn.step > self.exempt
        rows = single_rows(samples, self._room(samples))
        found = np.zeros(count, int)  # the level of the right sample, from 1
        tokens, failed, seconds = float(samples.rollouts.mask.sum()), 0, {}
        for level in range(1, self.most_levels + 1):
            due = np.array([len(own) >= level for own in levels])
            active = np.flatnonzero(tried & due & (found == 0))
            if not len(active):
                continue
            texts = [levels[place][level - 1] for place in active]
            hinted = self.hinted.sample(drawn, active, texts, call=level, keep_hints=True)
            judged, spent = timed_scores(self.reward, hinted)
            right = judged.correct & ~judged.left_out
            found[active[right]] = level
            # The last sample of the group that has a score leaves it.
            last = group - 1 - present[:, ::-1].argmax(axis=1)
            place = active[right] * group + last[active[right]]
            rows = replaced_rows(rows, place, hinted, np.flatnonzero(right))
            scores = replaced_scores(scores, place, judged, np.flatnonzero(right))
            tokens += float(hinted.rollouts.mask.sum())
            failed += int(judged.failed.sum())
            seconds["sampling"] = seconds.get("sampling", 0.0) + hinted.seconds
            seconds["scoring"] = seconds.get("scoring", 0.0) + spent
        metrics = {
            "hinted_share": float(tried.mean()),
            "rescued_share": float((found > 0).mean()),
            "sampled_tokens": tokens,
            "guided_failures": float(failed),
        }
        if found.any():
            metrics["hint_level"] = float(found[found > 0].mean())
        arrays = {"group_ids": np.repeat(np.arange(count, dtype=np.int32), group)}
        return Scaffolded(rows, scores, Annotations(arrays, metrics, seconds))

    def _room(self, samples: Samples) -> int:
        return samples.prompts.shape[1] + self.stage.data["max_context_tokens"]


def levels_of(hints: Sequence[Sequence[str]]) -> list[str]:
    """The levels of help, least first: of each tier its first part, its first two, and so on.

    Example: tiers [a b] [c] become "a", "a\\nb", "c".
    """
    return ["\n".join(tier[: part + 1]) for tier in hints for part in range(len(tier))]


def hints_of(context: Context, record: Record) -> list[list[str]]:
    """The tiers of a problem, each a list of parts; [] where it has none.

    A text is one tier of one part, a list of texts one tier.

    Raises:
        ValueError: for anything else.
    """
    hints = record.get(context.config.data.hint_column)
    if hints is None:
        return []
    tiers = [hints] if isinstance(hints, str) or _are_texts(hints) else hints
    listed = isinstance(tiers, list | tuple)
    parts = [[tier] if isinstance(tier, str) else tier for tier in tiers] if listed else []
    if not listed or not all(map(_are_texts, parts)):
        where = place_of(context.train_problems, record["id"])
        raise ValueError(
            f"{where}: hints must be a text, a list of texts, or a list of such lists (tiers of "
            f"parts), got {typed(hints)} (config.data.hint_column)."
        )
    return [[part for part in tier if part] for tier in parts]


def check_scaffold(context: Context, stage: Stage) -> None:
    """Raises ValueError where no problem has hints, or some are no texts or too long."""
    column, problems = context.config.data.hint_column, context.train_problems
    records = checked_records(problems) if column else []
    told = [(record, level) for record in records for level in levels_of(hints_of(context, record))]
    if not told:
        named = f"none of {len(records)} problems has any in {column!r}"
        missing = named if column else "no column is named"
        raise ValueError(
            f"demonstrations='scaffolded' reads hints, and {missing} (config.data.hint_column)."
        )
    hinted, texts = zip(*told, strict=True)
    prompts_with(context, stage, hinted, texts, stage.objective.values["hint_pattern"])
    check_room(context, stage)


def _are_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
