"""Which weights of a model training has changed (arXiv:2511.08567).

    python launch/drift.py BASE TRAINED [--other=OTHER] [--json=FILE]

BASE, TRAINED and OTHER are Hugging Face folders, or runs: WORKDIR[/checkpoints/STAGE[/STEP]].
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

from rljax.commands.parser import Parser, number, path, whole
from rljax.commands.paths import check_file
from rljax.commands.run import run
from rljax.config.runs import find_run, recorded_network
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


def read_checkpoint(where: Path) -> tuple[Tensors, dict[str, str]]:
    """The tensors of a checkpoint by published names, and those left out, with the reason.

    Raises:
        ValueError: if there is no checkpoint, or it cannot be read.
    """
    return _read_published(where) if is_pretrained(where) else _read_run(where)


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


def _read_run(place: Path) -> tuple[Tensors, dict[str, str]]:
    step, config = find_run(place, "BASE, TRAINED, --other")
    network = Network.create(recorded_network(config, step))
    start = Source(str(step), config["seed"])
    check_start(start, network)
    mesh = widest_mesh(network.config.width)
    with jax.set_mesh(mesh):
        network, params = merge_adapters(network, combine(*load_start(start, network, mesh)))
    names, readers, left_out = _layouts(network.config), {}, {}
    for parts, leaf in flatten(params).items():
        layout = names.get(".".join(parts))
        if layout is None:
            left_out[".".join(parts)] = "no tensor of published checkpoints"
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


def compare(options: argparse.Namespace) -> None:
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


def regex(text: str) -> str:
    """A pattern that `re` can read."""
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"is no regular expression: {error}") from error
    return text


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    add = made.add_argument
    add("base", type=path, metavar="BASE", help="what training started from")
    add("trained", type=path, metavar="TRAINED", help="what came out of it")
    add(
        "--other",
        type=path,
        metavar="OTHER",
        help="another run from BASE, for the overlap of what both have changed",
    )
    add(
        "--rank",
        type=whole(1),
        default=64,
        metavar="K",
        help="leading directions whose rotation is measured (64)",
    )
    add(
        "--alpha",
        type=number(0.0, 1.0),
        default=0.5,
        metavar="SHARE",
        help="of the entries of a matrix in the masks (0.5)",
    )
    add(
        "--match",
        type=regex,
        default="",
        metavar="REGEX",
        help="only matrices with such a name; a decomposition of each takes a while",
    )
    add("--json", type=path, metavar="FILE", help="writes every matrix for itself")
    return made


def command(options: argparse.Namespace) -> None:
    """Checks where the numbers go, and compares."""
    if options.json is not None:
        check_file(options.json, "--json")
    compare(options)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), command, arguments)


if __name__ == "__main__":
    sys.exit(main())
