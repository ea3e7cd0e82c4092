"""What the noise of a population costs: forward passes and sampling, with it and without."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from rljax.benchmarks.machine import machine, measured_rate
from rljax.benchmarks.sampling import Tails, requests_of
from rljax.benchmarks.workload import Settings, surroundings
from rljax.models.network import Network, Params
from rljax.sampling.checks import device_memory
from rljax.sampling.distribution import TokenFilter
from rljax.training.collect.perturbation import Perturbation, perturbed
from rljax.training.collect.population import Population
from rljax.training.run.context import Context

STEP = 0  # which step's noise and samples are drawn


def time_evolution(settings: Settings, *, rank: int = 1) -> dict[str, Any]:
    """Times a population of prompts x samples members beside the same rows without noise.

    forward   one pass over the whole rows, prompt and new tokens, a row for each member:
              "plain" with one set of parameters, "low_rank" with noise drawn and applied as a
              stage of evolution does, "explicit" with parameters of its own for each member, None
              where so many models take more than a quarter of the memory
    sample    greedy answers: "plain" by the engine, "low_rank" by the population

    Returns:
        A JSON-able report; "ratios" holds seconds with noise / seconds without, all of this run.
    """
    context, trained = surroundings(settings)
    with jax.set_mesh(context.mesh):
        params = context.full(trained)
        perturbation = Perturbation.of(context.network, rank=rank)
        forward = _forward_seconds(context, params, perturbation, settings)
        sample = _sample_seconds(context, params, perturbation, settings)
    ratios = {f"forward, {name}": s / forward["plain"] for name, s in forward.items() if s}
    ratios |= {f"sample, {name}": s / sample["plain"] for name, s in sample.items()}
    rate = measured_rate(context.network.config.compute_dtype)
    return {
        "benchmark": "evolution",
        "settings": {**dataclasses.asdict(settings), "overrides": list(settings.overrides)},
        "model": dataclasses.asdict(context.network.config),
        "parameters": context.network.parameter_count,
        "mesh": dict(context.mesh.shape),
        "members": settings.prompts * settings.samples,
        "rank": rank,
        "forward_seconds": forward,
        "sample_seconds": sample,
        "ratios": ratios,
        "machine": machine(context.mesh.size, rate),
    }


def _forward_seconds(
    context: Context, params: Params, perturbation: Perturbation, settings: Settings
) -> dict[str, float | None]:
    network, members = context.network, settings.prompts * settings.samples
    slots = settings.prompt_tokens + settings.new_tokens
    tokens = np.random.default_rng(0).integers(0, network.config.vocab_size, (members, slots))
    tokens, keys = jnp.asarray(tokens, jnp.int32), perturbation.keys(jax.random.key(0))

    def hidden(network: Network, params: Params, rows: Array) -> Array:
        places = jnp.broadcast_to(jnp.arange(slots), rows.shape)
        return network.bind(params)(rows, places, jnp.ones_like(rows)).hidden

    def plain(params: Params) -> Array:
        return hidden(network, params, tokens)

    def low_rank(params: Params) -> Array:
        noise = perturbation.noise(keys, jnp.int32(STEP), jnp.arange(members))

        def of_member(noise: Any, row: Array) -> Array:
            return hidden(perturbation.member_network, perturbed(params, noise), row[None])

        return jax.vmap(of_member)(noise, tokens)

    def explicit(models: Params) -> Array:
        return jax.vmap(lambda params, row: hidden(network, params, row[None]))(models, tokens)

    calls = {"plain": (plain, params), "low_rank": (low_rank, params)}
    seconds: dict[str, float | None] = {**_interleaved(calls, settings.steps), "explicit": None}
    if _fits(params, members, context.mesh):
        models = jax.tree.map(lambda x: jnp.broadcast_to(x, (members, *x.shape)).copy(), params)
        seconds |= _interleaved({"explicit": (explicit, models)}, settings.steps)
    return seconds


def _sample_seconds(
    context: Context, params: Params, perturbation: Perturbation, settings: Settings
) -> dict[str, float]:
    """Seconds of whole calls from token ids to token ids, all answers at once."""
    make = functools.partial(
        context.make_engine,
        max_new_tokens=settings.new_tokens,
        token_filter=TokenFilter(temperature=0.0),
    )
    requests = requests_of(context, settings, Tails())._replace(max_new_tokens=None)
    plain, single = make(samples_per_prompt=settings.samples), make(samples_per_prompt=1)
    population = Population(single, perturbation, members_per_prompt=settings.samples)
    weights, key = plain.load(params), jax.random.key(0)
    calls = {
        "plain": (lambda weights: plain.sample(weights, requests, key=key, step=0), weights),
        "low_rank": (
            lambda weights: population.sample(weights, requests, key=key, step=STEP),
            weights,
        ),
    }
    return _interleaved(calls, settings.steps, jit=False)


def _interleaved(
    calls: dict[str, tuple[Callable, Any]], steps: int, *, jit: bool = True
) -> dict[str, float]:
    """Median seconds of each call, one after the other in every round; the first is not timed."""
    run = {name: jax.jit(call) if jit else call for name, (call, _) in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for step in range(steps + 1):
        for name, (_, argument) in calls.items():
            started = time.perf_counter()
            jax.block_until_ready(run[name](argument))
            if step:
                times[name].append(time.perf_counter() - started)
    return {name: float(np.median(found)) for name, found in times.items()}


def _fits(params: Params, members: int, mesh: Mesh) -> bool:
    """Whether so many models take no more than a quarter of what the device has."""
    limit = device_memory(mesh)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    return limit is None or size * members <= limit / 4
