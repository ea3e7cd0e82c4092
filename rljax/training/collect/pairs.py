"""Preference pairs: from a file, or of the policy's own samples."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rljax.config.stage import Stage
from rljax.data.pairs import SCORES, SIDES, pair_of
from rljax.data.sources import open_source
from rljax.models.network import Params
from rljax.training.collect.experience import Experience, Policy
from rljax.training.collect.prompts import ShuffledPrompts, State
from rljax.training.collect.sampled_once import Rounds
from rljax.training.collect.sampled_pairs import pair_rounds
from rljax.training.collect.stage_rows import Read, checked_rows, keeps_all
from rljax.training.run.context import Context, Record


class PairSource:
    """Experience that is read: the pairs of a step, in an order that follows from the seed.

    Where no file is given, the policy samples the pairs in the first step of each round.
    """

    def __init__(
        self,
        context: Context,
        stage: Stage,
        start: Params | None = None,
        records: Sequence[Record] | None = None,
        per_row: int = len(SIDES),
        read: Read = pair_of,
    ) -> None:
        """Opens no file yet.

        Args:
            context: of the stage, with the parameters of its models.
            stage: of pairs.
            start: all parameters that the stage starts from, where they are kept.
            records: the pairs; by default those that the stage names.
            per_row: completions of each row, where these are no pairs.
            read: how a row is read, the same.
        """
        self.context, self.stage, self.read = context, stage, read
        self.per_step = stage.batch.sequences_per_update // per_row
        self.pairs = None if records is None else self._shuffled(records)
        self.rounds = None
        if stage.data["source"] == "sampled_pairs":
            self.rounds = RoundRows(pair_rounds(context, stage, start), context.config.seed)

    def first_state(self) -> State:
        """Nothing taken yet."""
        return {"taken": np.int64(0)}

    def collect(self, policy: Policy, state: State, step: int) -> tuple[Experience, State]:
        """The pairs of a step.

        Raises:
            ValueError: if sampled pairs were lost, and the policy that sampled them with them.
        """
        if self.rounds is not None:
            return self.rounds.collect(policy, state, step, self.per_step)
        if self.pairs is None:
            self.pairs = self._shuffled(pairs_of_file(self.context, self.stage, self.read))
        taken, state = self.pairs.take(state, step, self.per_step)
        return Experience(taken.records), state

    def _shuffled(self, records: Sequence[Record]) -> ShuffledPrompts:
        return ShuffledPrompts(records, seed=self.context.config.seed)


class RoundRows:
    """The rows of a stage that samples its own: those of a round, in an order of the seed's."""

    def __init__(self, rounds: Rounds, seed: int) -> None:
        self.rounds, self.seed = rounds, seed
        self.opened: tuple[int, ShuffledPrompts] | None = None

    def collect(
        self, policy: Policy, state: State, step: int, count: int
    ) -> tuple[Experience, State]:
        """So many rows of the round of a step; every round begins with a new order.

        Metrics say how many rows the round has, and what the scores of the step's rows are.
        """
        number = self.rounds.number(step)
        if self.opened is None or self.opened[0] != number:
            path = self.rounds.file(policy, step)
            rows = open_source("jsonl", path=path, path_field="the file")
            self.opened = number, ShuffledPrompts(rows, seed=self.seed)
        rows = self.opened[1]
        if self.rounds.begins(step):
            state = rows.first_state()
        taken, state = rows.take(state, step, count)
        metrics = {"round": float(number + 1), "sampled_rows": float(rows.problems)}
        for column in ("score", *SCORES):
            values = [record[column] for record in taken.records if column in record]
            metrics |= {f"sampled_{column}": float(np.mean(values))} if values else {}
        return Experience(taken.records, metrics=metrics), state


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
