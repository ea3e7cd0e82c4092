"""When prompts are shared."""

import jax
import pytest

from rljax.config.load import complete
from rljax.config.model import resolve_model
from rljax.config.validate import validate
from rljax.parallel.mesh import make_mesh
from rljax.training.run import layout


def chosen(mesh_sizes, model=None, **batch):
    sizes = {"prompts_per_step": 8, "samples_per_prompt": 4, "sequences_per_micro_batch": 16}
    config = complete(
        {
            "stages": ("s",),
            "s": {"method": "grpo", "batch": {**sizes, **batch}},
            "model": model or {},
            "data": {"tasks": ({"name": "chain_sum"},)},
        }
    )
    count = max(1, 8 if -1 in mesh_sizes.values() else 1)
    mesh = make_mesh(mesh_sizes, devices=jax.devices()[:count])
    network = resolve_model(config.model, 259)
    (stage,) = layout.choose_layouts(config, validate(config), network, mesh)
    return stage.batch.share_prompts


def test_prompts_are_shared_where_groups_fit_and_the_kernel_holds_its_scores(monkeypatch):
    assert chosen({"data": 1})
    assert not chosen({"data": 1}, sequences_per_micro_batch=2)
    assert chosen({"data": 4, "tensor": -1})  # 4 groups on 4 shards of rows
    assert not chosen({"data": -1})  # 4 groups on 8
    assert not chosen({"data": 1}, {"causal": False})
    monkeypatch.setattr(layout, "platform", lambda: "tpu")
    assert not chosen({"data": 1})
    assert chosen({"data": 1}, share_prompts=True)
    assert chosen({"data": 1}, {"attention": "dense"})


def test_what_is_asked_for_and_cannot_be_is_refused(monkeypatch):
    monkeypatch.setattr(layout, "platform", lambda: "tpu")
    with pytest.raises(ValueError, match="attention='splash'.*share_prompts, config.model.attent"):
        chosen({"data": 1}, {"attention": "splash"}, share_prompts=True)
    with pytest.raises(ValueError, match="it runs on GPU, not on tpu.*config.model.attention"):
        chosen({"data": 1}, {"attention": "cudnn"})


def test_a_layout_that_follows_from_the_devices_is_no_part_of_the_config(pieces):
    """A run on one device may go on with four, whose rows have the other layout."""

    def saved(*overrides):
        return pieces("grpo", *overrides).context.resolved()["grpo"]["batch"]["share_prompts"]

    assert saved() is None
    assert saved("--config.grpo.batch.share_prompts=False") is False
