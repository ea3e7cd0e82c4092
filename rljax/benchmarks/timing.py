"""Timings of a whole GRPO step, and of its update alone."""

import dataclasses
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rljax.benchmarks.flops import forward_flops, sampling_flops, update_flops
from rljax.benchmarks.machine import machine, measured_rate
from rljax.benchmarks.workload import Settings, Workload, build
from rljax.models.lora import has_adapters
from rljax.parallel.rules import put_rows
from rljax.training.learner.needs import needs_scores
from rljax.training.update.rows import Rows, per_sample, rollout_rows

GIB = 2**30

# The layouts that `time_updates` compares, and the override that gives each.
LAYOUTS = {
    "separate": "--config.grpo.batch.share_prompts=False",
    "shared": "--config.grpo.batch.share_prompts=True",
}
# sample includes tokenising and decoding to text; score is the reward function; update is all
# updates of the step with the transfer of their rows; other is the rest: rows, advantages and,
# where the method needs them, log-probabilities under the old and the reference policy.
PHASES = ("sample", "score", "update", "other")


def time_step(settings: Settings) -> dict[str, Any]:
    """Times whole steps: sample, score, update, as the train loop does them.

    Returns:
        A JSON-able report; "seconds_per_step" is the median over the timed steps, "split" holds
        that of each phase.
    """
    work = build(settings)
    with jax.set_mesh(work.context.mesh), work.context.workers():
        program, _ = _one_step(work, None, 1)
        steps = [_one_step(work, program, number + 2)[1] for number in range(settings.steps)]
        memory = program_memory(program) | _peaks()
    split = {phase: _median([step[phase] for step in steps]) for phase in PHASES}
    totals = [sum(step.values()) for step in steps]
    seconds = _median(totals)
    flops = _step_flops(work, settings)
    sampled = settings.prompts * settings.samples * settings.new_tokens
    rate = measured_rate(work.context.network.config.compute_dtype)
    devices = work.context.mesh.size
    return {
        "benchmark": "step",
        **_setting(settings, work),
        "seconds_per_step": seconds,
        "seconds_of_each_step": totals,
        "split": split,
        "new_tokens_per_second": sampled / seconds,
        "sampled_tokens_per_second": sampled / split["sample"],
        "flops": {**flops, "step": sum(flops.values())},
        "flops_per_second": {
            "step": sum(flops.values()) / seconds,
            **{phase: flops[phase] / split[phase] for phase in flops},
        },
        "machine": machine(devices, rate),
        "share_of_matmul_rate": {
            "step": sum(flops.values()) / seconds / rate / devices,
            **{phase: flops[phase] / split[phase] / rate / devices for phase in flops},
        },
        "memory": memory,
    }


def _one_step(
    work: Workload, program: Callable | None, number: int
) -> tuple[Callable, dict[str, float]]:
    """Runs step `number`; returns the compiled update and the seconds of each phase."""
    started = time.perf_counter()
    source, policy = work.family.source, work.family.policy(work.state, number)
    experience, work.source_state = source.collect(policy, work.source_state, number)
    state, step = work.family.batches(work.state, experience, number)
    collected = time.perf_counter()
    for batch in step.batches:
        placed = put_rows(batch, work.context.mesh)
        program = program or work.train_step.lower(state, work.context.frozen, placed).compile()
        state, metrics = program(state, work.context.frozen, placed)
    work.state = state
    jax.block_until_ready((state, metrics))
    ended = time.perf_counter()
    sample, score = (step.seconds[name] for name in ("sampling", "scoring"))
    phases = (sample, score, ended - collected, collected - started - sample - score)
    return program, dict(zip(PHASES, phases, strict=True))


def _step_flops(work: Workload, settings: Settings) -> dict[str, float]:
    """The operations of those phases of a step that run the model."""
    model, sizes, family = work.context.network.config, _sizes(settings), work.family
    scored = [model] if needs_scores(family.stage) else []
    if family.reference is not None:
        bare = dataclasses.replace(model, lora=None)
        scored.append(model if has_adapters(family.reference) else bare)
    shared = work.stage.batch.share_prompts
    flops = {
        "sample": sampling_flops(model, **sizes),
        "other": sum(forward_flops(config, **sizes, shared=shared) for config in scored),
        "update": _update_flops(work, settings),
    }
    return {phase: count for phase, count in flops.items() if count}


def _update_flops(work: Workload, settings: Settings) -> float:
    """The operations of all updates of a step."""
    batch, model = work.stage.batch, work.context.network.config
    epoch = update_flops(model, **_sizes(settings), shared=batch.share_prompts)
    return batch.epochs_per_step * epoch


def time_updates(settings: Settings) -> dict[str, Any]:
    """Times the updates of a step alone on random rows, with prompts shared by their group and not.

    Returns:
        A JSON-able report; "layouts" holds seconds, FLOP/s and memory of each layout. Memory is
        that of the compiled update: the peak of a process would be that of both layouts.
    """
    layouts = {}
    for name, override in LAYOUTS.items():
        changed = dataclasses.replace(settings, overrides=(*settings.overrides, override))
        work = build(changed)
        with jax.set_mesh(work.context.mesh), work.context.workers():
            layouts[name] = _time_update(work, settings)
        work.free()  # the next layout has the device for itself
    rate = measured_rate(work.context.network.config.compute_dtype)
    devices = work.context.mesh.size
    for result in layouts.values():
        result["share_of_matmul_rate"] = result["flops_per_second"] / rate / devices
    return {
        "benchmark": "update",
        **_setting(settings, work),
        "layouts": layouts,
        "shared_is_faster_by": layouts["separate"]["seconds"] / layouts["shared"]["seconds"],
        "machine": machine(devices, rate),
    }


def _time_update(work: Workload, settings: Settings) -> dict[str, Any]:
    batches = [put_rows(batch, work.context.mesh) for batch in random_batches(work, settings)]
    program = work.train_step.lower(work.state, work.context.frozen, batches[0]).compile()

    def update() -> None:
        for batch in batches:
            work.state, metrics = program(work.state, work.context.frozen, batch)
        jax.block_until_ready((work.state, metrics))

    update()
    times = []
    for _ in range(settings.steps):
        started = time.perf_counter()
        update()
        times.append(time.perf_counter() - started)
    seconds = _median(times)
    flops = _update_flops(work, settings)
    completions = settings.prompts * settings.samples * work.stage.batch.epochs_per_step
    # Both layouts learn from the same tokens: those of separate rows are counted for either.
    tokens = completions * (settings.prompt_tokens + settings.new_tokens)
    return {
        "seconds": seconds,
        "seconds_of_each": times,
        "tokens_per_second": tokens / seconds,
        "flops": flops,
        "flops_per_second": flops / seconds,
        "memory": program_memory(program),
    }


def random_batches(work: Workload, settings: Settings) -> list[Rows]:
    """The batches of a step's updates as if random completions had been sampled and scored."""
    rng = np.random.default_rng(1)
    vocab = work.context.network.config.vocab_size
    shape = (settings.prompts, settings.samples, settings.new_tokens)
    prompts = rng.integers(0, vocab, (settings.prompts, settings.prompt_tokens))
    inputs = rollout_rows(
        prompts,
        np.ones(prompts.shape, bool),
        rng.integers(0, vocab, shape),
        np.ones(shape, bool),
        share_prompts=work.stage.batch.share_prompts,
    )
    advantages = np.broadcast_to(rng.standard_normal((*shape[:2], 1)), shape)
    rows = {
        "mask": per_sample(inputs["mask"]),
        "advantages": per_sample(advantages).astype(np.float32),
    }
    logprobs = ["behavior_logprobs"]
    logprobs += ["old_logprobs"] if needs_scores(work.stage) else []
    logprobs += ["ref_logprobs"] if work.family.reference is not None else []
    rows |= dict.fromkeys(logprobs, np.full(rows["mask"].shape, -np.log(vocab), np.float32))
    return work.family.updates(inputs, rows, step=1)


def _sizes(settings: Settings) -> dict[str, int]:
    names = ("prompts", "samples", "prompt_tokens", "new_tokens")
    return {name: getattr(settings, name) for name in names}


def _setting(settings: Settings, work: Workload) -> dict[str, Any]:
    """What was timed."""
    return {
        "settings": {**dataclasses.asdict(settings), "overrides": list(settings.overrides)},
        "model": dataclasses.asdict(work.context.network.config),
        "parameters": work.context.network.parameter_count,
        "batch": dataclasses.asdict(work.stage.batch),
        "mesh": dict(work.context.mesh.shape),
    }


def program_memory(program: Any) -> dict[str, float]:
    """GiB of one update, as compiled."""
    analysis = program.memory_analysis()
    return {
        "update_temporary_gib": analysis.temp_size_in_bytes / GIB,
        "update_arguments_gib": analysis.argument_size_in_bytes / GIB,
    }


def _peaks() -> dict[str, float | None]:
    """GiB, the highest since this process began, compiling included."""
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "device_peak_gib": None if peak is None else peak / GIB,
        "process_peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB,
    }


def _median(values: list[float]) -> float:
    return float(np.median(values))
