"""What a stage asks of its chips, in numbers: what the analytic model (analytic.py) reads."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rljax.benchmarks.flops import forward_flops, update_flops
from rljax.config.stage import Stage
from rljax.models.lora import split_frozen
from rljax.sampling.engine import bucket
from rljax.training.families.table import family_class
from rljax.training.learner.needs import needs_scores
from rljax.training.run.context import Context
from rljax.training.update.optimizers import build_optimizer
from rljax.training.update.state import first_moments


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
    answer = stage.data["max_answer_tokens"] if family == "evidence" else 0
    return Lengths(samples, prompt, sampled + answer, sampled)


def workload_of(context: Context, stage: Stage) -> dict[str, Any]:
    """What the formulas (analytic.py, expected.py) read of a stage, as JSON has it."""
    model, sizes, lengths = context.network.config, stage.batch, lengths_of(context, stage)
    settings = context.config.sampler
    shape = (lengths.samples, lengths.prompt, lengths.completion)
    prompts = sizes.sequences_per_update // lengths.samples
    step = sizes.sequences_per_step // lengths.samples
    shared = sizes.share_prompts
    forward = forward_flops(model, step, *shape, shared=shared)
    scores = stage.objective.family == "evidence"
    if stage.objective.family == "policy_gradient":
        scores = needs_scores(stage)
    return {
        "stage": stage.name,
        "parameters": context.network.parameter_count,
        "parameter_bytes": jnp.dtype(model.param_dtype).itemsize,
        "activation_bytes": jnp.dtype(model.dtype).itemsize,
        "optimizer_bytes": _optimizer_bytes(context, stage),
        "reference": stage.freezes_reference,
        "critic": "critic" in family_class(stage).carried(context, stage).shardings,
        "layers": model.layers,
        "width": model.width,
        "heads": model.heads,
        "kv_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "hidden": model.mlp_width if not model.experts else model.expert_width,
        "vocabulary": model.padded_vocab_size,
        "experts": model.experts,
        "experts_per_token": model.experts_per_token,
        "remat": model.remat,
        "adapters": model.lora is not None,
        "prompts_per_step": sizes.prompts_per_step,
        "sequences_per_step": sizes.sequences_per_step,
        "sequences_per_update": sizes.sequences_per_update,
        "sequences_per_micro_batch": sizes.sequences_per_micro_batch,
        "updates": sizes.updates_per_step,
        "together": stage.sequences_together(shared=shared),
        "shared": shared,
        "evaluation_prompts": context.config.evaluation.prompts_per_batch,
        "forward_flops": forward,
        "update_flops": update_flops(model, prompts, *shape, shared=shared),
        "ahead": may_sample_ahead(stage),
        "stale": context.config.asynchronous.max_staleness > 0,
        "passes": int(scores) + int(stage.needs_reference),
        **lengths._asdict(),
        "prompt_slots": bucket(lengths.prompt),
        "sampler": {
            "slots": settings.slots,
            "weights": settings.weights,
            "cache": settings.cache,
            "mesh": {axis: size for axis, size in settings.mesh.to_dict().items() if size},
        },
        "mesh": context.config.mesh.to_dict(),
        "sampler_devices": context.config.asynchronous.sampler_devices,
    }


def may_sample_ahead(stage: Stage) -> bool:
    """Whether another policy than the one that learns may sample (config/asynchronous.py)."""
    asks = "start_values" in stage.objective.inputs or "reward" in stage.models
    return stage.online and stage.objective.description.ahead and not asks


def _optimizer_bytes(context: Context, stage: Stage) -> float:
    """Bytes of the optimizer's state for each parameter of the model."""
    optimizer, (shapes, _) = build_optimizer(stage), split_frozen(context.network.shapes)
    state = jax.eval_shape(lambda params: first_moments(optimizer, params), shapes)
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return size / context.network.parameter_count
