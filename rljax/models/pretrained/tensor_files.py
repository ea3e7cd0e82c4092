"""The safetensors format: headers first, then parts of tensors on demand; written as a stream.

A file is the length of its header (8 bytes, little endian), the header (JSON: name -> dtype, shape
and the range of its bytes in what follows), and the numbers in row-major order, little endian.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
}
FORMATS = {dtype.name: name for name, dtype in DTYPES.items()}

# Rows that are copied at once.
STRIP = 128


class StoredTensor(NamedTuple):
    """Where a tensor lies."""

    path: Path
    dtype: str  # the format's own name of it
    shape: tuple[int, ...]
    offset: int  # bytes from the start of the file

    def map(self) -> np.ndarray:
        """The tensor as a view of the file: only what is copied from it is read."""
        return np.memmap(self.path, DTYPES[self.dtype], "r", self.offset, self.shape)


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of a checkpoint, from the headers of its files alone.

    Raises:
        ValueError: if there are no such files, one is missing, or one is damaged.
    """
    if (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text())["weight_map"]
        files = [folder / name for name in sorted(set(index.values()))]
        missing = [path.name for path in files if not path.is_file()]
        if missing:
            raise ValueError(f"{folder} lacks {', '.join(missing)}, which {INDEX} names.")
    elif (folder / SINGLE).is_file():
        files = [folder / SINGLE]
    else:
        raise ValueError(_no_files(folder))
    found: dict[str, StoredTensor] = {}
    for path in files:
        found |= read_header(path)
    return found


def _no_files(folder: Path) -> str:
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    if not pickled:
        return f"{folder} holds neither {SINGLE} nor {INDEX}."
    return (
        f"{folder} holds its weights as {pickled[0]} only, which can run code when it is read. "
        "Convert it once with transformers: AutoModelForCausalLM.from_pretrained(FOLDER)"
        ".save_pretrained(NEW_FOLDER) writes safetensors."
    )


def read_header(path: Path) -> dict[str, StoredTensor]:
    """The tensors of one file.

    Raises:
        ValueError: if the file is damaged or shorter than its header says.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            # The format's own limit; a damaged length would otherwise be read into memory.
            header = json.loads(file.read(length)) if length <= 100_000_000 else None
        header.pop("__metadata__", None)
        found = {
            name: StoredTensor(
                path, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0]
            )
            for name, entry in header.items()
        }
        end = 8 + length + max((e["data_offsets"][1] for e in header.values()), default=0)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is not a safetensors file, or damaged.") from error
    if path.stat().st_size < end:
        raise ValueError(f"{path} is cut off: {path.stat().st_size} bytes of {end}.")
    return found


def write_file(
    path: Path, shapes: Mapping[str, tuple[int, ...]], tensors: Iterable[np.ndarray], dtype: str
) -> None:
    """Writes one file.

    Args:
        path: to be made.
        shapes: of each tensor, in order.
        tensors: in the same order, made one by one; only one is held at a time.
        dtype: of all of them, in the format's words; they are cast.
    """
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes.items():
        end = offset + math.prod(shape) * DTYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for (name, shape), tensor in zip(shapes.items(), tensors, strict=True):
            if tensor.shape != shape:
                raise ValueError(f"{name} has shape {tensor.shape}, announced was {shape}.")
            written = np.empty(shape, DTYPES[dtype])
            copy(written, tensor)
            written.tofile(file)


def copy(target: np.ndarray, source: np.ndarray) -> None:
    """target[...] = source in strips of rows, which transposes large matrices in half the time."""
    for start in range(0, len(source), STRIP):
        target[start : start + STRIP] = source[start : start + STRIP]
