"""Starting from the parameters of another run."""

import jax
import numpy as np
import pytest

from rljax.parallel.mesh import make_mesh
from rljax.training.checkpoints import find_step, restore_params


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


@pytest.mark.parametrize(
    "word, message",
    [
        ("model.init_from=nowhere", "No checkpoint in"),
        ("model.width=32", "stored float32[264, 16], expected float32[264, 32]"),
    ],
)
def test_refused_before_anything_compiles(tiny_run, tiny_config, pieces, word, message):
    folder = tiny_run("grpo").workdir / "checkpoints" / "warmup"
    with pytest.raises(ValueError) as caught:
        pieces("grpo", f"--config.model.init_from={folder}", f"--config.{word}")
    assert message in str(caught.value)
