"""Mesh sizes: what -1 takes, and every error."""

import jax
import pytest

from rljax.parallel.mesh import AXES, make_mesh, resolve_axis_sizes


@pytest.mark.parametrize(
    "sizes, devices, resolved",
    [
        ({}, 1, (1, 1, 1, 1, 1)),
        ({"data": -1}, 8, (8, 1, 1, 1, 1)),
        ({"data": -1, "fsdp": 2, "tensor": 2}, 8, (2, 2, 1, 1, 2)),
        ({"tensor": 4, "fsdp": -1}, 8, (1, 2, 1, 1, 4)),
        ({"tensor": -1, "data": 8}, 8, (8, 1, 1, 1, 1)),
        ({"expert": 2, "context": -1, "tensor": 2}, 8, (1, 1, 2, 2, 2)),
    ],
)
def test_minus_one_takes_the_devices_that_are_left(sizes, devices, resolved):
    found = resolve_axis_sizes(sizes, devices)
    assert tuple(found) == AXES and tuple(found.values()) == resolved


@pytest.mark.parametrize(
    "sizes, devices, words",
    [
        ({"model": 2}, 8, ["model", "known", "config.mesh"]),
        ({"data": 0}, 8, [">= 1", "config.mesh"]),
        ({"data": -2}, 8, [">= 1", "config.mesh"]),
        ({"data": -1, "fsdp": -1}, 8, ["at most one may be -1", "config.mesh"]),
        ({"data": 3, "fsdp": -1}, 8, ["8 devices", "config.mesh"]),
        ({"data": 2}, 8, ["8 devices", "-1", "config.mesh"]),
        ({"data": 16}, 8, ["8 devices", "config.mesh"]),
    ],
)
def test_bad_sizes_are_named(sizes, devices, words):
    with pytest.raises(ValueError) as error:
        resolve_axis_sizes(sizes, devices)
    for word in words:
        assert word in str(error.value)


def test_mesh_uses_the_devices_given():
    mesh = make_mesh({"data": -1}, devices=jax.devices()[:1])
    assert dict(mesh.shape) == dict.fromkeys(AXES, 1)
    assert mesh.devices.flatten().tolist() == jax.devices()[:1]
