"""Slices of TPUs and their hosts."""

import pytest

from rljax.pods.machines import GENERATIONS, read_slice
from tests.pods.scripts import refused


@pytest.mark.parametrize(
    "text, machine, hosts, chips, accelerator_type",
    [
        ("v5e:8x8", "", 16, 4, "v5litepod-64"),
        ("v6e:2x4", "", 1, 8, "v6e-8"),
        ("v6e:2x4", "ct6e-standard-4t", 2, 4, "v6e-8"),
        ("v5p:4x4x4", "", 16, 4, "v5p-128"),
        ("v4:2x2x1", "", 1, 4, "v4-8"),
    ],
)
def test_slices(text, machine, hosts, chips, accelerator_type):
    found = read_slice(text, machine)
    assert (found.hosts, found.chips_per_host) == (hosts, chips)
    assert found.accelerator_type == accelerator_type


def test_hosts_of_every_slice_are_whole():
    for generation, of in GENERATIONS.items():
        for chips, topologies in of.hosts.items():
            for topology in topologies:
                found = read_slice(f"{generation}:{topology}")
                assert (
                    found.hosts * found.chips_per_host == found.chips and found.chips % chips == 0
                )


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: read_slice("v6:4x4"), r"generation 'v6'; .*Did you mean 'v4'|'v6e'"),
        (lambda: read_slice("v5e:4x6"), "v5e has no slice '4x6' .*Nearest: (4x4|4x8), (4x4|4x8)"),
        (lambda: read_slice("v5p:3x3x3"), "Nearest: 2x4x4, "),
        (lambda: read_slice("v5p"), "GENERATION:TOPOLOGY .* got 'v5p'"),
        (lambda: read_slice("v5e:ax0"), "no slice 'ax0'"),
        (lambda: read_slice("v6e:8x8", "ct6e-standard-8t"), "8t has no slice '8x8' .*Nearest: 2x4"),
        (lambda: read_slice("v6e:8x8", "ct5p-hightpu-4t"), "a machine of v5p, and v6e:8x8 is of"),
        (lambda: read_slice("v6e:8x8", "ct6e-standard-4"), "Did you mean 'ct6e-standard-4t'"),
    ],
)
def test_bad_input_is_told_in_one_line(make, message):
    refused(make, message)
