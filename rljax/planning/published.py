"""Training runs that others measured and published, each as a config of ours.

    python launch/plan.py --config=rljax/planning/published.py:llama3_1_8b_v6e_8 --topology=v6e:2x4

The figures and their sources are in `published.json`.
"""

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rljax.errors import unknown_name
from rljax.models.config import ModelConfig
from rljax.models.presets import preset
from rljax.planning.chips import Topology, read_topology
from rljax.planning.decode_bound import decode_bytes

FILE = Path(__file__).with_suffix(".json")


def model_of(name: str, shape: dict[str, Any]) -> ModelConfig:
    """The shape of a network: a preset by name, or fields of `config.model`."""
    return ModelConfig(**(preset(name) if name else shape))


@dataclasses.dataclass(frozen=True)
class Decode:
    """A published throughput of sampling.

    Attributes:
        name: of the case.
        topology: the slice, over which the model is split.
        rows: that are decoded together.
        cache_tokens: of each row, all of which every step reads.
        tokens_per_second: sampled by all chips.
        preset, shape: as `Case`'s.
    """

    name: str
    topology: str
    rows: int
    cache_tokens: int
    tokens_per_second: float
    preset: str = ""
    shape: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def bound(self) -> float:
        """Tokens a second where reading the memory is all that takes time."""
        model, where = model_of(self.preset, self.shape), read_topology(self.topology)
        read = decode_bytes(model, self.rows, self.cache_tokens)
        return self.rows * where.chip.hbm_bandwidth * where.count / read


@dataclasses.dataclass(frozen=True)
class Case:
    """A published run.

    Attributes:
        name: of the case.
        topology: the slice.
        sequence: tokens of a row.
        rows_per_chip: rows of an update over chips.
        remat: ours that comes nearest to `stated_remat`, the source's.
        source: where it is published.
        preset: a published shape by name; else `shape`.
        shape: fields of `config.model`.
        tensor: chips over which each matrix is split; fsdp over all others.
        tokens_per_second_per_chip, tflops_per_chip: what is published; one is there at least.
        step_seconds: what is published, if it is.
        counted: how `tflops_per_chip` counts attention: "full".
    """

    name: str
    topology: str
    sequence: int
    rows_per_chip: int
    remat: str
    stated_remat: str
    source: str
    preset: str = ""
    shape: dict[str, Any] = dataclasses.field(default_factory=dict)
    tensor: int = 1
    tokens_per_second_per_chip: float = 0.0
    tflops_per_chip: float = 0.0
    step_seconds: float = 0.0
    counted: str = ""

    @property
    def slice(self) -> Topology:
        """The slice that it ran on."""
        return read_topology(self.topology)

    @property
    def tokens_per_chip(self) -> int:
        """Tokens of an update over chips."""
        return self.rows_per_chip * self.sequence

    @property
    def model(self) -> ModelConfig:
        """The shape of the network."""
        return model_of(self.preset, self.shape)

    @property
    def seconds(self) -> float:
        """Seconds of a step: as published, or by what is published."""
        if self.step_seconds:
            return self.step_seconds
        if self.tokens_per_second_per_chip:
            return self.tokens_per_chip / self.tokens_per_second_per_chip
        return self.tokens_per_chip * flops_as_counted(self) / (self.tflops_per_chip * 1e12)


def flops_as_counted(case: Case) -> float:
    """Operations of a token as MaxText counts them: forward and backward, no masked pair left out.

    Raises:
        ValueError: for a case that counts otherwise.
    """
    if case.counted != "full":
        raise ValueError(f"{case.name} counts attention {case.counted!r}; known: full (counted).")
    model = case.model
    sides = 2 * model.heads + 2 * model.kv_heads
    matrices = model.width * (sides * model.head_dim + 3 * model.mlp_width)
    pairs = 4.0 * model.heads * model.head_dim * case.sequence
    vocabulary = 2.0 * model.width * model.vocab_size
    return 3 * (model.layers * (2.0 * matrices + pairs) + vocabulary)


@cache
def cases() -> dict[str, Case]:
    """All cases by name, in the order of the file."""
    return {each["name"]: Case(**each) for each in _file()["training"]}


def decode_cases() -> list[Decode]:
    """The published throughputs of sampling."""
    return [Decode(**each) for each in _file()["decode"]]


def _file() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def get_config(arg: str = "") -> ConfigDict:
    """The run of a case: supervised training of its shape on rows of its length.

    Raises:
        ValueError: for an unknown name.
    """
    if arg not in cases():
        raise unknown_name("published run", arg, list(cases()), "--config=FILE:ARG")
    case = cases()[arg]
    rows = case.rows_per_chip * case.slice.count
    c = ConfigDict()
    c.name = arg.replace("_", "-")
    c.stages = ("sft",)
    c.mesh = dict(data=1, fsdp=-1, tensor=case.tensor)
    c.model = dict(dtype="bfloat16", remat=case.remat, preset=case.preset, **case.shape)
    # What the rows hold is not planned: any problems with demonstrations will do.
    c.data = dict(
        tasks=({"name": "chain_sum"},), train_size=64, heldout_size=64, max_prompt_tokens=256
    )
    c.evaluation = dict(prompts_per_batch=case.slice.count)
    c.sft = dict(
        method="sft",
        steps=1,
        data=dict(row_tokens=case.sequence),
        batch=dict(sequences_per_update=rows, sequences_per_micro_batch=rows),
    )
    return c
