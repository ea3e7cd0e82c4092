"""The sum along every axis of a mesh that a preflight makes."""

import jax
import numpy as np
import pytest

from rljax.parallel import collectives
from rljax.parallel.collectives import check_collectives


def test_every_axis_that_splits_is_added_up(mesh_2x2x2, one_device):
    assert set(check_collectives(mesh_2x2x2)) == {"data", "fsdp", "tensor"}
    assert check_collectives(one_device) == {}


def test_a_wrong_sum_is_found(mesh_2x2x2, monkeypatch):
    def wrong(mesh, spec, axis, numbers):
        return jax.device_put(np.zeros(numbers.shape, np.float32), numbers.sharding)

    monkeypatch.setattr(collectives, "_added", wrong)
    with pytest.raises(RuntimeError, match="got a wrong sum along the mesh axis 'data'"):
        check_collectives(mesh_2x2x2)
