"""Masked diffusion: how fast canvases are filled, and what a gradient holds for each draw."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax import Array

from rljax.benchmarks.machine import machine, measured_rate, median_seconds
from rljax.benchmarks.plain_diffusion import plain_diffusion_sampler
from rljax.benchmarks.sampling import Tails, requests_of
from rljax.benchmarks.timing import GIB
from rljax.benchmarks.workload import Settings, surroundings
from rljax.models.network import Network, Params
from rljax.sampling.diffusion_config import DiffusionConfig
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.engine import Engine
from rljax.training.run.context import Context
from rljax.training.update.likelihood import likelihood_rows
from rljax.training.update.logprobs import LIKELIHOOD_KEYS
from rljax.training.update.masked_likelihood import elbo
from rljax.training.update.rows import Rows, completion_rows

DRAWS = (1, 2, 4, 8, 16)
BLOCK = 32  # tokens, as LLaDA and d1 decode
# The network of the settings, seeing both ways.
BOTH_WAYS = ("--config.model.causal=False", "--config.grpo.method=bgpo")


def time_diffusion(settings: Settings) -> dict[str, Any]:
    """Times sampling, and compiles the gradient of a bound for several numbers of draws.

    sampling  canvases of `new_tokens` in blocks of 32 (or one block), with one and with two tokens
              a step; every step runs the network on the whole row, and nothing is cached
    plain     the same by plain_diffusion.py
    memory    GiB of temporary arrays of the gradient on all prompts x samples rows, whose passes
              are run again in the backward pass, or kept

    Returns:
        A JSON-able report.
    """
    asked = dataclasses.replace(settings, overrides=(*BOTH_WAYS, *settings.overrides))
    context, trained = surroundings(asked)
    with jax.set_mesh(context.mesh):
        params = context.full(trained)
        configs = {
            str(count): _config(context, settings, count)
            for count in (1, 2)
            if settings.new_tokens % count == 0
        }
        both = {
            count: _tokens_per_second(context, params, settings, config)
            for count, config in configs.items()
        }
        rows = _rows(settings, context.network.config.vocab_size)
        held = {
            name: {
                str(count): _memory(context.network, params, rows, count, keep) for count in DRAWS
            }
            for name, keep in (("run again", False), ("kept", True))
        }
    rate = measured_rate(context.network.config.compute_dtype)
    return {
        "benchmark": "diffusion",
        "settings": {**dataclasses.asdict(settings), "overrides": list(settings.overrides)},
        "model": dataclasses.asdict(context.network.config),
        "parameters": context.network.parameter_count,
        "mesh": dict(context.mesh.shape),
        "tokens_per_second": {count: ours for count, (ours, _) in both.items()},
        "plain_tokens_per_second": {count: plain for count, (_, plain) in both.items()},
        "memory_gib": held,
        "machine": machine(context.mesh.size, rate),
    }


def _config(context: Context, settings: Settings, count: int) -> DiffusionConfig:
    """`count` tokens a step."""
    tokens = settings.new_tokens
    return DiffusionConfig(
        samples_per_prompt=settings.samples,
        max_new_tokens=tokens,
        block_tokens=BLOCK if tokens % BLOCK == 0 else tokens,
        steps=tokens // count,
        mask_token=context.network.config.mask_token,
        stop_tokens=(),  # every canvas is filled
        pad_token=0,
        temperature=1.0,
    )


def _tokens_per_second(
    context: Context, params: Params, settings: Settings, config: DiffusionConfig
) -> tuple[float, float]:
    """Sampled tokens a second: of the sampler, and of the plain implementation."""
    engine = Engine(context.network, config, context.mesh)
    weights = engine.load(params)
    requests = requests_of(context, settings, Tails())

    def run() -> Array:
        sampled = engine.sample(weights, requests, key=jax.random.key(0), step=1)
        return jax.block_until_ready(sampled.tokens)

    fill = plain_diffusion_sampler(context.network, config)
    prompts = np.repeat(np.asarray(requests.prompts), settings.samples, axis=0)

    def run_plain() -> Array:
        return jax.block_until_ready(fill(params, prompts, jax.random.key(0)))

    sampled = settings.prompts * settings.samples * settings.new_tokens
    ours, plain = (sampled / median_seconds(each, settings.steps) for each in (run, run_plain))
    return ours, plain


def _rows(settings: Settings, vocab_size: int) -> Rows:
    """A step's rows, all of full length."""
    count, rng = settings.prompts * settings.samples, np.random.default_rng(0)
    prompts = rng.integers(2, vocab_size, (count, settings.prompt_tokens))
    tokens = rng.integers(2, vocab_size, (count, settings.new_tokens))
    rows = completion_rows(prompts, np.ones(prompts.shape, bool), tokens, tokens > 0)
    return rows | likelihood_rows(0, 1, np.arange(count), np.zeros(count, int))


def _memory(network: Network, params: Params, rows: Rows, draws: int, keep: bool) -> float:
    """GiB of temporary arrays of a compiled gradient."""

    def loss(params: Params, rows: Rows) -> Array:
        key = jax.random.wrap_key_data(rows[LIKELIHOOD_KEYS])
        fields = dict(mask_draws=draws, keep_passes=keep)
        return elbo(network, params, rows, TokenFilter(), key=key, **fields).logprobs.sum()

    program = jax.jit(jax.grad(loss)).lower(params, rows).compile()
    return program.memory_analysis().temp_size_in_bytes / GIB
