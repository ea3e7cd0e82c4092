"""Starting from the parameters of another run."""

import jax
import numpy as np
import pytest

from rljax.config.runs import find_step
from rljax.parallel.mesh import make_mesh
from rljax.training.run.checkpoints import restore_params
from rljax.training.run.workdir import claim_workdir


def test_parameters_of_a_checkpoint(tiny_run, pieces):
    """The last step of a stage's folder, or the step that is named; on any mesh."""
    folder = tiny_run("grpo").workdir / "checkpoints" / "warmup"
    made = pieces("grpo")
    assert find_step(folder) == find_step(folder / "12") == folder / "12"
    params = restore_params(find_step(folder), made.context.network, made.context.mesh)
    sharded_mesh = make_mesh({"data": 2, "fsdp": 4})
    sharded = restore_params(folder / "12", made.context.network, sharded_mesh)
    trained = False
    for a, b, fresh in zip(*map(jax.tree.leaves, (params, sharded, made.params)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert b.sharding.mesh == sharded_mesh
        trained |= not np.array_equal(a, fresh)
    assert trained


def test_a_relative_folder_is_saved_as_an_absolute_one(tiny_run, pieces, monkeypatch, tmp_path):
    """So that a run can be exported from any directory, and continued from its own."""
    workdir = tiny_run("grpo").workdir
    monkeypatch.chdir(workdir)
    relative = "--config.model.init_from=checkpoints/warmup"
    first, again = (pieces("grpo", relative).context.resolved() for _ in range(2))
    assert first["model"]["init_from"] == str(workdir / "checkpoints/warmup/12")
    claim_workdir(tmp_path / "run", first)
    claim_workdir(tmp_path / "run", again)


@pytest.mark.parametrize(
    "word, message",
    [
        ("model.init_from=nowhere", "No checkpoint in"),
        ("model.width=32", "width=32 contradicts the checkpoint"),
    ],
)
def test_refused_before_anything_compiles(tiny_run, tiny_config, pieces, word, message):
    folder = tiny_run("grpo").workdir / "checkpoints" / "warmup"
    with pytest.raises(ValueError) as caught:
        pieces("grpo", f"--config.model.init_from={folder}", f"--config.{word}")
    assert message in str(caught.value)
