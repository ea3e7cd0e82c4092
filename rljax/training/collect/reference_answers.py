"""Reference answers behind sampled thoughts: what a policy's likelihood of them is computed on.

A sample is cut after the answer phrase; the reference answer, its closing text and the end token
follow. The ids that were sampled stay as they are, and the answer is tokenised by itself: so no
token reaches over the place where they meet.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rljax.config.stage import Stage
from rljax.data.tokenizers import Tokenizer
from rljax.rewards.references import gold_text
from rljax.training.collect.rollouts import Samples
from rljax.training.run.context import Context, Record
from rljax.training.run.problems import checked_count
from rljax.training.update.rows import Rows, rollout_rows


class AnswerForm(NamedTuple):
    """How an answer stands in a completion."""

    phrase: str  # ends the chain of thought
    end: str  # between the answer and the end token
    most_tokens: int  # of an answer, its closing text and end token
    field: str  # of the config that says `most_tokens`, for errors


class Answered(NamedTuple):
    """Rows of thoughts with the reference answer behind them, of B prompts with G samples each."""

    rows: Rows  # as the trainer reads them, with thought_mask and answer_mask like the mask
    format_ok: np.ndarray  # [B, G] bool, the phrase is there; else no answer follows
    present: np.ndarray  # [B, G] bool, the prompt has an answer that is not empty


def form_of(stage: Stage) -> AnswerForm:
    """The form of a stage whose objective reads reference answers."""
    values = stage.objective.values
    return AnswerForm(
        values["answer_phrase"],
        values["answer_end"],
        stage.data["max_answer_tokens"],
        f"config.{stage.name}.data.max_answer_tokens",
    )


def check_answers(
    context: Context, form: AnswerForm, problems: Sequence[Record], *, needed_by: str = ""
) -> None:
    """Reads the first reference answers; those of a file all.

    Args:
        context: of the run.
        form: of the answers.
        problems: of the run, or held-out ones.
        needed_by: the setting that needs an answer to every problem, for errors; "": problems
            with an empty one are left out.

    Raises:
        ValueError: for an answer that is too long, or empty where it is needed.
    """
    for index in range(checked_count(problems)):
        ids = answer_ids(context, form, {**problems[index], "id": index})
        if needed_by and not ids:
            raise empty_answer(index, needed_by)


def empty_answer(record_id: int, needed_by: str) -> ValueError:
    """The error for a problem without a reference answer, where one is needed."""
    return ValueError(
        f"Problem {record_id} has an empty reference answer, and {needed_by} rewards nothing else."
    )


def named_reward(stage: Stage) -> str:
    """What a stage scores answers with, and the field that says it, for errors."""
    reward = stage.objective.choices["answer_reward"]
    return f"answer_reward={reward!r} (config.{stage.name}.objective.answer_reward)"


def answered_rows(
    context: Context,
    form: AnswerForm,
    samples: Samples,
    *,
    slots: int,
    share_prompts: bool,
    whole: np.ndarray | None = None,
) -> Answered:
    """Rows of prompt, thought and reference answer.

    Args:
        context: of the run.
        form: of the answers.
        samples: B prompts, G samples each.
        slots: T + A, of a thought and an answer.
        share_prompts: the layout of the rows (training/update/rows.py).
        whole: [B] bool, prompts whose samples stay as they are, their own answers included: all of
            them counts as thought, and no reference follows.
    """
    tokenizer, group = context.tokenizer, samples.samples_per_prompt
    answers = [answer_ids(context, form, record) for record in samples.records]
    whole = np.zeros(len(answers), bool) if whole is None else whole
    count = len(answers) * group
    tokens = np.full((count, slots), tokenizer.pad_id, np.int32)
    thought_mask, answer_mask = np.zeros((count, slots), bool), np.zeros((count, slots), bool)
    format_ok = np.zeros(count, bool)
    for n in range(count):
        written = samples.flat("tokens")[n][samples.flat("mask")[n]]
        length = length_to_phrase(tokenizer, written, form.phrase)
        format_ok[n] = length is not None
        kept = whole[n // group]
        thought = written if kept else written[:length]
        answer = answers[n // group] if format_ok[n] and not kept else []
        end = len(thought) + len(answer)
        tokens[n, :end] = [*thought, *answer]
        thought_mask[n, : len(thought)] = True
        answer_mask[n, len(thought) : end] = True
    shape = (len(answers), group, slots)
    rows = rollout_rows(
        samples.prompts,
        samples.prompt_mask,
        tokens.reshape(shape),
        (thought_mask | answer_mask).reshape(shape),
        share_prompts=share_prompts,
    )
    rows["thought_mask"] = thought_mask.reshape(rows["mask"].shape)
    rows["answer_mask"] = answer_mask.reshape(rows["mask"].shape)
    present = np.repeat([bool(answer) for answer in answers], group).reshape(-1, group)
    return Answered(rows, format_ok.reshape(-1, group), present)


def without_thoughts(context: Context, form: AnswerForm, samples: Samples) -> Samples:
    """The same prompts with completions that are the answer phrase alone.

    Raises:
        ValueError: if the samples have no room for the phrase.
    """
    ids, rollouts = context.tokenizer.encode_inside(form.phrase), samples.rollouts
    room = rollouts.tokens.shape[-1]
    if len(ids) > room:
        raise ValueError(
            f"The answer phrase {form.phrase!r} has {len(ids)} tokens, and completions have "
            f"{room} (config.<stage>.objective.answer_phrase, "
            "config.<stage>.sampling.max_new_tokens)."
        )
    tokens = np.full(rollouts.tokens.shape, context.tokenizer.pad_id, np.int32)
    tokens[..., : len(ids)] = ids
    mask = np.broadcast_to(np.arange(room) < len(ids), tokens.shape)
    return samples._replace(rollouts=rollouts._replace(tokens=tokens, mask=mask))


def answer_ids(context: Context, form: AnswerForm, record: Record) -> list[int]:
    """Reference answer, its closing text and eos; empty where there is no answer.

    Raises:
        ValueError: if that is longer than the budget.
    """
    text = gold_text(context.references([record])[0])
    if not text:
        return []
    (prompt,) = context.prompts([record])
    ids = [*context.tokenizer.encode_inside(text + form.end), prompt.end]
    if len(ids) > form.most_tokens:
        raise ValueError(
            f"The reference answer of record {record['id']} has {len(ids)} tokens (closing text "
            f"and eos included), the budget is {form.most_tokens} ({form.field})."
        )
    return ids


def single_token(tokenizer: Tokenizer, phrase: str) -> tuple[int, ...]:
    """The phrase as a stop token if it is one token, so that sampling ends there; else nothing."""
    ids = tokenizer.encode(phrase)
    return tuple(ids) if len(ids) == 1 else ()


def length_to_phrase(tokenizer: Tokenizer, ids: Sequence[int], phrase: str) -> int | None:
    """Tokens up to the first end of the phrase; None if it is missing.

    Also None where a token reaches over the end of the phrase: an answer appended there would
    follow text that the policy did not write.
    """
    if phrase not in tokenizer.decode(ids):
        return None
    low, high = 1, len(ids)
    while low < high:  # the phrase stays in every longer prefix
        middle = (low + high) // 2
        if phrase in tokenizer.decode(ids[:middle]):
            high = middle
        else:
            low = middle + 1
    return low if tokenizer.decode(ids[:low]).endswith(phrase) else None
