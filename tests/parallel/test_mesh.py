"""Mesh sizes: what -1 takes, and every error."""

import json

import jax
import pytest

from rljax.parallel.mesh import AXES, axis_sizes_between, make_mesh, resolve_axis_sizes


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


@pytest.mark.parametrize(
    "slices, sizes, between",
    [
        (2, {"data": 2, "fsdp": 16}, (2, 1)),
        (4, {"data": 2, "fsdp": 16}, (2, 2)),
        (3, {"data": 1, "fsdp": 48}, (1, 3)),
        (2, {"data": 3, "fsdp": 16}, (1, 2)),
    ],
)
def test_slices_lie_along_data_then_fsdp(slices, sizes, between):
    found = axis_sizes_between(slices, dict.fromkeys(AXES, 1) | sizes)
    assert tuple(found.values()) == (*between, 1, 1, 1)


def test_other_axes_stay_within_a_slice():
    with pytest.raises(ValueError, match=r"data \(1\) and fsdp \(3\) .* 2 slices.*config.mesh"):
        axis_sizes_between(2, dict.fromkeys(AXES, 1) | {"fsdp": 3, "tensor": 16})


TPU_MESHES = """
import json
from jax.experimental import topologies
from rljax.parallel.mesh import make_mesh

def devices(name, **more):
    return topologies.get_topology_desc(name, "tpu", **more).devices

two = make_mesh({"data": 2, "fsdp": -1, "tensor": 4}, devices("v5e:4x4", num_slices=2))
split = make_mesh({"fsdp": -1, "tensor": 16}, devices("v5p:8x8x8"))
print(json.dumps([
    [sorted({device.slice_index for device in part.flat}) for part in two.devices],
    [list(map(int, device.coords)) for device in split.devices[0, 0, 0, 0]],
]))
"""


def test_on_tpus_data_goes_over_slices_and_an_axis_takes_part_of_a_direction(run_for_tpu):
    slices, coords = json.loads(run_for_tpu("-c", TPU_MESHES))
    assert slices == [[0], [1]]
    # Sixteen chips of 8 x 8 x 8: all of one direction, and two of another.
    assert sorted(len(set(along)) for along in zip(*coords, strict=True)) == [1, 2, 8]
