"""Timings of the sampler, beside what the machine allows and beside other programs."""

import dataclasses
import re
import shlex
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from rljax.benchmarks.flops import sampling_flops
from rljax.benchmarks.machine import (
    machine,
    measured_bandwidth,
    measured_rate,
    median_seconds,
)
from rljax.benchmarks.workload import Settings, surroundings
from rljax.models.config import ModelConfig
from rljax.models.kv_cache import cache_bytes
from rljax.models.network import Params
from rljax.parallel.rules import put_rows, rows_divisor
from rljax.sampling.engine import Engine
from rljax.sampling.keys import Purpose, purpose_key
from rljax.sampling.request import Requests, Rollouts
from rljax.training.run.context import Context
from rljax.training.update.likelihood import likelihood_of
from rljax.training.update.logprobs import model_rows
from rljax.training.update.rows import completion_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tails:
    """Lengths of samples that differ.

    Attributes:
        mean: of a geometric law, as a share of the most tokens, at which it is cut off; 0: all
            samples have the most tokens.
        compare: also time the same sampler without refill: as many prompts at a time as there are
            slots for, one batch after the other.
    """

    mean: float = 0.0
    compare: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.mean < 1:
            raise ValueError(f"--tail must be in [0, 1), got {self.mean} (--tail).")
        if self.compare and not self.mean:
            raise ValueError("--without-refill needs --tail: equal lengths need no refill.")

    def lengths(self, shape: tuple[int, int], most: int) -> np.ndarray | None:
        """Lengths [B, G] i32; None where all are `most`."""
        if not self.mean:
            return None
        drawn = np.random.default_rng(0).geometric(1 / (self.mean * most), shape)
        return np.minimum(drawn, most).astype(np.int32)


def time_sampling(
    settings: Settings, tails: Tails, peers: Sequence[tuple[str, str]], rounds: int
) -> dict[str, Any]:
    """Times the sampler as training calls it, tokenising and decoding to text left out.

    Args:
        settings: sizes; `steps` calls are timed in each round, after one that is not.
        tails: lengths of the samples.
        peers: (name, command); what a command prints last as "N tok/s" is compared. In the command
            {prompts} {samples} {prompt_tokens} {new_tokens} stand for the sizes.
        rounds: of ours and all peers in alternation.

    Returns:
        A JSON-able report; "tokens_per_second" is the median over all calls, "peers" holds for each
        the medians of its rates and of the ratios of the rounds.
    """
    context, params = surroundings(settings)
    with jax.set_mesh(context.mesh):
        work = _Work(context, params, settings, tails)
        seconds, others = [], {name: [] for name, _ in peers}
        ratios: dict[str, list[float]] = {name: [] for name, _ in peers}
        work.call(0)
        for _ in range(rounds):
            times = [work.timed(number + 1) for number in range(settings.steps)]
            seconds += times
            for name, command in peers:
                others[name].append(run_peer(name, command, settings))
                ratios[name].append(work.tokens / float(np.median(times)) / others[name][-1])
        report = work.report(seconds)
        if tails.compare:
            report["without_refill"] = without_refill(work)
    report["peers"] = {
        name: {
            "tokens_per_second": float(np.median(others[name])),
            "ratio": float(np.median(ratios[name])),
            "ratios": ratios[name],
        }
        for name in others
    }
    return report


class _Work:
    """One sampler with its weights and requests."""

    def __init__(self, context: Context, params: Params, settings: Settings, tails: Tails) -> None:
        (stage,) = context.stages
        self.settings, self.context = settings, context
        self.engine: Engine = context.make_engine(
            samples_per_prompt=settings.samples,
            max_new_tokens=settings.new_tokens,
            token_filter=stage.token_filter,
        )
        self.params = context.full(params)
        self.weights = jax.block_until_ready(self.engine.load(self.params))
        self.requests = requests_of(context, settings, tails)
        lengths = self.requests.max_new_tokens
        full = settings.prompts * settings.samples * settings.new_tokens
        self.tokens = full if lengths is None else int(lengths.sum())
        self.key = purpose_key(0, Purpose.ROLLOUTS)

    def call(self, step: int, requests: Requests | None = None) -> Rollouts:
        requests = self.requests if requests is None else requests
        return self.engine.sample(self.weights, requests, key=self.key, step=step)

    def timed(self, step: int) -> float:
        started = time.perf_counter()
        self.call(step)
        return time.perf_counter() - started

    def report(self, seconds: list[float]) -> dict[str, Any]:
        settings, network = self.settings, self.engine.network
        model, devices = network.config, self.engine.mesh.size
        rate, bandwidth = measured_rate(model.compute_dtype), measured_bandwidth()
        median = float(np.median(seconds))
        rollouts = self.call(0)
        full = settings.prompts * settings.samples * settings.new_tokens
        flops = sampling_flops(
            model,
            settings.prompts,
            settings.samples,
            settings.prompt_tokens,
            settings.new_tokens,
        )
        flops = flops * self.tokens / full
        traffic = bytes_moved(model, self.weights, self.engine.config.cache_dtype, settings)
        traffic *= self.tokens / full
        slot_steps = int(rollouts.slot_steps[0]) * rows_divisor(self.engine.mesh)
        return {
            "benchmark": "sample",
            "settings": {**dataclasses.asdict(settings), "overrides": list(settings.overrides)},
            "sampler": self.context.config.sampler.to_dict(),
            "model": dataclasses.asdict(model),
            "parameters": network.parameter_count,
            "tokens": self.tokens,
            "tokens_per_second": self.tokens / median,
            "seconds": median,
            "seconds_of_each_call": seconds,
            "load_seconds": median_seconds(lambda: jax.block_until_ready(self.reload()), 5),
            "useful_slot_steps": self.tokens / slot_steps,
            "flops": flops,
            "bytes_moved": traffic,
            "bound_tokens_per_second": self.tokens * rate * devices / flops,
            "share_of_matmul_bound": flops / median / rate / devices,
            "memory_bound_tokens_per_second": self.tokens * bandwidth * devices / traffic,
            "share_of_memory_bound": traffic / median / bandwidth / devices,
            "logprob_error": self.logprob_error(rollouts),
            "machine": machine(devices, rate) | {"bytes_per_second": bandwidth},
        }

    def reload(self) -> Params:
        """What an update costs the sampler."""
        return self.engine.load(self.params)

    def logprob_error(self, rollouts: Rollouts) -> dict[str, float]:
        """How far the sampler's log-probabilities are from the trainer's own, over all tokens."""
        context, (stage,) = self.context, self.context.stages
        group, length = rollouts.tokens.shape[1:]

        def flat(x: jax.Array) -> jax.Array:
            return x.reshape(-1, length)

        rows = completion_rows(
            np.repeat(np.asarray(self.requests.prompts), group, axis=0),
            np.repeat(np.asarray(self.requests.prompt_mask), group, axis=0),
            flat(rollouts.tokens),
            flat(rollouts.mask),
        )
        parts = 1 if group % rows_divisor(context.mesh) else len(self.requests.prompts)
        score = context.jit_score(
            stage.token_filter, micro_batches=parts, likelihood=likelihood_of(stage)
        )
        exact = jax.device_get(score(self.params, put_rows(model_rows(rows), context.mesh)))
        gap = np.abs(exact - flat(rollouts.logprobs))[flat(rollouts.mask)]
        return {"mean": float(gap.mean()), "max": float(gap.max())}


def requests_of(context: Context, settings: Settings, tails: Tails) -> Requests:
    """Random prompts, whose samples have the lengths of `tails`."""
    records = [context.train_problems[index] for index in range(settings.prompts)]
    tokens = np.array([context.tokenizer.encode(record["prompt"]) for record in records], np.int32)
    return Requests(
        tokens,
        np.ones(tokens.shape, bool),
        np.arange(settings.prompts, dtype=np.int32),
        max_new_tokens=tails.lengths((settings.prompts, settings.samples), settings.new_tokens),
    )


def bytes_moved(model: ModelConfig, weights: Params, cache_dtype: str, settings: Settings) -> float:
    """Bytes that decoding has to read for samples of full length, on all devices together.

    In every step all weights (of the embeddings only the output matrix), the prompts once each,
    and what every row has written so far.
    """
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(weights))
    if not model.tied_embeddings:
        size -= weights["embedding"].nbytes
    rows, new = settings.prompts * settings.samples, settings.new_tokens
    prompts = cache_bytes(model, settings.prompts, settings.prompt_tokens, cache_dtype)
    own = cache_bytes(model, rows, 1, cache_dtype)
    steps = max(new - 1, 1)  # the last token is not decoded
    return steps * (size + prompts) + own * new * (new - 1) / 2


def without_refill(work: _Work) -> dict[str, float]:
    """The same samples, as many prompts at a time as the slots hold, one batch after the other."""
    settings, slots = work.settings, work.engine.config.slots
    at_a_time = max(slots // settings.samples, 1)
    if not slots or settings.prompts % at_a_time:
        raise ValueError(
            f"--without-refill needs slots (--config.sampler.slots, now {slots}) that hold whole "
            f"prompts, and a multiple of them; got --prompts={settings.prompts} x "
            f"--samples={settings.samples}."
        )
    config = dataclasses.replace(work.engine.config, slots=0, shrink=())
    engine = Engine(work.context.network, config, work.engine.mesh)
    starts = range(0, settings.prompts, at_a_time)
    batches = [jax.tree.map(lambda x: x[i : i + at_a_time], work.requests) for i in starts]  # noqa: B023

    def everything() -> list[Rollouts]:
        return [engine.sample(work.weights, batch, key=work.key, step=0) for batch in batches]

    rollouts = everything()
    seconds = median_seconds(everything, settings.steps)
    steps = sum(int(each.slot_steps[0]) for each in rollouts)
    return {"seconds": seconds, "useful_slot_steps": work.tokens / steps}


def run_peer(name: str, command: str, settings: Settings) -> float:
    """Tokens per second that a command prints last.

    Raises:
        ValueError: if it fails, or prints no "N tok/s".
    """
    names = ("prompts", "samples", "prompt_tokens", "new_tokens")
    words = shlex.split(command.format(**{name: getattr(settings, name) for name in names}))
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ValueError(f"Cannot run the peer {name!r}: {error} (--peer).") from error
    found = re.findall(r"([\d.]+) tok/s", done.stdout)
    if done.returncode or not found:
        raise ValueError(
            f"The peer {name!r} ended with status {done.returncode} and printed no 'N tok/s': "
            f"{(done.stdout + done.stderr)[-500:]} (--peer)."
        )
    return float(found[-1])
