"""Operations that a step needs, however it is compiled: what MFU counts."""

from rljax.benchmarks.flops import forward_flops, sampling_flops, update_flops
from rljax.config.stage import Stage
from rljax.data.rows import SIDES
from rljax.training.run.context import Context


def useful_flops(context: Context, stage: Stage) -> dict[str, dict[str, float] | float]:
    """Operations of each program, all chips and one run of it, and the tokens of a step.

    Every prompt and every completion is as long as the config allows.

    Returns:
        useful: program -> operations; tokens: completions' tokens of a step.
    """
    sizes, model = stage.batch, context.network.config
    pairs = stage.objective.family == "preference"
    samples = len(SIDES) if pairs else sizes.rows_per_prompt
    length = stage.data["max_completion_tokens"] if pairs else stage.max_new_tokens
    prompt = context.config.data.max_prompt_tokens
    shared = sizes.share_prompts

    def shape(sequences: int) -> tuple[int, int, int, int]:
        return sequences // samples, samples, prompt, length

    step = shape(sizes.sequences_per_step)
    update = shape(sizes.sequences_per_update)
    forward = forward_flops(model, *step, shared=shared)
    return {
        "useful": {
            "update": update_flops(model, *update, shared=shared),
            "sampling": sampling_flops(model, *step),
            "scores": forward,
            "reference": forward,
        },
        "tokens": float(sizes.sequences_per_step * length),
    }
