"""What the TPU compiler expects of the two kernels of decode attention; needs libtpu, no TPU.

    JAX_PLATFORMS=cpu python -m rljax.benchmarks.decode_attention

compiles both ahead of time for a chip of each kind, and prints what one layer takes for one token
of every row:

    dense    the compiler's estimate of the cycles of every operation, times the turns of the loop
    ragged   the steps of the grid, times the longer of two: the bundles of instructions that the
             compiler has scheduled for a step, one a cycle, and the time in which the keys and
             values of a step come from memory; besides, its estimate of what prepares the steps

Neither knows the latency of memory, nor how long a kernel takes to start.
"""

import functools
import math
import os
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import Mesh
from rich.console import Console
from rich.table import Table

from rljax.models.attention.partial import KeyValues
from rljax.models.attention.ragged import LANES, block_columns
from rljax.models.config import ModelConfig
from rljax.models.decoding import Own, own_block, own_part
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import replicated

TOPOLOGIES = ("v5e:2x2", "v5p:2x2x1")
# What the compiler says of an operation that it has no estimate for.
UNKNOWN_CYCLES = 2**62


class Case(NamedTuple):
    """The sizes of a call on one device."""

    rows: int
    columns: int
    cache: str = "bfloat16"
    kv_heads: int = 8
    group: int = 2  # queries of a key-value head
    head_dim: int = 128

    def config(self, kernel: str) -> ModelConfig:
        """The config of a model with such heads."""
        return ModelConfig(
            vocab_size=8,
            layers=1,
            width=8,
            heads=self.kv_heads * self.group,
            kv_heads=self.kv_heads,
            head_dim=self.head_dim,
            mlp_width=8,
            dtype="bfloat16",
            decode_attention=kernel,
        )

    def arguments(self, mesh: Mesh) -> tuple[jax.ShapeDtypeStruct, KeyValues, Own]:
        """The array arguments of `own_part`, as shapes."""
        heads = (self.rows, self.kv_heads)
        shape_of = functools.partial(jax.ShapeDtypeStruct, sharding=replicated(mesh))
        keys = shape_of((*heads, self.columns, self.head_dim), self.cache)
        scale = None
        if self.cache == "int8":
            scale = shape_of((*heads, self.columns), jnp.float32)
        number = shape_of((), jnp.int32)
        own = Own(number, shape_of((self.rows,), jnp.int32), number)
        q = shape_of((*heads, self.group, self.head_dim), jnp.bfloat16)
        return q, KeyValues(keys, keys, scale, scale), own

    def block(self, kernel: str) -> int:
        """Columns that are read at a time."""
        if kernel == "dense":
            return own_block(self.columns)
        return block_columns(self.kv_heads, self.columns, self.head_dim, jnp.dtype(self.cache))

    def block_bytes(self, kernel: str) -> int:
        """Bytes of the keys and values of a row's block."""
        numbers = math.ceil(self.head_dim / LANES) * LANES * jnp.dtype(self.cache).itemsize
        scale = 4 if self.cache == "int8" else 0
        return 2 * self.kv_heads * self.block(kernel) * (numbers + scale)


CASES = [Case(rows, columns) for rows in (64, 256) for columns in (512, 2048, 8192)]
CASES += [
    Case(8, 64),
    Case(64, 128),
    Case(64, 2048, cache="int8"),
    Case(64, 2048, kv_heads=1, group=8),
    Case(64, 2048, kv_heads=32, group=1),
]
# Shares of the ring that the rows have in use, in turn.
USES = {"1": (1.0,), "1/4": (0.25,), "1/4 - 1": (0.25, 0.5, 0.75, 1.0)}


class Estimate(NamedTuple):
    """How long one program takes on one device, in seconds."""

    once: float
    turn: float  # of the loop, or a step of the grid
    cores: int  # that share the steps


def estimate(case: Case, kernel: str, mesh: Mesh, folder: Path) -> Estimate:
    """Compiles a kernel and reads what the compiler notes about it.

    Args:
        case: the shapes.
        kernel: "dense" or "ragged".
        mesh: of one described device.
        folder: where the compiler writes its notes (`main`).
    """
    config, before = case.config(kernel), set(folder.iterdir())
    with jax.set_mesh(mesh):
        program = jax.jit(lambda q, cache, own: own_part(q, cache, own, config, 0))
        program.lower(*case.arguments(mesh)).compile(
            compiler_options={"xla_dump_to": str(folder), "xla_dump_hlo_as_text": True}
        )
        chip = pltpu.get_tpu_info()
    notes = set(folder.iterdir()) - before
    (operations,) = (x.read_text() for x in notes if x.name.endswith(".after_codegen.txt"))
    inside, outside = loop_cycles(operations)
    clock = chip.bf16_ops_per_second / (2 * chip.num_mxus * chip.mxu_column_size**2)
    if kernel == "dense":
        return Estimate(outside / clock, inside / clock, 1)
    (bundles,) = (
        step_bundles(x.read_text())
        for x in notes
        if re.search(r"ragged_decode\S*-\d+-final_bundles", x.name)
    )
    arrival = case.block_bytes(kernel) / chip.mem_bw_bytes_per_second
    return Estimate(outside / clock, max(bundles / clock, arrival), chip.num_cores)


def loop_cycles(operations: str) -> tuple[int, int]:
    """Estimated cycles of the operations in the bodies of loops, each once, and of the others."""
    bodies = set(re.findall(r"body=%?([\w.\-]+)", operations))
    inside, outside, computation = 0, 0, ""
    for line in operations.splitlines():
        if begins := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            computation = begins.group(1)
        if found := re.search(r'"estimated_cycles":"(\d+)"', line):
            cycles = int(found.group(1))
            if cycles < UNKNOWN_CYCLES and computation in bodies:
                inside += cycles
            elif cycles < UNKNOWN_CYCLES:
                outside += cycles
    return inside, outside


def step_bundles(schedule: str) -> int:
    """Bundles of a step of the grid: from the first of the loop's body to the last branch back."""
    address = r"^\s*(0x[0-9a-f]+|0)\s"
    begin = int(re.search(address + r"+LB:", schedule, re.MULTILINE).group(1), 16)
    branches = re.findall(address + r".*sbr\.rel", schedule, re.MULTILINE)
    return max(int(branch, 16) for branch in branches) - begin


def turns(case: Case, kernel: str, shares: tuple[float, ...]) -> float:
    """Turns of the loop, for rows that have these shares of their ring in use."""
    counts = np.maximum(np.resize(shares, case.rows) * case.columns, 1).astype(int)
    column, block = case.columns // 2 + 3, case.block(kernel)
    blocks = column // block - (column - counts + 1) // block + 1
    blocks = np.minimum(blocks, case.columns // block)
    return blocks.max() if kernel == "dense" else blocks.sum()


def rows_of(topology: str, folder: Path) -> list[list[str]]:
    """Rows of the table, for a chip of this kind."""
    device = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices[0]
    mesh, found = make_mesh({"data": 1}, devices=[device]), []
    for case in CASES:
        of = {kernel: estimate(case, kernel, mesh, folder) for kernel in ("dense", "ragged")}
        for name, shares in USES.items():
            count = {kernel: turns(case, kernel, shares) for kernel in of}
            seconds = {k: x.once + x.turn * count[k] / x.cores for k, x in of.items()}
            rows = {"dense": case.rows, "ragged": 1}
            read = {k: case.block_bytes(k) * rows[k] * count[k] / 1e6 for k in of}
            sizes = (case.rows, case.columns, case.kv_heads, case.group, case.cache, name)
            numbers = [f"{seconds[k] * 1e6:.0f}" for k in of] + [f"{read[k]:.0f}" for k in of]
            ratio = f"{seconds['dense'] / seconds['ragged']:.1f}"
            found.append([topology.partition(":")[0], *map(str, sizes), *numbers, ratio])
    return found


def main() -> None:
    """Prints the table."""
    table = Table(title="a layer, a token of every row")
    names = ("chip", "rows", "columns", "kv heads", "group", "cache", "in use", "dense us")
    for name in (*names, "ragged us", "dense MB", "ragged MB", "dense / ragged"):
        table.add_column(name, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        # Read when libtpu is loaded, by the first topology.
        os.environ["LIBTPU_INIT_ARGS"] = (
            f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true "
            "--xla_jf_dump_llo_pass_label_regex=final_bundles"
        )
        for topology in TOPOLOGIES:
            for row in rows_of(topology, Path(folder)):
                table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
