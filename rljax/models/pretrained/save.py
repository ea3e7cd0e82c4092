"""Parameters out, as a folder that transformers' from_pretrained loads."""

import collections
import functools
import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.experimental import multihost_utils

from rljax.models.config import DTYPES, ModelConfig
from rljax.models.network import Network, Params
from rljax.models.pretrained.checks import SCORED_AS
from rljax.models.pretrained.config_json import config_values, fitting_family, misfits
from rljax.models.pretrained.families import Family
from rljax.models.pretrained.files import CONFIG, carried_files
from rljax.models.pretrained.load import described
from rljax.models.pretrained.names import NAMES, Layout
from rljax.models.pretrained.tensor_files import FORMATS, INDEX, SINGLE, write_file

MAX_SHARD_BYTES = 5 * 10**9

# Keys of a source's config.json that ours replace under another name.
REPLACED = ("rope_parameters", "dtype", "num_local_experts", "num_labels", SCORED_AS)

# Keys that a config.json with a text part has outside of it.
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


class Piece(NamedTuple):
    """One tensor to be written."""

    name: str
    shape: tuple[int, ...]
    path: tuple[str, ...]  # of our parameter
    index: tuple[int, ...]  # of its stacked axes


def save_pretrained(
    folder: str | Path,
    network: Network,
    params: Params,
    *,
    source: str | Path | None = None,
    tokenizer: str | Path | None = None,
    also: Path | None = None,
    dtype: str = "",
    max_shard_bytes: int = MAX_SHARD_BYTES,
    more_config: dict[str, Any] | None = None,
) -> None:
    """Writes a checkpoint folder, which appears once it is complete; all processes must call this.

    The host holds one layer of one parameter at a time.

    Args:
        folder: to be made; may exist if it is empty.
        network: without adapters.
        params: in any sharding.
        source: a folder of the same family: its config.json is kept where this model says nothing
            else, and what else it holds is copied (files.py). None: the first family that has the
            model's options.
        tokenizer: a folder whose tokenizer is copied instead of the source's.
        also: a folder whose files are copied, in the place of any of the same name.
        dtype: "float32" or "bfloat16"; that of the parameters by default.
        max_shard_bytes: a file is no larger, unless a single tensor is.
        more_config: keys to add to config.json, such as eos_token_id.

    Raises:
        ValueError: if the folder is not empty, there are adapters, no family fits, or a file to be
            carried is a link out of its folder.
    """
    folder, config = Path(folder).absolute(), network.config
    dtype = dtype or config.param_dtype
    _check_arguments(folder, config, dtype)
    source = None if source is None else Path(source)
    family, values = _config_json(config, source)
    values |= {"torch_dtype": dtype} | (more_config or {})
    names = NAMES[family.model_type]
    files = _plan(_pieces(network, names), jnp.dtype(dtype).itemsize, max_shard_bytes)
    carried = carried_files(source, source if tokenizer is None else Path(tokenizer))
    carried |= {path.name: path for path in also.iterdir()} if also is not None else {}
    partial = folder.with_name(f".{folder.name}.partial")
    writes = jax.process_index() == 0  # the others take part in gathering
    if writes:
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        partial.mkdir(parents=True)
    try:
        for name, members in files.items():
            tensors = map(_fetcher(params, names), members)
            if writes:
                shapes = {piece.name: piece.shape for piece in members}
                write_file(partial / name, shapes, tensors, FORMATS[dtype])
            else:
                collections.deque(tensors, maxlen=0)  # runs through them, keeps none
        if writes:
            _write_rest(partial, values, files, carried)
            partial.rename(folder)
    except BaseException:
        if writes:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"saved {folder}")


def _check_arguments(folder: Path, config: ModelConfig, dtype: str) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"Unknown dtype {dtype!r}; known: {', '.join(DTYPES)}.")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already, and not an empty folder.")
    if config.lora is not None:
        raise ValueError(
            "A network with adapters has no place in a standard checkpoint: merge them into the "
            "base first, or save them as adapters (config.model.lora)."
        )


def _config_json(config: ModelConfig, source: Path | None) -> tuple[Family, dict[str, Any]]:
    """The family that is written, and its config.json over that of the source."""
    if source is None:
        family = fitting_family(config)
        return family, config_values(config, family)
    values, family, _, _ = described(source)
    reasons = misfits(config, family)
    if reasons:
        raise ValueError(f"This model is not of the family of {source}: {'; '.join(reasons)}.")
    if "text_config" in values:  # a vision tower is not written
        values = values["text_config"] | {key: values[key] for key in TOKENS if key in values}
    kept = {key: value for key, value in values.items() if key not in REPLACED}
    return family, kept | config_values(config, family)


def _pieces(network: Network, names: dict[str, Layout]) -> list[Piece]:
    """All tensors, layer by layer."""
    pieces = []
    for path, leaf in nnx.traversals.flatten_mapping(network.shapes).items():
        layout = names[".".join(path)]
        shape = layout.file_shape(leaf.shape, network.config)
        pieces += [
            Piece(layout.name.format(*index), shape, path, index)
            for index in np.ndindex(leaf.shape[: layout.stacked])
        ]
    # Stable: within a layer the experts of one parameter stay together.
    return sorted(pieces, key=lambda piece: piece.index[:1])


def _plan(pieces: list[Piece], item_size: int, max_bytes: int) -> dict[str, list[Piece]]:
    """Which file holds which tensors, in order."""
    groups: list[list[Piece]] = [[]]
    size = 0
    for piece in pieces:
        own = math.prod(piece.shape) * item_size
        if groups[-1] and size + own > max_bytes:
            groups.append([])
            size = 0
        groups[-1].append(piece)
        size += own
    if len(groups) == 1:
        return {SINGLE: groups[0]}
    count = len(groups)
    return {f"model-{i:05}-of-{count:05}.safetensors": g for i, g in enumerate(groups, 1)}


def _fetcher(params: Params, names: dict[str, Layout]) -> Callable[[Piece], np.ndarray]:
    """Brings a tensor to the host in the file's layout."""
    flat = nnx.traversals.flatten_mapping(params)

    # Experts of one layer come one after the other: they are brought over together.
    @functools.lru_cache(maxsize=1)
    def layer(path: tuple[str, ...], index: tuple[int, ...]) -> np.ndarray:
        leaf = _take_layer(flat[path], index[0]) if index else flat[path]
        if not leaf.is_fully_addressable:
            return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
        return np.asarray(leaf)

    def fetch(piece: Piece) -> np.ndarray:
        array = layer(piece.path, piece.index[:1])[piece.index[1:]]
        # The rows that pad the vocabulary are not written.
        return names[".".join(piece.path)].in_file_order(array)[: piece.shape[0]]

    return fetch


@jax.jit
def _take_layer(leaf: Array, index: int) -> Array:
    return leaf[index]


def _write_rest(
    folder: Path,
    values: dict[str, Any],
    files: dict[str, list[Piece]],
    carried: Mapping[str, Path],
) -> None:
    """config.json, the index of several files, and what is carried along."""
    (folder / CONFIG).write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
    if len(files) > 1:
        names = {piece.name: file for file, pieces in files.items() for piece in pieces}
        numbers = sum(math.prod(piece.shape) for pieces in files.values() for piece in pieces)
        total = numbers * jnp.dtype(values["torch_dtype"]).itemsize
        index = {"metadata": {"total_size": total}, "weight_map": names}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    for name, path in carried.items():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(path, folder / name)
