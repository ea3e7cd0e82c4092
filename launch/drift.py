"""Which weights of a model training has changed (arXiv:2511.08567).

    python launch/drift.py BASE TRAINED [--other OTHER] [--json FILE]

    BASE, TRAINED, OTHER   Hugging Face folders, or WORKDIR/checkpoints/STAGE[/STEP] of runs; OTHER
                           is another run from BASE, for the overlap of what both have changed
    --rank=64              leading directions whose rotation is measured
    --alpha=0.5            share of the entries of a matrix in the masks
    --match=REGEX          only matrices with such a name; a decomposition of each takes a while
    --json=FILE            every matrix for itself, as JSON

Prints a line for each projection, the mean over its layers:

    unchanged    share of weights with the same bfloat16 value
    angle        largest rotation of the leading directions, degrees
    spectrum     change of the singular values, relative
    stable rank  of the update
    principal, low, principal only   share of the change that falls on the largest entries of the
                 rank-k part, on the smallest entries, and on the largest that are not among the
                 smallest; the first two are alpha by chance
    overlap      Jaccard index of both runs' changes / the same by chance
"""

import argparse
import dataclasses
import functools
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from rljax.config.runs import find_step, recorded_network, run_config
from rljax.models.config import ModelConfig
from rljax.models.lora import combine, flatten, merge_adapters
from rljax.models.network import Network
from rljax.models.pretrained import is_pretrained
from rljax.models.pretrained.config_json import fitting_family
from rljax.models.pretrained.names import NAMES, VISION_PREFIXES, Layout, plain_name
from rljax.models.pretrained.tensor_files import DTYPES, stored_tensors
from rljax.parallel.mesh import widest_mesh
from rljax.reporting.weight_drift import CheckpointDrift, MatrixDrift, checkpoint_drift
from rljax.training.run.start import Source, check_start, load_start

WIDTH = 150
# Names of several projections in one tensor; none of the families that rljax reads has them.
FUSED = ("qkv_proj", "gate_up_proj", "query_key_value", "Wqkv", "c_attn")
VOCABULARY = {
    layout.name for names in NAMES.values() for layout in names.values() if layout.kind == "rows"
}


class Tensors(Mapping[str, np.ndarray]):
    """The tensors of a checkpoint, read when they are looked up."""

    def __init__(self, readers: Mapping[str, Callable[[], np.ndarray]], dtypes: set[str]) -> None:
        self.readers, self.dtypes = readers, dtypes

    def __getitem__(self, name: str) -> np.ndarray:
        return self.readers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.readers)

    def __len__(self) -> int:
        return len(self.readers)


def read_checkpoint(where: str) -> tuple[Tensors, dict[str, str]]:
    """The tensors of a checkpoint by published names, and those left out, with the reason.

    Raises:
        ValueError: if there is no checkpoint, or it cannot be read.
    """
    return _read_published(Path(where)) if is_pretrained(where) else _read_run(Path(where))


def _read_published(folder: Path) -> tuple[Tensors, dict[str, str]]:
    stored = stored_tensors(folder)
    vision = any(name.startswith(VISION_PREFIXES) for name in stored)
    readers, dtypes, left_out = {}, set(), {}
    for name, tensor in stored.items():
        plain = plain_name(name, vision=vision)
        if plain is None or tensor.dtype not in DTYPES:
            left_out[name] = "not part of the language model" if plain is None else tensor.dtype
            continue
        readers[plain] = lambda tensor=tensor: np.array(tensor.map())
        dtypes.add(DTYPES[tensor.dtype].name)
    return Tensors(readers, dtypes), left_out


def _read_run(path: Path) -> tuple[Tensors, dict[str, str]]:
    step = find_step(path)
    config = run_config(step)
    if config is None:
        raise ValueError(
            f"No {step.parents[2] / 'config.json'}: a checkpoint must lie in the folder of a run, "
            "as WORKDIR/checkpoints/STAGE[/STEP]."
        )
    network = Network.create(recorded_network(config, step))
    start = Source(str(step), config["seed"])
    check_start(start, network)
    mesh = widest_mesh(network.config.width)
    with jax.set_mesh(mesh):
        network, params = merge_adapters(network, combine(*load_start(start, network, mesh)))
    names, readers, left_out = _layouts(network.config), {}, {}
    for path, leaf in flatten(params).items():
        layout = names.get(".".join(path))
        if layout is None:
            left_out[".".join(path)] = "no tensor of published checkpoints"
            continue
        for index in np.ndindex(leaf.shape[: layout.stacked]):
            read = functools.partial(_take, leaf, index, layout, network.config)
            readers[layout.name.format(*index)] = read
    return Tensors(readers, {leaf.dtype.name for leaf in flatten(params).values()}), left_out


def _layouts(config: ModelConfig) -> dict[str, Layout]:
    """How our parameters are called in the fitting family; without one they keep our names."""
    try:
        return NAMES[fitting_family(config).model_type]
    except ValueError:
        known = {path: layout for names in NAMES.values() for path, layout in names.items()}
        return {
            path: dataclasses.replace(layout, name=path + layout.stacked * ".{}")
            for path, layout in known.items()
        }


def _take(leaf: jax.Array, index: tuple[int, ...], layout: Layout, config: ModelConfig):
    """One tensor, without the rows that pad the vocabulary."""
    array = layout.in_file_order(np.asarray(leaf[index] if index else leaf))
    return array[: config.vocab_size] if layout.kind == "rows" else array


def excluded_names(names: Mapping[str, np.ndarray], match: str) -> dict[str, str]:
    """Tensors that get no matrix numbers, and why."""
    excluded = {}
    for name in names:
        if name in (*VOCABULARY, "embedding", "output") or "embed_tokens" in name:
            excluded[name] = "a table of the vocabulary"
        elif any(fused in name for fused in FUSED):
            excluded[name] = "several projections in one tensor"
        elif not re.search(match, name):
            excluded[name] = "not asked for (--match)"
    return excluded


def _by_projection(matrices: Mapping[str, MatrixDrift]) -> dict[str, list[MatrixDrift]]:
    groups: dict[str, list[MatrixDrift]] = {}
    for name, drift in matrices.items():
        groups.setdefault(re.sub(r"\.\d+(?=\.|$)", ".*", name), []).append(drift)
    return groups


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.4g}" if known else "-"


def as_table(drift: CheckpointDrift) -> Table:
    """A line for each projection: the mean over its layers."""
    table = Table()
    table.add_column("projection", no_wrap=True)
    for column in ("layers", "unchanged", "angle", "spectrum", "stable rank"):
        table.add_column(column)
    for column in ("principal", "low", "principal only", "overlap / by chance"):
        table.add_column(column)
    for name, found in _by_projection(drift.matrices).items():
        shares = (
            [getattr(m, field).share if getattr(m, field).defined else None for m in found]
            for field in ("principal", "low_magnitude", "principal_not_low")
        )
        jaccards = _mean([m.jaccard for m in found]), _mean([m.jaccard_by_chance for m in found])
        table.add_row(
            name,
            str(len(found)),
            _mean([m.sparsity for m in found]),
            _mean([m.largest_angle for m in found]),
            _mean([m.spectral_drift for m in found]),
            _mean([m.stable_rank for m in found]),
            *map(_mean, shares),
            " / ".join(jaccards),
        )
    return table


def _notes(drift: CheckpointDrift, left_out: Mapping[str, str], dtypes: set[str]) -> list[str]:
    lines = [f"unchanged of all {drift.parameters} parameters: {drift.sparsity:.4f}"]
    if drift.jaccard is not None:
        lines.append(
            f"overlap of all: {drift.jaccard:.4f}, by chance {drift.jaccard_by_chance:.4f}"
        )
    if dtypes != {"bfloat16"}:
        stored = ", ".join(sorted(dtypes))
        lines.append(f"stored as {stored}: rounded to bfloat16 on all sides to count the unchanged")
    for title, tensors in (("in the total only", drift.excluded), ("not compared", left_out)):
        reasons: dict[str, int] = {}
        for reason in tensors.values():
            reasons[reason] = reasons.get(reason, 0) + 1
        lines += [f"{title}: {count} tensors, {reason}" for reason, count in reasons.items()]
    return lines


def run(options: argparse.Namespace) -> None:
    """Reads, compares and prints.

    Raises:
        ValueError: if a checkpoint cannot be read or compared.
    """
    places = [options.base, options.trained] + ([options.other] if options.other else [])
    tensors, left_out = zip(*map(read_checkpoint, places), strict=True)
    drift = checkpoint_drift(
        tensors[0],
        tensors[1],
        other=tensors[2] if options.other else None,
        excluded=excluded_names(tensors[0], options.match),
        rank=options.rank,
        alpha=options.alpha,
    )
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console = Console(width=WIDTH)
    console.print(as_table(drift))
    missing = {name: reason for part in left_out for name, reason in part.items()}
    dtypes = set().union(*(part.dtypes for part in tensors))
    for line in _notes(drift, missing, dtypes):
        console.print(line, highlight=False, soft_wrap=True)
    if options.json:
        as_json = drift._asdict() | {
            "matrices": {name: _plain(matrix) for name, matrix in drift.matrices.items()},
            "not_compared": missing,
            "rank": options.rank,
            "alpha": options.alpha,
        }
        options.json.write_text(json.dumps(as_json, indent=2) + "\n")


def _plain(matrix: MatrixDrift) -> dict:
    """What is measured on one matrix as plain values, for JSON."""
    values = matrix._asdict().items()
    return {k: v._asdict() if hasattr(v, "_asdict") else v for k, v in values}


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after printing what is wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", metavar="BASE")
    parser.add_argument("trained", metavar="TRAINED")
    parser.add_argument("--other", metavar="OTHER")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--match", default="", metavar="REGEX")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    try:
        run(options)
    except (ValueError, OSError, re.error) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
