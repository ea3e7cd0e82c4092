"""The benchmark of masked diffusion runs on a tiny network, and its table has its figures."""

import io

import jax
import pytest
from rich.console import Console

from rljax.benchmarks import diffusion, workload
from rljax.benchmarks.table import print_report
from rljax.parallel.mesh import make_mesh

TINY = ("layers=2", "width=16", "mlp_width=8", "heads=2", "kv_heads=1", "head_dim=8")


@pytest.mark.slow
def test_rates_and_memory_of_a_tiny_network(monkeypatch):
    one = jax.devices()[:1]
    monkeypatch.setattr(workload, "make_mesh", lambda sizes: make_mesh(sizes, devices=one))
    monkeypatch.setattr(diffusion, "DRAWS", (1, 8))
    words = [f"--config.model.{word}" for word in (*TINY, "vocab_size=40")]
    sizes = dict(prompts=2, samples=4, prompt_tokens=5, new_tokens=4)
    report = diffusion.time_diffusion(workload.Settings(**sizes, steps=1, overrides=tuple(words)))
    assert set(report["tokens_per_second"]) == {"1", "2"}
    again, kept = (report["memory_gib"][name] for name in ("run again", "kept"))
    assert again["8"] < 1.5 * again["1"] and kept["8"] > 1.5 * again["8"]
    text = io.StringIO()
    print_report(report, Console(file=text, width=120))
    assert "gradient, 8 draws" in text.getvalue() and "sampling, 2 a step" in text.getvalue()
