"""Demonstrations that the policy wrote itself: the samples that a verifier finds good.

RFT (arXiv:2308.01825) keeps the right ones, each once; RAFT (arXiv:2304.06767) and Llama 3
(arXiv:2407.21783) keep the best of each prompt, by a reward model where the stage names one. STaR
(arXiv:2203.14465) also keeps right samples of hinted prompts where no other is right, and every
round starts from the first model, with the last one as the teacher that samples.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from rljax.config.stage import Stage
from rljax.data.packing import Example, PackedEpochs
from rljax.data.sources import open_source
from rljax.models.network import Params
from rljax.training.collect.demonstrations import PackedDemonstrations
from rljax.training.collect.experience import Experience, Policy
from rljax.training.collect.prompts import State
from rljax.training.collect.sampled_once import (
    Rounds,
    Sampled,
    answer_columns,
    by_prompt,
    prompt_columns,
    read_tokens,
    sample_once,
)
from rljax.training.run.context import Context


class KeptSamples:
    """Experience that is read: packed samples, which the stage's start draws before step 1."""

    def __init__(
        self,
        context: Context,
        stage: Stage,
        start: Params | None,
        pack: Callable[[list[Example]], PackedEpochs],
    ) -> None:
        """Opens no file yet.

        Args:
            context: of the run.
            stage: supervised.
            start: all parameters that the stage starts from, where they are kept.
            pack: examples to the order of their rows.
        """
        self.stage, self.pack = stage, pack
        self.rounds = kept_rounds(context, stage, start)
        self.examples: list[Example] = []
        self.rows: PackedDemonstrations | None = None

    def first_state(self) -> State:
        """Nothing."""
        return {}

    def collect(self, policy: Policy, state: State, step: int) -> tuple[Experience, State]:
        """The rows of a step (from 1).

        Raises:
            ValueError: if no sample is kept; if the samples were lost, and the policy that drew
                them with them.
        """
        if self.rows is None:
            self.examples = read_kept(self.rounds.file(policy, step))
            rows = self.stage.batch.sequences_per_update
            self.rows = PackedDemonstrations(self.pack(self.examples), rows, self.examples)
        return self.rows.collect(policy, state, step)


def kept_rounds(context: Context, stage: Stage, start: Params | None) -> Rounds:
    """The one round of a stage with source="sampled": WORKDIR/samples/STAGE.jsonl.

    Columns are prompt, completion, problem and score; and the ids of both texts, which are what is
    learned: text that is tokenised anew may become other tokens. Of an episode the sampled ids are
    learned, and the messages stand beside them. A teacher samples where the stage
    names one.
    """
    if "teacher" in stage.models:
        teacher = context.models["teacher"]
        context, start = context.with_network(teacher.network), teacher.params

    def make(params: Params, number: int) -> list[dict[str, Any]]:
        count = min(stage.data["sampled_prompts"], len(context.train_problems))
        pattern = stage.data["hint_pattern"]
        drawn = sample_once(context, stage, params, range(count), number, pattern)
        rows = [row for each in drawn for row in _kept(each, stage)]
        if not rows:
            raise ValueError(
                f"keep={stage.data['keep']!r} keeps none of {stage.batch.samples_per_prompt} "
                f"samples of each of {count} prompts: none ended and was right "
                f"(config.{stage.name}.data.keep, config.{stage.name}.data.sampled_prompts, "
                f"config.{stage.name}.batch.samples_per_prompt)."
            )
        return rows

    return Rounds(context, stage, start, "samples", make)


def _kept(drawn: Sampled, stage: Stage) -> list[dict[str, Any]]:
    """Rows of what is kept of some prompts; of those without any, what is kept of the hinted."""
    keep, most, group = stage.data["keep"], stage.data["keep_most"], stage.batch.samples_per_prompt
    kept = kept_numbers(drawn, keep, most)
    rows = [_row(drawn, n) for n in kept]
    if drawn.hinted is None:
        return rows
    solved = {n // group for n in kept}
    shown = [n for n in kept_numbers(drawn.hinted, keep, most) if n // group not in solved]
    return rows + [{**_row(drawn.hinted, n), "hinted": True} for n in shown]


def read_kept(path: Path) -> list[Example]:
    """The examples of the file."""
    rows: Iterable[dict[str, Any]] = open_source("jsonl", path=path, path_field="the file")
    return [
        Example(
            [*row["prompt_tokens"], *row["completion_tokens"]],
            [False] * len(row["prompt_tokens"]) + _learned(row),
        )
        for row in rows
    ]


def _learned(row: dict[str, Any]) -> list[bool]:
    """Which tokens of a row's completion are learned: those that were sampled."""
    mask = row.get("completion_mask")
    return [True] * len(row["completion_tokens"]) if mask is None else [bool(x) for x in mask]


def kept_numbers(found: Sampled, keep: str, most: int) -> list[int]:
    """Which of the N samples are kept, in order; only those that ended and were scored.

    Args:
        found: samples of some prompts.
        keep: "right": of each prompt the right ones, equal ones once; "best": those of the highest
            scores, equal ones once, of equal scores the first.
        most: of a prompt.
    """
    tokens, read = found.samples.flat("tokens"), read_tokens(found.samples)
    kept = []
    for rows, candidates in by_prompt(found):
        if keep == "best":
            order = np.argsort(-candidates.scores, kind="stable")  # of equals the first
        else:
            order = np.flatnonzero(candidates.right)
        different: dict[tuple[int, ...], int] = {}
        for n in (rows[place] for place in order):
            different.setdefault(tuple(tokens[n][read[n]].tolist()), n)
        kept += sorted(list(different.values())[:most])
    return kept


def _row(found: Sampled, n: int) -> dict[str, Any]:
    answer = answer_columns(found.samples, n, "completion")
    return prompt_columns(found.samples, n) | answer | {"score": float(found.scores.total[n])}
