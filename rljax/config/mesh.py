"""Whether the batches of stages divide over a mesh."""

from collections.abc import Mapping

from rljax.config.stage import Stage
from rljax.parallel.rules import check_row_length


def check_mesh(stages: tuple[Stage, ...], rows_divisor: int, evaluation_prompts: int) -> None:
    """Raises ValueError unless every batch divides over the devices that split rows."""
    sizes = {"config.evaluation.prompts_per_batch": evaluation_prompts}
    for stage in stages:
        where, batch = f"config.{stage.name}.batch", stage.batch
        together = stage.sequences_together(shared=batch.share_prompts)
        sizes[f"{where}.sequences_per_micro_batch"] = batch.sequences_per_micro_batch // together
        if stage.online:
            sizes[f"{where}.prompts_per_step"] = batch.prompts_per_step
    for where, rows in sizes.items():
        if rows % rows_divisor:
            raise ValueError(
                f"{rows} rows (pairs, or whole groups with share_prompts) of {where} do not divide "
                f"over the {rows_divisor} shards of rows, data x fsdp x expert ({where}, "
                "config.<stage>.batch.share_prompts, config.mesh)."
            )


def check_row_lengths(
    stages: tuple[Stage, ...], mesh_shape: Mapping[str, int], max_prompt_tokens: int
) -> None:
    """Raises ValueError unless every stage's rows divide over the mesh axis "context"."""
    for stage in stages:
        record = stage.objective.description
        if record.row_slots:
            slots = stage_slots(stage, record.row_slots)
            check_row_length(mesh_shape, slots, f"config.{stage.name}.{record.row_slots}")
            continue
        for names in stage.objective.completion_slots:
            completion = sum(stage_slots(stage, name) for name in names)
            shared = stage.batch.share_prompts
            completions = stage.sequences_together(shared=True) if shared else 1
            slots = max_prompt_tokens + completions * completion
            fields = ["config.data.max_prompt_tokens"]
            fields += [f"config.{stage.name}.{name}" for name in names]
            check_row_length(mesh_shape, slots, ", ".join(fields))


def stage_slots(stage: Stage, field: str) -> int:
    """The value of a field "section.name" of a stage that counts slots."""
    section, name = field.split(".")
    return {"sampling": {"max_new_tokens": stage.max_new_tokens}, "data": stage.data}[section][name]
