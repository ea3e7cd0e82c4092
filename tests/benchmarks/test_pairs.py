"""A timed step of DPO is one of training: it learns, and asks the reference where one is read."""

import sys

import jax
import pytest

from rljax.benchmarks import pairs, workload
from rljax.parallel.mesh import make_mesh

TINY = ("layers=1", "width=16", "mlp_width=8", "heads=2", "kv_heads=1", "head_dim=8")


def settings(*words):
    tiny = [f"--config.model.{word}" for word in (*TINY, "vocab_size=40")]
    return workload.Settings(
        prompts=2, prompt_tokens=5, new_tokens=4, steps=1, overrides=(*tiny, *words)
    )


@pytest.fixture(autouse=True)
def one_device_benchmarks(monkeypatch):
    def one(sizes):
        return make_mesh(sizes, devices=jax.devices()[:1])

    monkeypatch.setattr(workload, "make_mesh", one)


@pytest.mark.parametrize("method, scored", [("dpo", True), ("simpo", False)])
def test_a_step_is_timed_beside_a_peer(method, scored):
    peer = f"{sys.executable} -c \"print('{{prompts}}0 tok/s')\""
    asked = settings(f"--config.dpo.method={method}")
    report = pairs.time_pairs(asked, [("other", peer)], 2)
    assert len(report["seconds_of_each_step"]) == 2
    assert report["tokens_per_second"] == pytest.approx(36 / report["seconds_per_step"])
    assert report["peers"]["other"]["tokens_per_second"] == 20.0
    assert len(report["peers"]["other"]["ratios"]) == 2
    assert (report["flops"]["prepare"] > 0) == scored
    assert report["flops"]["step"] == report["flops"]["prepare"] + report["flops"]["update"]


@pytest.mark.parametrize(
    "word, message",
    [
        ("--config.dpo.method=kto", "learns from pairs"),
        ("--config.dpo.batch.sequences_per_update=8", "must be set by --prompts"),
        ("--config.dpo.data.max_completion_tokens=8", "must be set by --new-tokens"),
    ],
)
def test_what_cannot_be_timed_is_refused(word, message):
    with pytest.raises(ValueError, match=message):
        pairs.time_pairs(settings(word), [], 1)
