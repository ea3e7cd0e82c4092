"""Worked demonstrations of problems, as completions."""

from collections.abc import Sequence

import numpy as np

from rljax.config.stage import Stage
from rljax.data.encode import check_length, pad_completions
from rljax.data.packing import Example, PackedEpochs
from rljax.training.collect.experience import Demonstrations, Experience, Policy
from rljax.training.collect.prompts import State
from rljax.training.run.context import Context, Record

COLUMNS = ("demonstration", "completion")  # of generated problems, of files


def demonstrations(context: Context, stage: Stage, records: Sequence[Record]) -> Demonstrations:
    """The demonstration of each problem, with eos, and what the run's verifier says of it.

    One that no reward applies to has an empty mask: the problem has none.

    Raises:
        ValueError: for a problem without one, or one longer than a completion may be.
    """
    tokens, mask = encode_demonstrations(context, stage, records)
    scores = context.scorer.score(
        [prompt.text for prompt in context.prompts(records)],
        demonstration_texts(stage, records),
        context.references(records),
        mask.sum(axis=1).tolist(),
    )
    there = mask & ~scores.left_out[:, None]
    return Demonstrations(tokens, there, np.where(scores.left_out, 0.0, scores.total))


def encode_demonstrations(
    context: Context, stage: Stage, records: Sequence[Record]
) -> tuple[np.ndarray, np.ndarray]:
    """The demonstration of each problem: tokens [B, T] i32 and mask [B, T] bool, with eos.

    Raises:
        ValueError: for a problem without one, or one longer than a completion may be.
    """
    texts, completions = demonstration_texts(stage, records), []
    for record, prompt, text in zip(records, context.prompts(records), texts, strict=True):
        where = f"problem {record['id']}"
        completions.append(context.text_format.completion(prompt, text, where))
        check_length(
            completions[-1],
            stage.max_new_tokens,
            f"The demonstration of {where}",
            f"config.{stage.name}.sampling.max_new_tokens",
        )
    return pad_completions(
        completions, context.tokenizer.pad_id, max_new_tokens=stage.max_new_tokens
    )


def demonstration_texts(stage: Stage, records: Sequence[Record]) -> list[str]:
    """The demonstration of each problem.

    Raises:
        ValueError: for a problem without one.
    """
    texts = []
    for place, record in enumerate(records):
        column = next((name for name in COLUMNS if record.get(name)), None)
        if column is None:
            raise ValueError(
                f"Problem {record.get('id', place)} has no demonstration, a column named "
                f"{' or '.join(map(repr, COLUMNS))}, which method "
                f"{stage.objective.method.name!r} learns from (config.{stage.name}.method, "
                "config.data)."
            )
        texts.append(record[column])
    return texts


class PackedDemonstrations:
    """Experience that is read: packed rows, each a list of the examples in it.

    The rows of a step are a function of the seed and the step: there is no state.
    """

    def __init__(
        self, epochs: PackedEpochs, rows_per_step: int, examples: Sequence[Example]
    ) -> None:
        self.epochs, self.rows_per_step, self.examples = epochs, rows_per_step, examples

    def first_state(self) -> State:
        """Nothing."""
        return {}

    def collect(self, policy: Policy, state: State, step: int) -> tuple[Experience, State]:
        """The rows of a step (from 1)."""
        return Experience(self.epochs.rows_for_step(step - 1, self.rows_per_step)), state
