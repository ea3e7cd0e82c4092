"""Prompts that tell more than the policy reads: a solution, the answer, another sample."""

from collections.abc import Sequence

import numpy as np

from rljax.config.stage import Stage
from rljax.data.encode import check_length, pad_prompts
from rljax.data.rows import prompt_of
from rljax.data.sources import place_of
from rljax.rewards.references import gold_text
from rljax.training.collect.demonstrations import demonstration_texts
from rljax.training.collect.rollouts import Samples
from rljax.training.run.context import Context, Record
from rljax.training.run.problems import prompt_column


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


def told_samples(
    context: Context, stage: Stage, samples: Samples, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The prompt of each sample with the first right sample of the same prompt besides itself.

    As in SDPO (arXiv:2601.20802).

    Args:
        context: of the stage.
        stage: of distillation with teacher_context="sample".
        samples: N = B * G.
        right: [N] bool.

    Returns:
        tokens [N, P'] i32 and mask [N, P'] bool, P' as in `told_prompts`; and [N] bool, which
        samples are told one. Others have the prompt as it is: those without another right sample,
        and those whose prompt would be too long with it.
    """
    budget = context.config.data.max_prompt_tokens + stage.data["max_context_tokens"]
    column, group = prompt_column(context.config), samples.samples_per_prompt
    prompts, told_one = [], np.zeros(len(right), bool)
    for n in range(len(right)):
        b = n // group
        record = samples.records[b]
        others = [m for m in range(b * group, (b + 1) * group) if right[m] and m != n]
        tokens = samples.prompts[b][samples.prompt_mask[b]].tolist()
        if others:
            where = place_of(context.train_problems, record["id"])
            pattern = stage.objective.values["context_pattern"]
            value = told(record[column], samples.texts[others[0]], pattern, where)
            longer = prompt_of(
                {**record, column: value}, context.text_format, where=where, column=column
            ).tokens
            told_one[n] = len(longer) <= budget
            tokens = longer if told_one[n] else tokens
        prompts.append(tokens)
    pad_id = context.tokenizer.pad_id
    return *pad_prompts(prompts, pad_id, max_prompt_tokens=budget), told_one


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
    if stage.objective.choices["teacher_context"] == "demonstration":
        return demonstration_texts(context, stage, records)
    return [gold_text(reference) for reference in context.references(records)]
