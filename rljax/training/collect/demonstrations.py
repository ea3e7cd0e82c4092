"""Worked demonstrations of problems, as completions."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rljax.config.stage import Stage
from rljax.data.conversations import Message
from rljax.data.encode import check_length, pad_completions
from rljax.data.packing import Example, PackedEpochs, pack_rows
from rljax.data.rows import answer_of
from rljax.data.sources import place_of
from rljax.data.text_format import Prompt, checked_text
from rljax.training.collect.experience import Demonstrations, Experience, Policy
from rljax.training.collect.prompts import State
from rljax.training.run.context import Context, Record
from rljax.training.update.rows import Rows

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
        demonstration_texts(context, stage, records),
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
    completions = []
    for record, prompt in zip(records, context.prompts(records), strict=True):
        where = place_of(context.train_problems, record["id"])
        answer = _demonstration(stage, record, prompt, where)
        completions.append(context.text_format.completion(prompt, answer, where))
        check_length(
            completions[-1],
            stage.max_new_tokens,
            f"The demonstration of {where}",
            f"config.{stage.name}.sampling.max_new_tokens",
        )
    return pad_completions(
        completions, context.tokenizer.pad_id, max_new_tokens=stage.max_new_tokens
    )


def demonstration_texts(context: Context, stage: Stage, records: Sequence[Record]) -> list[str]:
    """The demonstration of each problem as a text: of a message, what the assistant says.

    Args:
        context: of the run.
        stage: that learns from them.
        records: problems for training, each with its stable "id".

    Raises:
        ValueError: for a problem without one, or a message whose content is no text.
    """
    texts = []
    for record, prompt in zip(records, context.prompts(records), strict=True):
        where = place_of(context.train_problems, record["id"])
        answer = _demonstration(stage, record, prompt, where)
        said = answer.get("content") if isinstance(answer, Mapping) else answer
        texts.append(checked_text(said, f"{where}: the demonstration"))
    return texts


def _demonstration(stage: Stage, record: Record, prompt: Prompt, where: str) -> str | Message:
    """A text, or the one message of the assistant."""
    column = next((name for name in COLUMNS if record.get(name)), None)
    if column is None:
        raise ValueError(
            f"{where} has no demonstration, a column named {' or '.join(map(repr, COLUMNS))}, "
            f"which method {stage.objective.method.name!r} learns from "
            f"(config.{stage.name}.method, config.data)."
        )
    return answer_of(record[column], prompt, f"{where}: the {column}")


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


def packed_batch(
    examples: Sequence[Example],
    plan: Sequence[Sequence[int]],
    *,
    row_tokens: int,
    pad_id: int,
    prepared: Callable[[Example], Example] = lambda example: example,
) -> Rows:
    """Packed rows in the trainer's layout: tokens [R, S], and a mask [R, S - 1] of targets.

    The first token of a row is never predicted, hence S - 1; the first token of any other example
    is part of a prompt and masked out.
    """
    chosen = {index: prepared(examples[index]) for members in plan for index in members}
    packed = pack_rows(chosen, plan, row_tokens=row_tokens, pad_id=pad_id)
    return {
        "tokens": packed.tokens,
        "positions": packed.positions,
        "segment_ids": packed.segment_ids,
        "mask": packed.loss_mask[:, 1:],
    }
