"""Operations that a step needs, however it is compiled: what MFU counts."""

from rljax.benchmarks.flops import forward_flops, logits_flops, sampling_flops, update_flops
from rljax.config.stage import Stage
from rljax.planning.workload import lengths_of
from rljax.training.run.context import Context


def useful_flops(context: Context, stage: Stage) -> dict[str, dict[str, float] | float]:
    """Operations of each program, all chips and one run of it, and the tokens of a step.

    Every prompt and every completion is as long as the config allows.

    Returns:
        useful: program -> operations; tokens: completions' tokens of a step.
    """
    sizes, model = stage.batch, context.network.config
    lengths = lengths_of(context, stage)
    shared = sizes.share_prompts

    def shape(sequences: int) -> tuple[int, int, int, int]:
        return sequences // lengths.samples, lengths.samples, lengths.prompt, lengths.completion

    step = shape(sizes.sequences_per_step)
    update = shape(sizes.sequences_per_update)
    forward = forward_flops(model, *step, shared=shared)
    updated = update_flops(model, *update, shared=shared)
    if model.head == "reward":  # one score for a sequence, no logits
        updated -= 3 * sizes.sequences_per_update * lengths.completion * logits_flops(model)
    return {
        "useful": {
            "update": updated,
            "sampling": sampling_flops(model, *step[:3], lengths.sampled),
            "scores": forward,
            "reference": forward,
        },
        "tokens": float(sizes.sequences_per_step * lengths.completion),
    }
