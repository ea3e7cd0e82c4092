"""Whether the rows of a run fit into the positions of its model."""

from rljax.config.mesh import stage_slots
from rljax.config.stage import Stage
from rljax.models.config import ModelConfig


def check_positions(
    stages: tuple[Stage, ...], model: ModelConfig, max_prompt_tokens: int, evaluation_tokens: int
) -> None:
    """Raises ValueError for prompts and completions that may be longer than the model's positions.

    Stages whose rows are packed examples are left out: each example is looked at when it is read.

    Args:
        stages: of the run.
        model: what they train.
        max_prompt_tokens: of `config.data`.
        evaluation_tokens: `config.evaluation.max_new_tokens`; 0: nothing is evaluated.
    """
    completions = {"config.evaluation.max_new_tokens": evaluation_tokens}
    for stage in stages:
        record = stage.objective.description
        if not record.row_slots:
            for names in stage.objective.completion_slots:
                fields = " + ".join(f"config.{stage.name}.{name}" for name in names)
                completions[fields] = sum(stage_slots(stage, name) for name in names)
    for fields, tokens in completions.items():
        if tokens:
            model.check_positions(
                max_prompt_tokens + tokens,
                f"A prompt and its completion (config.data.max_prompt_tokens + {fields})",
                f"lower one of them, or raise config.model.max_positions ({fields})",
            )
