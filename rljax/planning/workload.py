"""What a stage asks of its chips, in numbers: what the analytic model (analytic.py) reads."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from rljax.config.stage import Stage
from rljax.models.lora import split_frozen
from rljax.planning.frozen_models import copies_of, others_of
from rljax.planning.further_calls import further_calls
from rljax.planning.lengths import Lengths, lengths_of
from rljax.planning.sampling_programs import waiting_copies
from rljax.planning.useful import (
    denoising_of,
    drawing_flops,
    frozen_flops,
    learning_flops,
    sampler_calls,
    samples_of_call,
    scoring_flops,
)
from rljax.sampling.engine import bucket
from rljax.training.families.table import family_class
from rljax.training.learner.needs import needs_scores
from rljax.training.run.context import Context
from rljax.training.update.likelihood import draws, passes_of
from rljax.training.update.optimizers import build_optimizer
from rljax.training.update.state import first_moments


def workload_of(context: Context, stage: Stage) -> dict[str, Any]:
    """What the formulas (analytic.py, expected.py) read of a stage, as JSON has it."""
    model, sizes, lengths = context.network.config, stage.batch, lengths_of(context, stage)
    settings = context.config.sampler
    shared = sizes.share_prompts
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
        "forward_flops": scoring_flops(stage, model, lengths, sizes.sequences_per_step),
        "update_flops": learning_flops(stage, model, lengths, sizes.sequences_per_update),
        "both_ways": not model.causal,
        "draws": passes_of(stage),
        "drawn_again": draws(stage) and not stage.objective.values["keep_passes"],
        **_sampling(context, stage, lengths),
        "frozen_parameters": _parameters_beside(context, stage),
        "frozen_flops": frozen_flops(context, stage),
        "ahead": may_sample_ahead(stage),
        "stale": context.config.asynchronous.max_staleness > 0,
        "passes": int(scores) + int(stage.needs_reference),
        **lengths._asdict(),
        "prompt_slots": bucket(lengths.asked),
        "sampler": {
            "slots": settings.slots,
            "weights": settings.weights,
            "cache": settings.cache,
            "mesh": {axis: size for axis, size in settings.mesh.to_dict().items() if size},
        },
        "mesh": context.config.mesh.to_dict(),
        "sampler_devices": context.config.asynchronous.sampler_devices,
        "waiting_copies": waiting_copies(context.config.asynchronous),
    }


def _sampling(context: Context, stage: Stage, lengths: Lengths) -> dict[str, Any]:
    """How a step samples: samples of a prompt in one call, calls, steps of denoising, operations.

    `sampler_calls` are those of `call_samples` from each prompt as it is; `calls` are all, others
    by their share of the sequences of one of these.
    """
    denoising, calls = denoising_of(context, stage), sampler_calls(stage)
    samples, others = samples_of_call(stage), further_calls(stage).values()
    further = sum(call.times * call.prompts * call.samples for call in others)
    return {
        "call_samples": samples,
        "sampler_calls": calls,
        "calls": calls + (further and further / (stage.batch.prompts_per_step * samples)),
        "denoising": denoising
        and {"passes": denoising.most_passes, "block": denoising.block_tokens},
        "sampling_flops": drawing_flops(context, stage, lengths) if lengths.sampled else 0.0,
    }


def may_sample_ahead(stage: Stage) -> bool:
    """Whether another policy than the one that learns may sample (config/asynchronous.py)."""
    asks = "start_values" in stage.objective.inputs or "reward" in stage.models
    return stage.online and stage.objective.description.ahead and not asks


def _parameters_beside(context: Context, stage: Stage) -> int:
    """Numbers of the frozen models besides the reference, and of copies that follow the policy.

    A copy has what is trained of the policy.
    """
    frozen = sum(other.network.parameter_count for other in others_of(context).values())
    copies = (split_frozen(each.shapes)[0] for each in copies_of(context, stage).values())
    return frozen + sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(list(copies)))


def _optimizer_bytes(context: Context, stage: Stage) -> float:
    """Bytes of the optimizer's state for each parameter of the model."""
    optimizer, (shapes, _) = build_optimizer(stage), split_frozen(context.network.shapes)
    state = jax.eval_shape(lambda params: first_moments(optimizer, params), shapes)
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return size / context.network.parameter_count
