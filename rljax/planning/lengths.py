"""How long the sequences of a stage are, all as long as the config allows."""

from typing import NamedTuple

from rljax.config.stage import Stage
from rljax.training.run.context import Context


class Lengths(NamedTuple):
    """Tokens of a sequence, all as long as the config allows.

    Attributes:
        samples: sequences with one prompt.
        prompt: tokens before a completion.
        completion: tokens that are learned.
        sampled: tokens that a sampler writes; 0: nothing is sampled.
    """

    samples: int
    prompt: int
    completion: int
    sampled: int


def lengths_of(context: Context, stage: Stage) -> Lengths:
    """The lengths of a stage's sequences; a packed row counts as one demonstration."""
    prompt, family = context.config.data.max_prompt_tokens, stage.objective.family
    if family == "supervised":
        return Lengths(1, 0, stage.data["row_tokens"], 0)
    if family in ("preference", "reward"):
        together = stage.sequences_together(shared=False)
        return Lengths(together, prompt, stage.data["max_completion_tokens"], 0)
    if family == "unpaired":
        return Lengths(1, prompt, stage.data["max_completion_tokens"], 0)
    sampled, samples = stage.max_new_tokens, stage.batch.rows_per_prompt
    if family == "distillation" and not samples_at_all(stage):
        return Lengths(samples, prompt, sampled, 0)
    answer = stage.data["max_answer_tokens"] if family == "evidence" else 0
    return Lengths(samples, prompt, sampled + answer, sampled)


def samples_at_all(stage: Stage) -> bool:
    """Whether a stage of distillation samples, or learns from demonstrations alone."""
    share = stage.objective.values.get("on_policy_share", 1.0)
    return share > 0 or stage.objective.choices["off_policy"] == "teacher"
