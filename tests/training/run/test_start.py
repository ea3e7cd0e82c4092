"""Where parameters come from: how much of a base that is quantised is there in full."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from rljax.models.config import LoRAConfig
from rljax.models.frozen_base import quantise_base
from rljax.models.lora import flatten, without_adapters
from rljax.models.network import Network
from rljax.models.pretrained import load_params, read_config
from rljax.training.run import start
from rljax.training.run.digests import write_digests
from rljax.training.run.start import Source, load_start

pytestmark = pytest.mark.contract

FIXTURE = Path(__file__).parents[2] / "models/pretrained/fixtures/qwen3"


@pytest.fixture(scope="module")
def network():
    """Its parameters in bfloat16, so that their bytes are told from those of codes and scales."""
    lora = LoRAConfig(rank=2, alpha=4, base="int8")
    return Network.create(read_config(FIXTURE, lora=lora, param_dtype="bfloat16"))


@pytest.fixture
def in_full(network, monkeypatch):
    """Bytes of the full matrices on the device, each time after parameters were made."""
    kernels = {leaf.shape for path, leaf in flatten(network.shapes).items() if path[-1] == "kernel"}
    seen = []

    def watch(owner, name):
        make = getattr(owner, name)

        def watched(*args, **kwargs):
            made = make(*args, **kwargs)
            alive = [leaf for leaf in jax.live_arrays() if leaf.dtype == jnp.bfloat16]
            seen.append(sum(leaf.nbytes for leaf in alive if leaf.shape in kernels))
            return made

        monkeypatch.setattr(owner, name, watched)

    watch(jax, "make_array_from_callback")  # by which published checkpoints are read
    watch(Network, "draw")
    watch(start, "restore_params")
    return seen


@pytest.mark.parametrize("place", ["published", "drawn", "run"])
def test_one_matrix_at_a_time_is_there_in_full(place, network, in_full, one_device, tmp_path):
    source = Source({"published": str(FIXTURE), "drawn": "", "run": str(tmp_path)}[place], 3)
    bare, drawn = without_adapters(network), place == "drawn"
    full = bare.init(source.key, one_device) if drawn else load_params(FIXTURE, bare, one_device)
    kernels = [leaf for path, leaf in flatten(full).items() if path[-1] == "kernel"]
    largest = max(leaf.nbytes for leaf in kernels)
    if place == "run":
        ocp.save_checkpointables(tmp_path / "1", {"state": {"params": full}})
        write_digests(tmp_path / "1")
    expected = jax.device_get(quantise_base(network, full, one_device))
    assert all(leaf.is_deleted() for leaf in kernels)
    in_full.clear()
    _, frozen = load_start(source, network, one_device)
    assert len(in_full) > len(kernels) and max(in_full) == largest
    jax.tree.map(np.testing.assert_array_equal, frozen, expected)
