"""Keeps the largest changes of a trained model (DLER, arXiv:2510.15110) and writes the result.

    python launch/merge.py BASE TRAINED OUT [--keep=0.25] [--scale=0.7] [--scope=tensor]

BASE and TRAINED are Hugging Face folders, or runs: WORKDIR[/checkpoints/STAGE[/STEP]].
OUT becomes a Hugging Face folder with base + scale * D, where D = trained - base is kept on the
share of entries that changed most, and is 0 elsewhere.

Tokenizer, chat template and generation settings come from TRAINED, or else from BASE, where one of
them is a Hugging Face folder. Adapters are merged into their matrices first.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from rljax.commands.parser import Parser, number, path
from rljax.commands.paths import check_folder
from rljax.commands.run import run
from rljax.config.reward_role import recorded_form
from rljax.config.runs import find_run, recorded_network
from rljax.data.tokenizers import load_tokenizer, special_ids
from rljax.models.config import DTYPES, ModelConfig
from rljax.models.lora import combine, merge_adapters
from rljax.models.merge import SCOPES, kept_share, merge
from rljax.models.network import Network, Params
from rljax.models.pretrained import is_pretrained, load_params, read_config, save_pretrained
from rljax.models.pretrained.checks import SCORED_AS
from rljax.parallel.mesh import widest_mesh
from rljax.training.run.start import Source, check_start, load_start

# Fields of a model that do not say which function of its parameters it is.
SETTINGS = (
    "dtype",
    "param_dtype",
    "attention",
    "decode_attention",
    "remat",
    "lora",
    "router_aux_weight",
    "router_bias_rate",
)


class Model(NamedTuple):
    """Where a model lies, and what it is."""

    path: Path
    config: ModelConfig
    run: dict[str, Any] | None  # the config of the run that wrote it; None: a Hugging Face folder

    @classmethod
    def at(cls, path: Path) -> "Model":
        """Reads what is said about the model.

        Raises:
            ValueError: if it is neither a Hugging Face folder nor a checkpoint of a run.
        """
        if is_pretrained(path):
            return cls(path, read_config(path), None)
        step, run = find_run(path, "BASE, TRAINED")
        return cls(step, recorded_network(run, step), run)

    @property
    def dtype(self) -> str:
        """The type of the stored weights, if it can be written."""
        if self.run is not None:
            return self.config.param_dtype
        values = json.loads((self.path / "config.json").read_text())
        values = values.get("text_config", values) | values
        stored = str(values.get("torch_dtype") or values.get("dtype"))
        return stored if stored in DTYPES else self.config.param_dtype

    def load(self, mesh: Mesh) -> tuple[Network, Params]:
        """The model without adapters, and its parameters."""
        network = Network.create(self.config)
        if self.run is None:
            return network, load_params(self.path, network, mesh)
        start = Source(str(self.path), self.run["seed"])
        check_start(start, network)
        return merge_adapters(network, combine(*load_start(start, network, mesh)))


def check_same(base: ModelConfig, trained: ModelConfig) -> None:
    """Raises ValueError unless both are the same function of their parameters."""
    first, second = (dataclasses.asdict(config) for config in (base, trained))
    odd = [name for name in first if name not in SETTINGS and first[name] != second[name]]
    if odd:
        listed = ", ".join(f"{name}={first[name]!r} and {second[name]!r}" for name in odd)
        raise ValueError(f"BASE and TRAINED are different models: {listed}.")


def write(options: argparse.Namespace) -> float:
    """Merges and writes; returns the share of entries that differ from the base.

    Raises:
        ValueError: for folders that are no models, or not the same one; an OUT that is not empty.
    """
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise ValueError(f"{options.out} is there already, and not an empty folder.")
    base, trained = Model.at(options.base), Model.at(options.trained)
    check_same(base.config, trained.config)
    mesh = widest_mesh(base.config.width)
    with jax.set_mesh(mesh):
        network, start = base.load(mesh)
        params = merge(
            network,
            start,
            trained.load(mesh)[1],
            keep=options.keep,
            scale=options.scale,
            scope=options.scope,
        )
        share = kept_share(network, start, params)
        source = next((m.path for m in (trained, base) if m.run is None), None)
        save_pretrained(
            options.out,
            network,
            params,
            source=source,
            tokenizer=_tokenizer_folder(trained) if source is None else None,
            dtype=options.dtype or trained.dtype,
            more_config=({} if source else _special_tokens(trained)) | _form_of(options.trained),
        )
    return share


def _tokenizer_folder(model: Model) -> str | None:
    path = model.run["tokenizer"]["path"]
    return path if Path(path).is_dir() else None


def _form_of(trained: str | Path) -> dict[str, Any]:
    """How the trained model is read, where it is a reward model that says so."""
    form = recorded_form(str(trained))
    return {SCORED_AS: form} if form else {}


def _special_tokens(model: Model) -> dict[str, int | None]:
    """The ids of the run's special tokens, by the keys of config.json."""
    settings = model.run["tokenizer"]
    return special_ids(load_tokenizer(settings["path"], tuple(settings["special_tokens"])))


def parser() -> Parser:
    """The parser of all flags."""
    made = Parser(__doc__)
    add = made.add_argument
    for name, text in (
        ("base", "what training started from"),
        ("trained", "what came out of it"),
        ("out", "where the merged model is written"),
    ):
        add(name, type=path, metavar=name.upper(), help=text)
    share, factor = number(0.0, 1.0), number(0.0, 1e6)
    add("--keep", type=share, default=0.25, metavar="SHARE", help="of the entries kept (0.25)")
    add("--scale", type=factor, default=0.7, metavar="FACTOR", help="of what is kept (0.7)")
    add(
        "--scope",
        default="tensor",
        choices=SCOPES,
        help="the share is that of every tensor (default), or of the model as a whole",
    )
    add(
        "--dtype",
        default="",
        choices=DTYPES,
        help="of the written weights (that of TRAINED)",
    )
    return made


def command(options: argparse.Namespace) -> None:
    """Merges, and says how much has changed."""
    check_folder(options.out, "OUT")
    share = write(options)
    print(f"wrote {options.out}; {share:.1%} of the entries differ from {options.base}")


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status (rljax/commands/run.py)."""
    return run(parser(), command, arguments)


if __name__ == "__main__":
    sys.exit(main())
