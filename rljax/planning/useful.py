"""Operations that a step needs, however it is compiled: what MFU counts."""

import math

from rljax.benchmarks.flops import (
    canvas_flops,
    canvas_update_flops,
    forward_flops,
    logits_flops,
    sampling_flops,
    update_flops,
)
from rljax.config.curriculum import OF_PROMPTS
from rljax.config.stage import Stage
from rljax.models.config import ModelConfig
from rljax.planning.frozen_models import asked_of, reward_passes
from rljax.planning.further_calls import further_calls
from rljax.planning.lengths import Lengths, lengths_of
from rljax.planning.program import (
    GRADIENT_NORMS,
    PROMPT_VALUES,
    SAMPLING,
    TEACHER_SAMPLING,
)
from rljax.sampling.diffusion_config import DiffusionConfig
from rljax.training.collect.rounds import drawn_at_once, most_rounds
from rljax.training.collect.sources import stage_engine
from rljax.training.run.context import Context
from rljax.training.run.models import role_names
from rljax.training.update.likelihood import passes_of


def useful_flops(context: Context, stage: Stage) -> dict[str, dict[str, float] | float]:
    """Operations of each program, all chips and one run of it, and the tokens of a step.

    Every prompt and every completion is as long as the config allows.

    Returns:
        useful: program -> operations; tokens: completions' tokens of a step.
    """
    sizes, model, lengths = stage.batch, context.network.config, lengths_of(context, stage)
    scored = scoring_flops(stage, model, lengths, sizes.sequences_per_step)
    updated = learning_flops(stage, model, lengths, sizes.sequences_per_update)
    if model.head == "reward":  # one score for a sequence, no logits
        updated -= 3 * sizes.sequences_per_update * lengths.completion * logits_flops(model)
    useful = {"update": updated, "scores": scored, "reference": scored}
    if lengths.sampled:
        useful[SAMPLING] = drawing_flops(context, stage, lengths)
        useful |= _sampled_again(context, stage, lengths)
    for role, other in asked_of(context, stage).items():
        for name, each in _of_other(context, stage, role, other.config, lengths).items():
            useful[name] = useful.get(name, 0.0) + each
    useful["update"] += useful.pop("beside the update", 0.0)
    return {
        "useful": useful,
        "tokens": float(sizes.sequences_per_step * lengths.completion),
    }


def frozen_flops(context: Context, stage: Stage) -> float:
    """A step's passes of the models besides policy and reference; nothing that they sample."""
    lengths, total = lengths_of(context, stage), 0.0
    for role, other in asked_of(context, stage).items():
        found = _of_other(context, stage, role, other.config, lengths)
        runs = 1 if role in role_names(stage, "teacher") else reward_passes(stage)
        total += runs * sum(each for name, each in found.items() if name != TEACHER_SAMPLING)
    return total


def scoring_flops(stage: Stage, model: ModelConfig, lengths: Lengths, sequences: int) -> float:
    """Scoring so many sequences once, forward; of masked diffusion, with all draws of masks."""
    if not model.causal:
        slots = lengths.prompt + lengths.completion
        return passes_of(stage) * canvas_flops(model, sequences, slots, lengths.completion)
    return forward_flops(model, *_shape(lengths, sequences), shared=stage.batch.share_prompts)


def learning_flops(stage: Stage, model: ModelConfig, lengths: Lengths, sequences: int) -> float:
    """Learning from so many sequences once, forward and backward."""
    if not model.causal:
        slots = lengths.prompt + lengths.completion
        return passes_of(stage) * canvas_update_flops(model, sequences, slots, lengths.completion)
    return update_flops(model, *_shape(lengths, sequences), shared=stage.batch.share_prompts)


def drawing_flops(context: Context, stage: Stage, lengths: Lengths) -> float:
    """Sampling completions of all prompts of a step, once."""
    model, samples = context.network.config, samples_of_call(stage)
    prompts = stage.batch.sequences_per_step // lengths.samples
    denoising, sequences = denoising_of(context, stage), prompts * samples
    if denoising is None:
        return sampling_flops(model, prompts, samples, lengths.asked, lengths.sampled)
    slots, guided = lengths.prompt + lengths.sampled, 1 + (denoising.cfg_scale > 0)
    one = canvas_flops(model, sequences, slots, denoising.block_tokens)
    return denoising.most_passes * guided * one


def samples_of_call(stage: Stage) -> int:
    """Samples of each prompt that the sampler draws at a time."""
    return drawn_at_once(stage)


def sampler_calls(stage: Stage) -> int:
    """How often a step samples, at most: in rounds, of new prompts or of the same ones."""
    if stage.objective.family != "policy_gradient":
        return 1
    return stage.objective.values.get("allocation_rounds", most_rounds(stage))


def candidates(stage: Stage, divisor: int) -> int:
    """Prompts that a critic values before a step samples, filled up to a multiple."""
    wanted = stage.objective.values["pool_factor"] * stage.batch.prompts_per_step
    return math.ceil(wanted / divisor) * divisor


def _sampled_again(context: Context, stage: Stage, lengths: Lengths) -> dict[str, float]:
    """What a step of policy gradients samples besides, and asks of its critic before."""
    objective, sizes, model = stage.objective, stage.batch, context.network.config
    if objective.family != "policy_gradient":
        return {}
    found = {
        name: sampling_flops(
            model, call.prompts, call.samples, lengths.asked + call.hint, lengths.sampled
        )
        for name, call in further_calls(stage).items()
    }
    if objective.choices["allocation"] == "by_variance":
        found[GRADIENT_NORMS] = _slope_flops(
            model, lengths, sizes.prompts_per_step * drawn_at_once(stage)
        )
    if objective.choices["value_target"] == OF_PROMPTS:
        valued = candidates(stage, 1)
        scored = forward_flops(model, valued, 1, lengths.prompt, 1, shared=False)
        found[PROMPT_VALUES] = scored - valued * logits_flops(model)
    return found


def _slope_flops(model: ModelConfig, lengths: Lengths, rows: int) -> float:
    """Gradients of rows by what is embedded, and all products of those of a row.

    Backward there are the products with weights and keys once more; weights have no gradient.
    """
    slots = lengths.asked + lengths.completion
    one = forward_flops(model, rows, 1, lengths.asked, lengths.completion, shared=False)
    return 2 * one + rows * slots**2 * 2 * model.width


def denoising_of(context: Context, stage: Stage) -> DiffusionConfig | None:
    """How a stage fills canvases; None where it samples token by token, or not at all."""
    if context.network.config.causal or not stage.online:
        return None
    found = stage_engine(context, stage, samples=stage.batch.samples_per_prompt).config
    return found if isinstance(found, DiffusionConfig) else None


def _of_other(
    context: Context, stage: Stage, role: str, model: ModelConfig, lengths: Lengths
) -> dict[str, float]:
    """What a model beside the policy computes, by program."""
    sizes = stage.batch
    if role not in role_names(
        stage, "teacher"
    ):  # a reward model: one score for a sequence, no logits
        rows = sizes.sequences_per_micro_batch
        scored = forward_flops(model, rows, 1, lengths.prompt, lengths.completion, shared=False)
        return {role: scored - rows * lengths.completion * logits_flops(model)}
    if stage.objective.family == "policy_gradient":
        return {role: scoring_flops(stage, model, lengths, sizes.sequences_per_step)}
    if stage.objective.family != "distillation":  # what a teacher wrote before the first step
        return {}
    shape, found = _shape(lengths, sizes.sequences_per_step), {}
    if stage.objective.choices["off_policy"] == "teacher":
        found[TEACHER_SAMPLING] = sampling_flops(model, *shape[:3], lengths.sampled)
    if stage.objective.choices["divergence"] != "likelihood":
        told = stage.objective.choices["teacher_context"] != "same"
        read = lengths.prompt + (stage.data["max_context_tokens"] if told else 0)
        # A mixed teacher is the policy as it is, too: one more pass beside those of all teachers.
        mixed = stage.objective.choices["teacher_update"] == "mixed" and role == "teacher"
        found["beside the update"] = sum(
            forward_flops(each, *shape[:2], read, lengths.completion, shared=sizes.share_prompts)
            for each in (model, *([context.network.config] if mixed else ()))
        )
    return found


def _shape(lengths: Lengths, sequences: int) -> tuple[int, int, int, int]:
    return sequences // lengths.samples, lengths.samples, lengths.prompt, lengths.completion
