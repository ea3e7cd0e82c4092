"""Checkpoints that are loaded once for all tests."""

import functools
import shutil
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.network import Network
from rljax.models.pretrained import load_params, read_config

sys.path.insert(0, str(Path(__file__).parent))

from pretrained_cases import FIXTURES, Case, Computed  # noqa: E402


@pytest.fixture(scope="session")
def load_case(one_device, tmp_path_factory):
    """A function from the name of a fixture to its Case; each is loaded once."""

    @functools.cache
    def load(name: str) -> Case:
        folder = FIXTURES / name
        network = Network.create(read_config(folder))
        expected = np.load(folder / "expected.npz")
        rows = tuple(jnp.asarray(expected[key]) for key in ("tokens", "positions", "segment_ids"))
        params = load_params(folder, network, one_device)
        # A gradient is read as a checkpoint is: its tensors have the names of the weights.
        gradient = tmp_path_factory.mktemp(name)
        shutil.copyfile(folder / "config.json", gradient / "config.json")
        shutil.copyfile(folder / "gradient.safetensors", gradient / "model.safetensors")

        theirs = load_params(gradient, network, one_device)
        return Case(
            folder=folder,
            network=network,
            params=params,
            rows=rows,
            theirs=Computed(theirs, expected["scores"], expected["hidden"]),
        )

    return load
