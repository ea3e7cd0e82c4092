"""What a benchmark runs is what training runs: reference, several updates, rounding, checks."""

import jax
import numpy as np
import pytest

from rljax.benchmarks import timing, workload
from rljax.benchmarks.flops import forward_flops, update_flops
from rljax.parallel.mesh import make_mesh
from tests.training.steps import take_step

SIZES = {"prompts": 2, "samples": 3, "prompt_tokens": 5, "new_tokens": 4}
TINY = ("layers=1", "width=16", "mlp_width=8", "heads=2", "kv_heads=1", "head_dim=8")
LORA = ("--config.model.lora.rank=2",)


def settings(*words: str) -> workload.Settings:
    tiny = [f"--config.model.{word}" for word in (*TINY, "vocab_size=40")]
    return workload.Settings(**SIZES, steps=1, overrides=(*tiny, *words))


@pytest.fixture(autouse=True)
def one_device_benchmarks(monkeypatch):
    def one(sizes):
        return make_mesh(sizes, devices=jax.devices()[:1])

    monkeypatch.setattr(workload, "make_mesh", one)


@pytest.mark.slow
def test_a_step_takes_every_update_and_asks_the_reference():
    asked = settings(
        "--config.grpo.objective.kl_placement=loss",
        "--config.grpo.batch.epochs_per_step=2",
        "--config.model.param_dtype=bfloat16",
    )
    work = workload.build(asked)
    with jax.set_mesh(work.context.mesh), work.context.scorer:
        _, experience = take_step(work.family, work.state, 1)
        first, second = experience.batches
        assert {"old_logprobs", "ref_logprobs"} <= set(first)
        assert np.abs(first["ref_logprobs"]).max() > 0
        timing._one_step(work, None, 1)
        assert int(work.state.updates) == 2
        timing._time_update(work, asked)
        assert int(work.state.updates) == 6
    # 1e-6 is less than half a bit of a bfloat16: rounding to nearest would change nothing.
    moved = jax.tree.map(
        lambda a, b: bool((a != b).any()), work.state.params, work.family.reference
    )
    assert any(jax.tree.leaves(moved))
    flops, model = timing._step_flops(work, asked), work.context.network.config
    assert flops["other"] == 2 * forward_flops(model, **SIZES, shared=True)
    assert flops["update"] == 2 * update_flops(model, **SIZES, shared=True)


def test_the_reference_of_new_adapters_is_the_frozen_model():
    work = workload.build(settings(*LORA, "--config.grpo.reference_kl=True"))
    reference = jax.tree.leaves(work.family.reference)
    assert {id(leaf) for leaf in reference} == set(map(id, jax.tree.leaves(work.context.frozen)))
    work.free()
    held = (work.state, work.context.frozen, work.family.reference)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(held))


@pytest.mark.slow
def test_layouts_do_not_share_the_device(monkeypatch):
    """No array of the first is left when the second is made; peaks of both are of neither."""
    build, alive = timing.build, []

    def watch(asked):
        alive.append(sum(leaf.shape == (48, 16) for leaf in jax.live_arrays()))
        return build(asked)

    monkeypatch.setattr(timing, "build", watch)
    report = timing.time_updates(settings("--config.model.vocab_size=48"))
    assert alive == [0, 0]
    for layout in report["layouts"].values():
        assert set(layout["memory"]) == {"update_temporary_gib", "update_arguments_gib"}


@pytest.mark.parametrize(
    "word, message",
    [
        ("grpo.method=sft", "a method that learns from rewards of samples; got .* method='sft'"),
        ("grpo.batch.prompts_per_step=4", "prompts_per_step=4 must be set by --prompts"),
        ("mesh.context=2", "Rows of 17 slots do not divide by the mesh axis context=2"),
        ("model.init_from=/nowhere", "No checkpoint in"),
        ("model.lora.rank=99", "more than the .* directions"),
    ],
)
def test_what_training_refuses_is_refused(word, message, monkeypatch):
    if "mesh" in word:

        def two(sizes):
            return make_mesh(sizes, devices=jax.devices()[:2])

        monkeypatch.setattr(workload, "make_mesh", two)
    words = ["--config.model.lora.kind=lora_sb"] if "rank" in word else []
    with pytest.raises(ValueError, match=message):
        workload.build(settings(f"--config.{word}", *words))
