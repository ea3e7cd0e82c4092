"""Prompts that tell more than the policy reads: a solution, an answer, another sample, feedback."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rljax.config.stage import Stage
from rljax.data.encode import check_length, pad_prompts
from rljax.data.rows import column_of, prompt_of
from rljax.data.sources import place_of
from rljax.errors import typed
from rljax.rewards.pool import Scores
from rljax.rewards.references import gold_text
from rljax.rewards.user_rewards import is_user_reward
from rljax.training.collect.demonstrations import demonstration_texts
from rljax.training.collect.rollouts import Samples
from rljax.training.run.context import Context, Record
from rljax.training.run.problems import prompt_column

# What is told of a problem, whatever is sampled for it.
PROMPT_CONTEXTS = ("demonstration", "reference", "column")


class Told(NamedTuple):
    """What the teacher of a sample is told besides the prompt; "" where there is nothing."""

    sample: str  # another one, which is right
    feedback: str  # what the verifiers say of this one


def told_prompts(
    context: Context, stage: Stage, records: Sequence[Record]
) -> tuple[np.ndarray, np.ndarray]:
    """The prompts of problems as the teacher reads them, padded on the left.

    Args:
        context: of the run.
        stage: of distillation with a teacher_context.
        records: B problems, each with its stable "id".

    Returns:
        tokens [B, P'] i32 and mask [B, P'] bool, P' = max_prompt_tokens + max_context_tokens.

    Raises:
        ValueError: for a problem that has nothing to tell, or one that is too long.
    """
    texts = _contexts(context, stage, records)
    return prompts_with(context, stage, records, texts, stage.objective.values["context_pattern"])


def hinted_prompts(
    context: Context, stage: Stage, records: Sequence[Record], pattern: str
) -> tuple[np.ndarray, np.ndarray]:
    """The prompts of problems with their reference answers; else as `told_prompts`."""
    answers = [gold_text(reference) for reference in context.references(records)]
    return prompts_with(context, stage, records, answers, pattern)


def prompts_with(
    context: Context, stage: Stage, records: Sequence[Record], texts: Sequence[str], pattern: str
) -> tuple[np.ndarray, np.ndarray]:
    """Prompts with a text each, by a pattern; tokens [B, P'] i32 and mask, as `told_prompts`."""
    budget = context.config.data.max_prompt_tokens + stage.data["max_context_tokens"]
    column, prompts = prompt_column(context.config), []
    for record, more in zip(records, texts, strict=True):
        where = place_of(context.train_problems, record["id"])
        value = told(record[column], more, pattern, where)
        prompt = prompt_of(
            {**record, column: value}, context.text_format, where=where, column=column
        )
        check_length(
            prompt.tokens,
            budget,
            f"The prompt with its context of {where}",
            f"config.data.max_prompt_tokens + config.{stage.name}.data.max_context_tokens",
        )
        prompts.append(prompt.tokens)
    return pad_prompts(prompts, context.tokenizer.pad_id, max_prompt_tokens=budget)


def check_room(context: Context, stage: Stage) -> None:
    """Raises ValueError where the network has no positions for a prompt with its hint."""
    context.network.config.check_positions(
        context.config.data.max_prompt_tokens
        + stage.data["max_context_tokens"]
        + stage.max_new_tokens,
        "A prompt with its hint and a completion",
        f"lower config.{stage.name}.data.max_context_tokens",
    )


def told_of_samples(samples: Samples, scores: Scores, teacher_context: str) -> list[Told]:
    """What the teacher is told of each sample, as in SDPO (arXiv:2601.20802).

    That is the first right sample of the same prompt besides itself, what the verifiers say of the
    sample itself, or both.

    Args:
        samples: N = B * G.
        scores: of them. A sample that did not end is not told to others, even if it is right.
        teacher_context: of `OF_SAMPLES` (registry/families/distillation.py).
    """
    group, right = samples.samples_per_prompt, scores.correct & samples.flat("finished")
    found = []
    for n in range(len(right)):
        others = range(n // group * group, (n // group + 1) * group)
        other = next((samples.texts[m] for m in others if right[m] and m != n), "")
        feedback = "" if scores.feedback is None else str(scores.feedback[n])
        found.append(
            Told(
                "" if teacher_context == "feedback" else other,
                "" if teacher_context == "sample" else feedback,
            )
        )
    return found


def told_samples(
    context: Context, stage: Stage, samples: Samples, said: Sequence[Told]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The prompt of each sample with what its teacher is told.

    Args:
        context: of the stage.
        stage: of distillation with a teacher_context of samples.
        samples: N = B * G.
        said: of each sample.

    Returns:
        tokens [N, P'] i32 and mask [N, P'] bool, P' as in `told_prompts`; and [N] bool, which
        samples are told something. Where both a sample and feedback are too long for a prompt, the
        sample alone is told, else the feedback alone. Others have the prompt as it is: those of
        which there is nothing to tell, and those whose prompt would be too long with it.
    """
    budget = context.config.data.max_prompt_tokens + stage.data["max_context_tokens"]
    prompts, told_one = [], np.zeros(len(said), bool)
    for n, (sample, feedback) in enumerate(said):
        b = n // samples.samples_per_prompt
        tokens = samples.prompts[b][samples.prompt_mask[b]].tolist()
        tries = dict.fromkeys((Told(sample, feedback), Told(sample, ""), Told("", feedback)))
        for each in (one for one in tries if any(one)):
            longer = _told_tokens(context, stage, samples.records[b], each)
            if len(longer) <= budget:
                tokens, told_one[n] = longer, True
                break
        prompts.append(tokens)
    pad_id = context.tokenizer.pad_id
    return *pad_prompts(prompts, pad_id, max_prompt_tokens=budget), told_one


def _told_tokens(context: Context, stage: Stage, record: Record, said: Told) -> list[int]:
    """A problem's prompt with a sample, feedback or both."""
    column, values = prompt_column(context.config), stage.objective.values
    where, value = place_of(context.train_problems, record["id"]), record[column]
    if said.feedback:
        value = told(value, said.feedback, values["feedback_pattern"], where)
    if said.sample:
        value = told(value, said.sample, values["context_pattern"], where)
    changed = {**record, column: value}
    return prompt_of(changed, context.text_format, where=where, column=column).tokens


def told(prompt: object, context: str, pattern: str, where: str) -> object:
    """A prompt with its context: in the text, or in the last message of a conversation.

    Raises:
        ValueError: for a conversation that does not end with a text.
    """
    if isinstance(prompt, str):
        # Not str.format: texts hold braces of their own.
        before, after = pattern.split("{prompt}")
        return before.replace("{context}", context) + prompt + after.replace("{context}", context)
    *earlier, last = prompt
    if not isinstance(last.get("content"), str):
        raise ValueError(
            f"{where}: the context stands in the last message, which must be a text, got "
            f"{last!r} (config.<stage>.objective.context_pattern)."
        )
    return [*earlier, {**last, "content": told(last["content"], context, pattern, where)}]


def _contexts(context: Context, stage: Stage, records: Sequence[Record]) -> list[str]:
    teacher_context = stage.objective.choices["teacher_context"]
    if teacher_context == "demonstration":
        return demonstration_texts(context, stage, records)
    if teacher_context == "column":
        return [_text_of_column(context, stage, record) for record in records]
    return [gold_text(reference) for reference in context.references(records)]


def _text_of_column(context: Context, stage: Stage, record: Record) -> str:
    column = stage.objective.values["context_column"]
    where = place_of(context.train_problems, record["id"])
    value = column_of(record, column, where)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(
            f"{where}: the column {column!r} must hold a text that is not empty, got "
            f"{typed(value)} (config.{stage.name}.objective.context_column)."
        )
    return value


def check_feedback(context: Context, stage: Stage) -> None:
    """Raises ValueError where a teacher is told feedback, and no reward would say any."""
    if "feedback_pattern" not in stage.objective.values:
        return
    members = context.scorer.composition.members
    if not any(is_user_reward(each.name) or each.options.get("feedback") for each in members):
        told_of = stage.objective.choices["teacher_context"]
        raise ValueError(
            f"teacher_context={told_of!r}: none of the rewards {[m.label for m in members]} says "
            "anything of a sample; python_tests does with the option feedback=True, and so may a "
            f"reward of your own (config.{stage.name}.objective.teacher_context, "
            "config.scoring.rewards)."
        )
