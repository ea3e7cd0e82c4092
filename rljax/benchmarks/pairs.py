"""Timings of a whole step of DPO: reading, the reference's pass, the update."""

import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rljax.benchmarks.flops import forward_flops, update_flops
from rljax.benchmarks.machine import machine, measured_rate
from rljax.benchmarks.sampling import run_peer
from rljax.benchmarks.timing import program_memory
from rljax.benchmarks.workload import SMALL_QWEN, Settings, opened, reference_of
from rljax.config.load import apply_overrides, complete
from rljax.config.stage import Stage
from rljax.config.validate import validate
from rljax.data.pairs import SIDES
from rljax.models.network import Params
from rljax.parallel.rules import put_rows
from rljax.registry import METHODS
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.families.preference import Preference
from rljax.training.run.context import Context
from rljax.training.update.optimizers import build_optimizer
from rljax.training.update.state import TrainState, create_state, state_shardings

# prepare: reading, padding and the pass of the reference; update: the rest, with the transfer.
PHASES = ("prepare", "update")


def time_pairs(settings: Settings, peers: Sequence[tuple[str, str]], rounds: int) -> dict[str, Any]:
    """Times whole steps of DPO on pairs from a file.

    Args:
        settings: sizes; a prompt is a pair, whose sides have `new_tokens` tokens each.
        peers: (name, command); what a command prints last as "N tok/s" is compared.
        rounds: of ours, `steps` steps each, and all peers in alternation.

    Returns:
        A JSON-able report; "seconds_per_step" is the median over all steps, "split" holds that of
        each phase, "peers" for each the medians of its rates and of the ratios of the rounds.

    Raises:
        ValueError: for settings that training refuses, too.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.jsonl"
        config = pair_config(settings, path)
        stage = _stage(config, settings)
        context, params = opened(config, stage, settings)
        rows = random_pairs(settings, context.network.config.vocab_size)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        with jax.set_mesh(context.mesh):
            work = _Work(context, params)
            work.step()
            steps, others = [], {name: [] for name, _ in peers}
            ratios: dict[str, list[float]] = {name: [] for name, _ in peers}
            for _ in range(rounds):
                now = [work.step() for _ in range(settings.steps)]
                steps += now
                rate = _tokens(settings) / float(np.median([sum(each) for each in now]))
                for name, command in peers:
                    others[name].append(run_peer(name, command, settings))
                    ratios[name].append(rate / others[name][-1])
            return _report(settings, work, steps) | {
                "peers": {
                    name: {
                        "tokens_per_second": float(np.median(others[name])),
                        "ratio": float(np.median(ratios[name])),
                        "ratios": ratios[name],
                    }
                    for name in others
                }
            }


def pair_config(settings: Settings, path: Path) -> ConfigDict:
    """The config of a DPO run on a file of pairs: AdamW, one update a step."""
    config = complete(
        {
            "name": "bench",
            "stages": ("dpo",),
            "model": {"preset": settings.preset} if settings.preset else SMALL_QWEN,
            "data": {"kind": "jsonl", "max_prompt_tokens": settings.prompt_tokens},
            "dpo": {
                "method": "dpo",
                "data": {"path": str(path), "max_completion_tokens": settings.new_tokens},
                "batch": {"sequences_per_update": len(SIDES) * settings.prompts},
                "optimizer": {"name": "adamw", "learning_rate": 1e-6},
            },
        }
    )
    return apply_overrides(config, settings.overrides)


def random_pairs(settings: Settings, vocabulary: int) -> list[dict[str, list[int]]]:
    """The pairs of all steps as ids, every one of full length."""
    rng, count = np.random.default_rng(0), settings.prompts * (settings.steps + 1)
    sizes = {"prompt": settings.prompt_tokens, **dict.fromkeys(SIDES, settings.new_tokens)}
    return [
        {
            f"{name}_tokens": rng.integers(0, vocabulary, size).tolist()
            for name, size in sizes.items()
        }
        for _ in range(count)
    ]


class _Work:
    """A stage, ready to run, as the train loop has it."""

    def __init__(self, context: Context, params: Params) -> None:
        self.context, (self.stage,) = context, context.stages
        network, mesh = context.network, context.mesh
        optimizer = build_optimizer(self.stage)
        shardings = state_shardings(network, optimizer, mesh)
        reference = reference_of(context, params) if self.stage.needs_reference else None
        self.family = Preference(context, self.stage, reference, 0)
        key = purpose_key(context.config.seed, Purpose.ROUNDING)
        self.update = self.family.make_update(optimizer, key)
        self.state: TrainState = create_state(params, optimizer, shardings)
        self.source_state, self.number = self.family.source.first_state(), 0
        self.program: Callable | None = None

    def step(self) -> tuple[float, float]:
        """Takes the next step; the seconds of each phase."""
        self.number += 1
        started = time.perf_counter()
        policy = self.family.policy(self.state, self.number)
        experience, self.source_state = self.family.source.collect(
            policy, self.source_state, self.number
        )
        state, step = self.family.batches(self.state, experience, self.number)
        prepared = time.perf_counter()
        placed = put_rows(step.batches[0], self.context.mesh)
        given = (state, self.context.frozen, placed)
        self.program = self.program or self.update.lower(*given).compile()
        self.state, metrics = self.program(*given)
        jax.block_until_ready((self.state, metrics))
        return prepared - started, time.perf_counter() - prepared


def _stage(config: ConfigDict, settings: Settings) -> Stage:
    """The one stage of the config; it must learn from pairs and have the sizes that are timed."""
    if tuple(config.stages) != ("dpo",) or METHODS[config.dpo.method].family != "preference":
        raise ValueError(
            f"What is timed is one stage, dpo, of a method that learns from pairs; got "
            f"stages={config.stages} (config.stages, config.dpo.method)."
        )
    (stage,) = validate(config)
    sizes = {
        "prompts": ("dpo.batch.sequences_per_update", stage.batch.sequences_per_update / 2),
        "prompt_tokens": ("data.max_prompt_tokens", config.data.max_prompt_tokens),
        "new_tokens": ("dpo.data.max_completion_tokens", stage.data["max_completion_tokens"]),
    }
    for name, (field, size) in sizes.items():
        if size != getattr(settings, name):
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"config.{field} must be set by {flag} here (config.{field}).")
    return stage


def _tokens(settings: Settings) -> int:
    """Tokens of both sides of all pairs of a step, each with its prompt."""
    return len(SIDES) * settings.prompts * (settings.prompt_tokens + settings.new_tokens)


def _report(
    settings: Settings, work: _Work, steps: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    """What was timed, and how near it is to the rate of matrix products."""
    split = dict(zip(PHASES, np.median(steps, axis=0).tolist(), strict=True))
    totals = [sum(step) for step in steps]
    seconds, model = float(np.median(totals)), work.context.network.config
    sizes = (settings.prompts, len(SIDES), settings.prompt_tokens, settings.new_tokens)
    shared = work.stage.batch.share_prompts
    scored = 0.0 if work.family.reference is None else forward_flops(model, *sizes, shared=shared)
    flops = {"prepare": scored, "update": update_flops(model, *sizes, shared=shared)}
    flops["step"] = sum(flops.values())
    rates = {phase: flops[phase] / time for phase, time in {**split, "step": seconds}.items()}
    rate, devices = measured_rate(model.compute_dtype), work.context.mesh.size
    return {
        "benchmark": "dpo",
        "settings": {**dataclasses.asdict(settings), "samples": len(SIDES)}
        | {"overrides": list(settings.overrides)},
        "model": dataclasses.asdict(model),
        "parameters": work.context.network.parameter_count,
        "batch": dataclasses.asdict(work.stage.batch),
        "mesh": dict(work.context.mesh.shape),
        "seconds_per_step": seconds,
        "seconds_of_each_step": totals,
        "split": split,
        "tokens_per_second": _tokens(settings) / seconds,
        "flops": flops,
        "flops_per_second": rates,
        "machine": machine(devices, rate),
        "share_of_matmul_rate": {name: each / rate / devices for name, each in rates.items()},
        "memory": program_memory(work.program),
    }
