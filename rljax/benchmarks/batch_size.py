"""How the time of sampling grows with the batch, and what it costs to choose prompts by a value.

For small batches a step of decoding costs what the weights cost to read, and the longest sample
decides; for large ones time is in proportion to the batch. Where the one turns into the other is
the batch to train with (PCL, arXiv:2510.01135): below it samples are nearly free.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from rljax.benchmarks.machine import machine, measured_rate, median_seconds
from rljax.benchmarks.sampling import Tails, requests_of
from rljax.benchmarks.workload import Settings, surroundings
from rljax.models.network import Params
from rljax.parallel.rules import put_rows, rows_divisor
from rljax.sampling.engine import Engine
from rljax.sampling.keys import Purpose, purpose_key
from rljax.sampling.request import Requests
from rljax.training.learner.prompt_values import prompt_rows
from rljax.training.run.context import Context
from rljax.training.update.likelihood import likelihood_of


def time_batch_sizes(settings: Settings, tails: Tails, candidates: int = 1) -> dict[str, Any]:
    """Times samples of 1, 2, 4, ... prompts up to those of the settings, and what choosing costs.

    Args:
        settings: the largest number of prompts; `steps` calls of each are timed, after one.
        tails: lengths of the samples.
        candidates: prompts that are read for each one that is sampled (PCL's `pool_factor`).

    Returns:
        A JSON-able report. "sizes" holds for each number of prompts the seconds of sampling, and
        those of reading all candidates once by a network of the policy's size, as a critic of
        prompts does. "knee" is the number of samples at which the part of the time that grows with
        the batch is as long as the part that does not, None where nothing grows.
    """
    context, params = surroundings(settings)
    with jax.set_mesh(context.mesh):
        (stage,), full = context.stages, context.full(params)
        engine = context.make_engine(
            samples_per_prompt=settings.samples,
            max_new_tokens=settings.new_tokens,
            token_filter=stage.token_filter,
        )
        weights = jax.block_until_ready(engine.load(full))
        sizes = [
            _size(context, engine, weights, full, settings, tails, count, candidates)
            for count in prompt_counts(settings.prompts, rows_divisor(context.mesh))
        ]
        rate = measured_rate(engine.network.config.compute_dtype)
    fixed, each = fitted([s["samples"] for s in sizes], [s["seconds"] for s in sizes])
    return {
        "benchmark": "batch-size",
        "settings": {**dataclasses.asdict(settings), "overrides": list(settings.overrides)},
        "model": dataclasses.asdict(engine.network.config),
        "parameters": engine.network.parameter_count,
        "candidates": candidates,
        "sizes": sizes,
        "fixed_seconds": fixed,
        "seconds_per_sample": each,
        "knee": fixed / each if each > 0 else None,
        "machine": machine(engine.mesh.size, rate),
    }


def prompt_counts(most: int, divisor: int) -> list[int]:
    """1, 2, 4, ... times the shards of rows, and the most."""
    counts = []
    while divisor < most:
        counts.append(divisor)
        divisor *= 2
    return [*counts, most]


def fitted(sizes: list[int], seconds: list[float]) -> tuple[float, float]:
    """t(b) = fixed + each b, both at least 0, with the least squares of relative errors.

    Args:
        sizes: b, at least two different ones.
        seconds: t.

    Returns:
        fixed, in seconds; each, in seconds for one more.
    """
    b, t = np.asarray(sizes, float), np.asarray(seconds, float)
    columns = np.stack([1 / t, b / t], axis=1)
    fixed, each = np.linalg.lstsq(columns, np.ones(len(t)), rcond=None)[0]
    if fixed < 0:  # in proportion
        return 0.0, float((b / t).sum() / (b / t).dot(b / t))
    if each < 0:  # constant
        return float((1 / t).sum() / (1 / t).dot(1 / t)), 0.0
    return float(fixed), float(each)


def _size(
    context: Context,
    engine: Engine,
    weights: Params,
    params: Params,
    settings: Settings,
    tails: Tails,
    count: int,
    candidates: int,
) -> dict[str, Any]:
    """Seconds of so many prompts, chosen among so many times as many candidates."""
    requests = requests_of(context, dataclasses.replace(settings, prompts=count), tails)
    key = purpose_key(0, Purpose.ROLLOUTS)
    lengths = requests.max_new_tokens
    samples = count * settings.samples
    tokens = samples * settings.new_tokens if lengths is None else int(lengths.sum())
    seconds = median_seconds(
        lambda: engine.sample(weights, requests, key=key, step=0), settings.steps
    )
    pool = requests_of(context, dataclasses.replace(settings, prompts=count * candidates), Tails())
    value = _value_seconds(context, params, pool, settings.steps)
    return {
        "prompts": count,
        "samples": samples,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "value_seconds": value,
        "value_share": value / seconds,
    }


def _value_seconds(context: Context, params: Params, requests: Requests, steps: int) -> float:
    """Seconds to read all prompts once."""
    (stage,) = context.stages
    score = context.jit_score(stage.token_filter, micro_batches=1, likelihood=likelihood_of(stage))
    rows = prompt_rows(np.asarray(requests.prompts), np.asarray(requests.prompt_mask), 0)
    placed = put_rows(rows, context.mesh)
    return median_seconds(lambda: jax.block_until_ready(score(params, placed)), steps)
