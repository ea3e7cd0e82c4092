"""How long the sequences of a stage are, all as long as the config allows."""

from typing import NamedTuple

from rljax.config.stage import Stage
from rljax.planning.further_calls import has_scaffold
from rljax.training.run.context import Context


class Lengths(NamedTuple):
    """Tokens of a sequence, all as long as the config allows.

    Attributes:
        samples: sequences with one prompt.
        prompt: tokens before a completion.
        completion: tokens that are learned.
        sampled: tokens that a sampler writes; 0: nothing is sampled.
        asked: tokens of a problem's prompt, without the room that a row has for a hint.
    """

    samples: int
    prompt: int
    completion: int
    sampled: int
    asked: int


def lengths_of(context: Context, stage: Stage) -> Lengths:
    """The lengths of a stage's sequences; a packed row counts as one demonstration."""
    asked, family = context.config.data.max_prompt_tokens, stage.objective.family
    prompt = asked + (stage.data["max_context_tokens"] if has_scaffold(stage) else 0)
    if family == "supervised":
        return Lengths(1, 0, stage.data["row_tokens"], 0, 0)
    if family in ("preference", "reward"):
        together = stage.sequences_together(shared=False)
        return Lengths(together, prompt, stage.data["max_completion_tokens"], 0, asked)
    if family == "unpaired":
        return Lengths(1, prompt, stage.data["max_completion_tokens"], 0, asked)
    sampled, samples = stage.max_new_tokens, stage.batch.rows_per_prompt
    if family == "distillation" and not samples_at_all(stage):
        return Lengths(samples, prompt, sampled, 0, asked)
    answer = stage.data["max_answer_tokens"] if family == "evidence" else 0
    return Lengths(samples, prompt, sampled + answer, sampled, asked)


def samples_at_all(stage: Stage) -> bool:
    """Whether a stage of distillation samples, or learns from demonstrations alone."""
    share = stage.objective.values.get("on_policy_share", 1.0)
    return share > 0 or stage.objective.choices["off_policy"] == "teacher"
