"""Timings of a server under load, beside the generator on the same requests."""

import asyncio
import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from rljax.benchmarks.machine import machine, measured_rate
from rljax.benchmarks.workload import Settings, surroundings
from rljax.data.text_format import TextFormat
from rljax.data.tokenizers import ByteTokenizer
from rljax.models.network import Params
from rljax.sampling.generate import Generator
from rljax.sampling.options import SamplingOptions
from rljax.serving.limits import Limits
from rljax.serving.service import Service, make_worker
from rljax.training.run.context import Context

# Requests of a round for each client.
REQUESTS = 2
PERCENTILES = (50, 90, 99)
# Settings that are read: a request has one sample.
READ = ("prompts", "prompt_tokens", "new_tokens", "steps", "preset", "overrides")


def time_serving(settings: Settings) -> dict[str, Any]:
    """Times a server whose clients always wait for an answer, and the generator, in alternation.

    Every request has one prompt of ids and `new_tokens` tokens; both sides get the same ones, with
    the same noise, in each round. Clients run in a process of their own.

    Args:
        settings: `prompts` is the number of clients, `steps` of rounds after one that is not timed.

    Returns:
        A JSON-able report; "ratio" is the median over the rounds of the server's tokens/s over the
        generator's. "cpu_seconds" are what a round took of the processor, HTTP included and the
        clients left out: on a CPU that others use too they say more than the time. Latencies are
        those of one more round, whose answers are streamed.
    """
    context, params = surroundings(settings)
    work = _Work(settings)
    with jax.set_mesh(context.mesh):
        generator = _generator(context, params, settings)
    with _serving(context, params, settings) as url:
        sides = {
            "generator": lambda: work.generate(generator),
            "server": lambda: work.serve(url),
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        cpu: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(settings.steps + 1):
            for name, side in sides.items():
                before = time.process_time()
                rate, used = side(), time.process_time() - before
                if number:
                    rates[name].append(rate)
                    cpu[name].append(used)
        latency = work.latency(url)
    model, rate = context.network.config, measured_rate(context.network.config.compute_dtype)
    ratios = [s / g for s, g in zip(rates["server"], rates["generator"], strict=True)]
    return {
        "benchmark": "serve",
        "settings": {name: getattr(settings, name) for name in READ},
        "model": dataclasses.asdict(model),
        "parameters": context.network.parameter_count,
        "requests": len(work.prompts),
        "tokens_per_second": {name: float(np.median(each)) for name, each in rates.items()},
        "ratio": float(np.median(ratios)),
        "ratios": ratios,
        "cpu_seconds": {name: float(np.median(each)) for name, each in cpu.items()},
        "latency": latency,
        "machine": machine(context.mesh.size, rate),
    }


class _Work:
    """The requests of a round."""

    def __init__(self, settings: Settings) -> None:
        self._clients, self._new = settings.prompts, settings.new_tokens
        shape = settings.prompts * REQUESTS, settings.prompt_tokens
        self.prompts = np.random.default_rng(0).integers(0, 256, shape).tolist()
        self._tokens = len(self.prompts) * self._new

    def generate(self, generator: Generator) -> float:
        """Tokens/s of the generator."""
        # None ends by itself, so that both sides have the same work.
        options = SamplingOptions(max_new_tokens=self._new, min_new_tokens=self._new)
        started = time.perf_counter()
        found = generator.generate(self.prompts, options)
        seconds = time.perf_counter() - started
        assert sum(len(each[0].tokens) for each in found) == self._tokens
        return self._tokens / seconds

    def serve(self, url: str) -> float:
        """Tokens/s of the server."""
        found = self._asked(url)
        assert sum(each["tokens"] for each in found["requests"]) == self._tokens
        return self._tokens / found["seconds"]

    def latency(self, url: str) -> dict[str, Any]:
        """Percentiles in seconds, of answers that are streamed."""
        found = self._asked(url, stream=True, return_token_ids=True)["requests"]
        assert sum(each["tokens"] for each in found) == self._tokens
        times = {
            "first_token": [each["first"] for each in found],
            "request": [each["seconds"] for each in found],
            "token": [(e["seconds"] - e["first"]) / max(e["tokens"] - 1, 1) for e in found],
        }
        return {
            name: {f"p{p}": float(np.percentile(each, p)) for p in PERCENTILES}
            for name, each in times.items()
        }

    def _asked(self, url: str, **fields: Any) -> dict[str, Any]:
        sizes = {"max_tokens": self._new, "min_tokens": self._new}
        bodies = [{"prompt": prompt, "seed": 0, **sizes, **fields} for prompt in self.prompts]
        words = {"url": url, "bodies": bodies, "at_a_time": self._clients}
        done = subprocess.run(
            [sys.executable, "-m", "rljax.benchmarks.serving_load"],
            input=json.dumps(words),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"the clients failed: {done.stderr[-2000:]}")
        return json.loads(done.stdout)


def _generator(context: Context, params: Params, settings: Settings) -> Generator:
    return Generator(
        context.network,
        context.full(params),
        ByteTokenizer(),
        context.mesh,
        slots=settings.prompts,
        batch_prompts=settings.prompts * REQUESTS,
    )


@contextmanager
def _serving(context: Context, params: Params, settings: Settings) -> Iterator[str]:
    """The address of a server with a slot for each client."""
    # The stack is an extra, which no other benchmark needs.
    from rljax.serving.app import make_app
    from rljax.serving.server import Server

    text_format = TextFormat(ByteTokenizer())
    limits = Limits(slots=settings.prompts, context=settings.prompt_tokens + settings.new_tokens)
    with jax.set_mesh(context.mesh):
        worker = make_worker(
            context.network, context.full(params), text_format, context.mesh, limits
        )
    worker.start()
    urls, ready = [], threading.Event()

    def started(url: str) -> None:
        urls.append(url)
        ready.set()

    app = make_app(Service("bench", worker, text_format))
    server = Server(app, worker, host="127.0.0.1", port=0, started=started)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve_until_stopped(signals=False)))
    thread.start()
    ready.wait()
    try:
        yield urls[0]
    finally:
        server.stop()
        thread.join()
        worker.join()
