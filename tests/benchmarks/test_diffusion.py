"""The benchmark of masked diffusion runs on a tiny network, and its table has its figures."""

import io

import jax
import numpy as np
import pytest
from rich.console import Console

from rljax.benchmarks import diffusion, workload
from rljax.benchmarks.plain_diffusion import plain_diffusion_sampler
from rljax.benchmarks.table import print_report
from rljax.parallel.mesh import make_mesh
from rljax.sampling.diffusion import make_diffusion_sampler
from rljax.sampling.diffusion_config import DiffusionConfig
from rljax.sampling.request import Requests

TINY = ("layers=2", "width=16", "mlp_width=8", "heads=2", "kv_heads=1", "head_dim=8")


def test_the_plain_sampler_fills_as_the_engine_does(tiny_network, one_device):
    """Greedily, uneven steps in two blocks."""
    network = tiny_network(causal=False, layers=1)
    params = network.init(jax.random.key(1), one_device)
    config = DiffusionConfig(
        samples_per_prompt=1,
        max_new_tokens=6,
        block_tokens=3,
        steps=4,
        mask_token=12,
        stop_tokens=(),
        pad_token=0,
    )
    prompts = np.random.default_rng(0).integers(0, 12, (3, 4)).astype(np.int32)
    requests = Requests(prompts, np.ones((3, 4), bool), np.arange(3, dtype=np.int32))
    sample = jax.jit(make_diffusion_sampler(network, config))
    expected = sample(params, requests, jax.random.key(0), 1).tokens[:, 0]
    found = plain_diffusion_sampler(network, config)(params, prompts, jax.random.key(2))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.slow
def test_rates_and_memory_of_a_tiny_network(monkeypatch):
    one = jax.devices()[:1]
    monkeypatch.setattr(workload, "make_mesh", lambda sizes: make_mesh(sizes, devices=one))
    monkeypatch.setattr(diffusion, "DRAWS", (1, 8))
    words = [f"--config.model.{word}" for word in (*TINY, "vocab_size=40")]
    sizes = dict(prompts=2, samples=4, prompt_tokens=5, new_tokens=4)
    report = diffusion.time_diffusion(workload.Settings(**sizes, steps=1, overrides=tuple(words)))
    assert set(report["tokens_per_second"]) == {"1", "2"} == set(report["plain_tokens_per_second"])
    again, kept = (report["memory_gib"][name] for name in ("run again", "kept"))
    assert again["8"] < 1.5 * again["1"] and kept["8"] > 1.5 * again["8"]
    text = io.StringIO()
    print_report(report, Console(file=text, width=120))
    assert "gradient, 8 draws" in text.getvalue() and "sampling, 2 a step" in text.getvalue()
