"""Published checkpoints in: each parameter is read straight into its sharding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from rljax.models.config import ModelConfig
from rljax.models.network import Network, Params
from rljax.models.pretrained.checks import read_json
from rljax.models.pretrained.config_json import parse
from rljax.models.pretrained.families import Family
from rljax.models.pretrained.files import ADAPTERS, CONFIG, GENERATION
from rljax.models.pretrained.names import NAMES, Layout, plain_name
from rljax.models.pretrained.tensor_files import (
    DTYPES,
    INDEX,
    SINGLE,
    STRIP,
    StoredTensor,
    check_finite,
    copy,
    stored_tensors,
)
from rljax.remarks import say_once

# How many wrong tensors an error names at most.
LISTED = 20

# Leaves that no published checkpoint holds: adapters, and the bias by which experts are balanced.
OURS_ONLY = ("lora_a", "lora_b", "lora_r", "router_bias")
HEAD = ("head", "head_bias")

# Where the host is the device, XLA does not copy memory that begins at a multiple of this.
ALIGNMENT = 64

ParamPath = tuple[str, ...]  # of a parameter


def is_pretrained(folder: str | Path) -> bool:
    """Whether a folder has a config.json that names a `model_type`; "" is no folder."""
    path = Path(folder) / CONFIG
    return folder != "" and path.is_file() and isinstance(read_json(path).get("model_type"), str)


def read_config(folder: str | Path, **overrides: Any) -> ModelConfig:
    """The model of a checkpoint's folder.

    The precision is that of ModelConfig's defaults, not the file's: say dtype and param_dtype.

    Args:
        folder: with a config.json.
        overrides: ModelConfig fields to set otherwise, such as dtype, remat or lora. With another
            head than the checkpoint's, head="value" for a language model, the trunk is loaded and
            the head is fresh; between value, reward and process_reward the head is loaded.

    What the folder says twice, or what is not read of it, is said once.

    Raises:
        ValueError: for a family or an option that is not supported.
    """
    found = described_with_files(Path(folder))
    for remark in found.remarks:
        say_once(f"{folder}: {remark}")
    try:
        return ModelConfig(**found.fields | overrides)
    except ValueError as error:
        raise ValueError(f"{Path(folder) / CONFIG}: {error}") from error


def stop_token_ids(folder: str | Path) -> tuple[int, ...]:
    """The ids that end a completion, of generation_config.json or else config.json; () if none."""
    for name in (GENERATION, CONFIG):
        path = Path(folder) / name
        ids = read_json(path).get("eos_token_id") if path.is_file() else None
        if ids is None:
            continue
        ids = tuple(ids) if isinstance(ids, list) else (ids,)
        for token in ids:
            if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < 2**31:
                raise ValueError(
                    f"{path}: eos_token_id must be an id or a list of ids >= 0, got {token!r}."
                )
        return ids
    return ()


def load_params(
    folder: str | Path,
    network: Network,
    mesh: Mesh,
    *,
    key: Array | None = None,
    hold: Callable[[ParamPath, Array], Any] = lambda path, leaf: leaf,
) -> Params:
    """Reads the parameters of a checkpoint into `param_dtype` and the network's shardings.

    The host holds no more at a time than its own part of one parameter, and one tensor of a file.

    Args:
        folder: with config.json and model.safetensors, or its parts and their index.
        network: of `read_config(folder, ...)`.
        mesh: to place the parameters on.
        key: draws what the checkpoint does not hold, as `network.init` does: adapters, the head of
            a value or reward model that starts from a language model.
        hold: (path, parameter) -> what takes its place, made before the next one is read, such as a
            quantised matrix; by default the parameter.

    Raises:
        ValueError: if the files are missing or damaged, if any tensor is missing, too much, of the
            wrong shape or type (all are listed, before any is read), or if a key is needed.
    """
    shapes, stored, layouts, fresh = _plan(Path(folder), network)
    shardings = nnx.traversals.flatten_mapping(network.shardings(mesh))
    if fresh and key is None:
        listed = ", ".join(sorted(".".join(path) for path in fresh)[:LISTED])
        raise ValueError(f"load_params needs a key, to draw what no checkpoint holds: {listed}.")
    params = network.draw(key, mesh, fresh)
    for path, layout in layouts.items():
        read = _reader(layout, stored, shapes[path])
        leaf = jax.make_array_from_callback(shapes[path].shape, shardings[path], read)
        params[path] = hold(path, leaf)
        # The host's copy of this parameter is freed before the next one is read.
        jax.block_until_ready(params[path])
    return nnx.traversals.unflatten_mapping({path: params[path] for path in shapes})


def check_tensors(folder: str | Path, network: Network) -> None:
    """Raises the ValueErrors of `load_params` about files and tensors; reads their headers only."""
    _plan(Path(folder), network)


class _Plan(NamedTuple):
    """What is read from where."""

    shapes: dict[ParamPath, jax.ShapeDtypeStruct]  # of all parameters
    stored: dict[str, StoredTensor]
    layouts: dict[ParamPath, Layout]  # of the parameters that are read
    fresh: set[ParamPath]  # of those that are drawn


def _plan(folder: Path, network: Network) -> _Plan:
    found = described(folder)
    names = NAMES[found.family.model_type]
    stored = read_stored(folder, found)
    shapes = nnx.traversals.flatten_mapping(network.shapes)
    fresh = _fresh_paths(shapes, stored, names)
    layouts = {path: names.get(".".join(path)) for path in shapes if path not in fresh}
    _check(folder, layouts, shapes, stored, network.config)
    return _Plan(shapes, stored, layouts, fresh)


class Description(NamedTuple):
    """What a folder says of its model."""

    values: dict[str, Any]  # config.json
    family: Family
    fields: dict[str, Any]  # of a ModelConfig
    remarks: tuple[str, ...]  # choices between two truths, and what is not read


def described(folder: Path) -> Description:
    """What config.json says; errors name the file."""
    path = folder / CONFIG
    if not path.is_file():
        raise ValueError(f"No {CONFIG} in {folder}: it is no Hugging Face checkpoint.")
    values = read_json(path)
    try:
        return Description(values, *parse(values))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def described_with_files(folder: Path) -> Description:
    """The same, where the files of the weights can overrule it.

    Raises:
        ValueError: for what is wrong with them.
    """
    if (folder / ADAPTERS).is_file():
        raise ValueError(
            f"{folder / ADAPTERS}: the folder holds adapters, which transformers would put on the "
            "model that this file names. Merge them once with the library peft: AutoPeftModel"
            "ForCausalLM.from_pretrained(FOLDER).merge_and_unload().save_pretrained(NEW_FOLDER); "
            "or generate.py --model=BASE --adapters=FOLDER. Without them, remove the file."
        )
    found = described(folder)
    single, index = (folder / SINGLE).is_file(), (folder / INDEX).is_file()
    if single and index:
        remark = f"{SINGLE} is read, {INDEX} and its files are not, as in transformers."
        found = found._replace(remarks=(*found.remarks, remark))
    if (single or index) and _has_own_output(folder, found):
        remark = (
            f"{CONFIG} says that embedding and output are one matrix (tie_word_embeddings), but "
            "the file has two that differ: each is read, as in transformers."
        )
        fields = found.fields | {"tied_embeddings": False}
        found = found._replace(fields=fields, remarks=(*found.remarks, remark))
    return found


def _has_own_output(folder: Path, found: Description) -> bool:
    """Whether the file of a language model that should be tied has another output matrix."""
    fields, names = found.fields, NAMES[found.family.model_type]
    if not fields["tied_embeddings"] or fields.get("head", "language_model") != "language_model":
        return False
    stored = read_stored(folder, found)
    embedding, output = (stored.get(names[name].name) for name in ("embedding", "output"))
    if embedding is None or output is None or output.dtype not in DTYPES:
        return False
    if (embedding.dtype, embedding.shape) != (output.dtype, output.shape):
        return True
    one, other = embedding.map(), output.map()
    return not all(
        np.array_equal(one[start : start + STRIP], other[start : start + STRIP])
        for start in range(0, len(one), STRIP)
    )


def read_stored(folder: Path, found: Description) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint by their plain names, without those that nothing reads."""
    vision = found.values["model_type"] == "gemma3"
    plain = {
        plain_name(name, vision=vision): tensor for name, tensor in stored_tensors(folder).items()
    }
    plain.pop(None, None)
    return plain


def _fresh_paths(
    shapes: dict[ParamPath, Any], stored: dict[str, StoredTensor], names: dict[str, Layout]
) -> set[ParamPath]:
    """The parameters that are drawn, not read."""
    fresh = {path for path in shapes if path[-1] in OURS_ONLY}
    if "head" not in names or names["head"].name not in stored:
        fresh |= {path for path in shapes if path[-1] in HEAD}
    return fresh


def _check(
    folder: Path,
    layouts: dict[ParamPath, Layout | None],
    shapes: dict[ParamPath, jax.ShapeDtypeStruct],
    stored: dict[str, StoredTensor],
    config: ModelConfig,
) -> None:
    """Raises ValueError unless the checkpoint holds exactly the parameters that are read."""
    wrong, expected = [], {}
    for path, layout in layouts.items():
        if layout is None:
            wrong.append(f"{'.'.join(path)}: this family has no such parameter")
            continue
        shape = shapes[path].shape
        for index in np.ndindex(shape[: layout.stacked]):
            expected[layout.name.format(*index)] = layout.file_shape(shape, config)
    for name, shape in expected.items():
        tensor = stored.get(name)
        if tensor is None:
            wrong.append(f"{name}: missing, expected {list(shape)}")
        elif tensor.shape != shape:
            wrong.append(f"{name}: has shape {list(tensor.shape)}, expected {list(shape)}")
        elif tensor.dtype not in DTYPES:
            wrong.append(f"{name}: is {tensor.dtype}, supported are {', '.join(DTYPES)}")
    spare = _unused_output(config)
    wrong += [
        f"{name}: not expected, has shape {list(tensor.shape)}"
        for name, tensor in stored.items()
        if name not in expected and name not in spare
    ]
    if wrong:
        more = f"\n  and {len(wrong) - LISTED} more" if len(wrong) > LISTED else ""
        listed = "\n  ".join(wrong[:LISTED])
        raise ValueError(
            f"{len(wrong)} tensors of {folder} are not those of this model:\n  {listed}{more}"
        )


def _unused_output(config: ModelConfig) -> tuple[str, ...]:
    """Output matrices that some files hold beside the one that is read, or instead of a head."""
    if config.head == "language_model" and not config.tied_embeddings:
        return ()
    return tuple({names["output"].name for names in NAMES.values()})


def _reader(
    layout: Layout, stored: dict[str, StoredTensor], leaf: jax.ShapeDtypeStruct
) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """Reads the part of a parameter that one device holds; devices that hold the same share it."""
    parts: dict[tuple[tuple[int, int, int], ...], np.ndarray] = {}
    stacked, inner = layout.stacked, leaf.shape[layout.stacked :]

    def read(index: tuple[slice, ...]) -> np.ndarray:
        bounds = tuple(part.indices(size) for part, size in zip(index, leaf.shape, strict=True))
        if bounds not in parts:
            parts[bounds] = assemble([slice(start, stop) for start, stop, _ in bounds])
        return parts[bounds]

    def assemble(part: list[slice]) -> np.ndarray:
        shape = tuple(cut.stop - cut.start for cut in part)
        whole = _aligned(shape, leaf.dtype)
        slices = layout.file_slices(tuple(part[stacked:]), inner)
        for place in np.ndindex(shape[:stacked]):
            at = (cut.start + step for cut, step in zip(part, place, strict=False))
            name = layout.name.format(*at)
            tensor = stored[name].map()[slices]
            target = layout.in_file_order(whole[place])
            target[len(tensor) :] = 0  # rows of the vocabulary that pad it
            copy(target[: len(tensor)], tensor)
            check_finite(name, stored[name].path, target)
        return whole

    return read


def _aligned(shape: tuple[int, ...], dtype: jnp.dtype) -> np.ndarray:
    """Memory for an array, at an address that XLA can use as it is."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
