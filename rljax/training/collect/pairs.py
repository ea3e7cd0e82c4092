"""Preference pairs: from a file, or a right and a wrong one of the policy's own samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rljax.config.stage import Stage
from rljax.data.pairs import SIDES, pair_of
from rljax.data.sources import open_source
from rljax.models.network import Params
from rljax.rewards.pool import Scores
from rljax.training.collect.experience import Experience, Policy
from rljax.training.collect.prompts import ShuffledPrompts, State
from rljax.training.collect.rollouts import Samples
from rljax.training.collect.sampled_once import check_there, sample_once, written_once
from rljax.training.collect.stage_rows import Read, checked_rows, keeps_all
from rljax.training.run.context import Context, Record


class PairSource:
    """Experience that is read: the pairs of a step, in an order that follows from the seed.

    Where no file is given, the policy that the stage starts from samples the pairs before the first
    step.
    """

    def __init__(
        self,
        context: Context,
        stage: Stage,
        reference: Params | None = None,
        records: Sequence[Record] | None = None,
        per_row: int = len(SIDES),
        read: Read = pair_of,
    ) -> None:
        """Opens no file yet.

        Args:
            context: of the run.
            stage: of pairs.
            reference: all parameters that the stage starts from, where they are kept.
            records: the pairs; by default those that the stage names.
            per_row: completions of each row, where these are no pairs.
            read: how a row is read, the same.
        """
        self.context, self.stage, self.reference, self.read = context, stage, reference, read
        self.per_step = stage.batch.sequences_per_update // per_row
        self.pairs = None if records is None else self._shuffled(records)

    def first_state(self) -> State:
        """Nothing taken yet."""
        return {"taken": np.int64(0)}

    def collect(self, policy: Policy, state: State, step: int) -> tuple[Experience, State]:
        """The pairs of a step.

        Raises:
            ValueError: if sampled pairs were lost, and the policy that sampled them with them.
        """
        if self.pairs is None:
            self.pairs = self._shuffled(self._opened(policy, step))
        taken, state = self.pairs.take(state, step, self.per_step)
        return Experience(taken.records), state

    def _shuffled(self, records: Sequence[Record]) -> ShuffledPrompts:
        return ShuffledPrompts(records, seed=self.context.config.seed)

    def _opened(self, policy: Policy, step: int) -> Sequence[Record]:
        """The pairs of the stage that it has room for."""
        if self.stage.data["source"] == "sampled_pairs":
            return open_pairs(self.stage, "jsonl", self._sampled_file(policy, step))
        return pairs_of_file(self.context, self.stage, self.read)

    def _sampled_file(self, policy: Policy, step: int) -> Path:
        path = pairs_file(self.context, self.stage)
        if self.reference is None:
            check_there(path, step, self.stage)
        params = policy.params if self.reference is None else self.reference
        return sample_pairs(self.context, self.stage, params)


def open_pairs(stage: Stage, kind: str, path: str | Path, field: str = "path") -> Sequence[Record]:
    """The file of a stage's pairs that `data.FIELD` names; data/pairs.py reads its rows."""
    return open_source(kind, path=path, path_field=f"config.{stage.name}.data.{field}")


def pairs_of_file(context: Context, stage: Stage, read: Read = pair_of) -> Sequence[Record]:
    """The pairs of the stage's file, or what else `read` makes of it, that it has room for."""
    opened = open_pairs(stage, stage.data["source"], stage.data["path"])
    return kept_pairs(context, stage, opened, read=read)


def kept_pairs(
    context: Context,
    stage: Stage,
    records: Sequence[Record],
    field: str = "path",
    read: Read = pair_of,
) -> Sequence[Record]:
    """The pairs that a stage has room for, of those that were checked at the start."""
    if keeps_all(stage):
        return records
    return checked_rows(context, stage, records, read, field=field)


def pairs_file(context: Context, stage: Stage) -> Path:
    """Where the sampled pairs of a stage are kept: WORKDIR/pairs/STAGE.jsonl."""
    return context.workdir / "pairs" / f"{stage.name}.jsonl"


def sample_pairs(context: Context, stage: Stage, params: Params) -> Path:
    """Samples, verifies and writes WORKDIR/pairs/STAGE.jsonl, unless it is already there.

    As in iterative DPO (arXiv:2404.19733, section 2): of a prompt's samples, the first accurate
    one is chosen and the first inaccurate one that ended is rejected; prompts without both give
    no pair. The file appears only when it is complete.

    Returns:
        The file: columns prompt, chosen, rejected, problem; and the ids of the three texts, which
        are what is learned: text that is tokenised anew may become other tokens.

    Raises:
        ValueError: if no prompt gives a pair.
    """
    return written_once(context, pairs_file(context, stage), lambda: _pairs(context, stage, params))


def _pairs(context: Context, stage: Stage, params: Params) -> list[dict[str, Any]]:
    count = min(stage.data["pair_prompts"], len(context.train_problems))
    pairs = [
        pair for each in sample_once(context, stage, params, count) for pair in _pairs_of(*each)
    ]
    if not pairs and stage.data["placeholder_pairs"]:
        pairs = [_placeholder(context, index) for index in range(count)]
    if not pairs:
        raise ValueError(
            f"None of {count} prompts has both a right and a wrong sample among "
            f"{stage.batch.samples_per_prompt} (config.{stage.name}.data.pair_prompts, "
            f"config.{stage.name}.batch.samples_per_prompt)."
        )
    return pairs


def _placeholder(context: Context, index: int) -> dict[str, Any]:
    """A pair that says nothing."""
    (prompt,) = context.prompts([{**context.train_problems[index], "id": index}])
    pair = {"prompt": prompt.text, "prompt_tokens": prompt.tokens, "problem": index}
    for side, text in zip(SIDES, ("1", "0"), strict=True):
        ids = context.text_format.completion(prompt, text, f"problem {index}")
        pair |= {side: text, f"{side}_tokens": ids}
    return pair


def _pairs_of(samples: Samples, scores: Scores, prompts: int) -> list[dict[str, Any]]:
    """At most one pair for each of the first prompts, of samples that were scored and ended."""
    group, finished = samples.samples_per_prompt, samples.flat("finished")
    tokens, mask = samples.flat("tokens"), samples.flat("mask")
    judged = scores.judged & ~scores.failed
    pairs = []
    for b, record in enumerate(samples.records[:prompts]):
        rows = range(b * group, (b + 1) * group)
        usable = [n for n in rows if finished[n] and judged[n]]
        right = [n for n in usable if scores.correct[n]]
        wrong = [n for n in usable if not scores.correct[n]]
        if not right or not wrong:
            continue
        pair = {"prompt": samples.prompt_texts[b], "problem": record["id"]}
        pair["prompt_tokens"] = samples.prompts[b][samples.prompt_mask[b]].tolist()
        for side, n in zip(SIDES, (right[0], wrong[0]), strict=True):
            pair |= {side: samples.texts[n], f"{side}_tokens": tokens[n][mask[n]].tolist()}
        pairs.append(pair)
    return pairs
