"""Arrays move between devices of the same processes, by a layout halfway."""

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from rljax.parallel.halfway import COPIES, halfway_mesh, halved, moved, within
from rljax.parallel.mesh import make_mesh


@pytest.mark.parametrize(
    ("trains", "sizes"),
    [
        (4, {"data": 2, "tensor": 2}),  # one for one
        (6, {"data": 1, "tensor": 2}),  # three have the same part
        (2, {"data": 2, "tensor": 2}),  # one has the parts of two
        (1, {"data": 1, "tensor": 4}),
    ],
)
def test_an_array_keeps_its_bits(trains, sizes):
    devices = jax.devices()
    if len(devices) < 8:
        pytest.skip("needs 8 devices")
    trainer = make_mesh({"data": 1, "fsdp": -1}, devices[:trains])
    sampler = make_mesh(sizes, devices[8 - sizes["data"] * sizes["tensor"] :])
    array = np.arange(24 * 8, dtype=np.float32).reshape(24, 8)
    given = jax.device_put(array, NamedSharding(trainer, P("fsdp")))
    halfway = halfway_mesh(trainer, sampler)
    assert set(halfway.devices.flat) == set(trainer.devices.flat)
    for spec in (P("data", "tensor"), P(None, "tensor"), P()):
        place = NamedSharding(sampler, spec)
        found = moved(given, halfway, place)
        assert found.sharding == place
        np.testing.assert_array_equal(np.asarray(found), array)


def test_sizes_halfway():
    mesh = {"data": 4, "fsdp": 1, "tensor": 2}
    assert halved(mesh, 4, 2) == {**mesh, COPIES: 2}
    # Groups of four are all of the last axis and half of the first one.
    assert halved(mesh, 1, 4) == {"data": 2, "fsdp": 1, "tensor": 1, COPIES: 1}
    for sizes, trains, samples in ((mesh, 3, 2), ({"data": 2, "tensor": 3}, 1, 2)):
        with pytest.raises(ValueError, match=r"'direct'.*do not divide evenly.*sampler_devices\)"):
            halved(sizes, trains, samples)


def test_groups_of_two_processes_are_refused():
    class Device:
        def __init__(self, process_index):
            self.process_index = process_index

    def mesh(processes, **sizes):
        made = object.__new__(Stand)
        made.devices = np.array([Device(n) for n in processes])
        made.shape = sizes
        return made

    class Stand:
        pass

    with pytest.raises(ValueError, match="do not divide evenly"):
        halfway_mesh(mesh((0, 1), fsdp=2), mesh((0, 1, 0, 1), tensor=4))


def test_where_a_part_lies_in_a_shard():
    held = (slice(4, 8), slice(None))
    assert within((slice(6, 8), slice(0, 3)), held, (8, 5)) == (slice(2, 4), slice(0, 3))
    assert within((slice(2, 6), slice(0, 3)), held, (8, 5)) is None
