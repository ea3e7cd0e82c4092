"""A real model, read once by us and once by transformers.

RLJAX_REAL_MODEL=FOLDER pytest -m real -n 0 -s tests/real

FOLDER is that of a published causal language model with tokenizer and chat template, small enough
to be held twice in float32.
"""

import os
from pathlib import Path
from typing import NamedTuple

import jax
import pytest

from rljax.models.network import Network, Params
from rljax.models.pretrained import load_params, read_config

PROMPTS = (
    "The capital of France is",
    "def fibonacci(n):\n    if n < 2:\n",
    "Once upon a time, in a land far away, there lived a",
    "2 + 2 = 4. 3 + 5 = 8. 7 + 6 =",
)


class Ours(NamedTuple):
    """A model in one precision."""

    network: Network
    params: Params


@pytest.fixture(scope="session")
def folder() -> Path:
    given = os.environ.get("RLJAX_REAL_MODEL")
    if not given:
        pytest.skip("no real model: name its folder in RLJAX_REAL_MODEL")
    return Path(given)


@pytest.fixture(scope="session")
def ours(folder, one_device):
    """ours(dtype): the model, computing and stored in it."""
    read: dict[str, Ours] = {}

    def load(dtype: str) -> Ours:
        if dtype not in read:
            network = Network.create(read_config(folder, dtype=dtype, param_dtype=dtype))
            read[dtype] = Ours(network, load_params(folder, network, one_device))
            jax.block_until_ready(read[dtype].params)
        return read[dtype]

    return load


@pytest.fixture(scope="session")
def theirs(folder):
    """theirs(dtype): the model of transformers."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    read = {}

    def load(dtype: str):
        if dtype not in read:
            read[dtype] = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, dtype)
            ).eval()
        return read[dtype]

    return load


@pytest.fixture(scope="session")
def tokenizer(folder):
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(folder)
