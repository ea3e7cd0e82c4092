"""Which of several teachers a prompt has: a column of the problems holds the teacher's name."""

import functools
from collections.abc import Sequence

import numpy as np

from rljax.config.stage import Stage
from rljax.data.sources import place_of
from rljax.errors import unknown_name
from rljax.parallel.host import to_host
from rljax.parallel.rules import put_rows
from rljax.remarks import say_once
from rljax.training.run.context import Context, Record
from rljax.training.run.models import role_names
from rljax.training.run.problems import checked_records
from rljax.training.update.likelihood import likelihood_of
from rljax.training.update.rows import Rows, per_sample


def teacher_ids(context: Context, stage: Stage, records: Sequence[Record]) -> np.ndarray:
    """The teacher of each problem, its place among `models.teacher.names`: [B] i32.

    Args:
        context: of the run.
        stage: with several teachers.
        records: B problems, each with its stable "id".

    Raises:
        ValueError: for a problem whose column names no teacher.
    """
    fields, where = stage.models["teacher"], f"config.{stage.name}.models.teacher"
    names, column = list(fields["names"]), fields["column"]
    found = []
    for record in records:
        if record.get(column) not in names:
            place = place_of(context.train_problems, record["id"])
            raise unknown_name(
                f"teacher in the column {column!r} of {place}",
                record.get(column),
                names,
                f"{where}.names, {where}.column",
            )
        found.append(names.index(record[column]))
    return np.array(found, np.int32)


def check_teacher_names(context: Context, stage: Stage) -> None:
    """Raises ValueError for a problem without a teacher; says which teachers have no problem."""
    names = stage.models.get("teacher", {}).get("names", ())
    if not names:
        return
    records = checked_records(context.train_problems)
    counts = np.bincount(teacher_ids(context, stage, records), minlength=len(names))
    if not counts.all():
        idle = ", ".join(name for name, count in zip(names, counts, strict=True) if not count)
        say_once(
            f"no problem of {len(records)} has the teacher {idle} "
            f"(config.{stage.name}.models.teacher.column)"
        )


class TeacherScores:
    """What teachers say of sampled tokens, at the temperature of the sampler."""

    def __init__(self, context: Context, stage: Stage) -> None:
        """Compiles nothing yet.

        Args:
            context: of the stage, its teachers read.
            stage: of policy gradients with a teacher.
        """
        self.context, self.stage = context, stage
        parts = stage.batch.sequences_per_step // stage.batch.sequences_per_micro_batch
        self.scores = []
        for role in role_names(stage, "teacher"):
            teacher = context.models[role]
            score = context.with_network(teacher.network).jit_score(
                stage.token_filter, micro_batches=parts, likelihood=likelihood_of(stage)
            )
            self.scores.append(functools.partial(score, teacher.arrays(context.mesh)))

    def __call__(self, rows: Rows, records: Sequence[Record]) -> np.ndarray:
        """[N, T] f32: log-probabilities of the samples' tokens, each under its prompt's teacher.

        Args:
            rows: of N samples, in the layout of the stage.
            records: their B problems; N / B samples of each.
        """
        placed = put_rows(rows, self.context.mesh)
        first, *others = (per_sample(to_host(score(placed))) for score in self.scores)
        if not others:
            return first
        ids = np.repeat(teacher_ids(self.context, self.stage, records), len(first) // len(records))
        for place, found in enumerate(others, start=1):
            first = np.where((ids == place)[:, None], found, first)
        return first
