"""The safetensors format: headers first, then parts of tensors on demand; written as a stream.

A file is the length of its header (8 bytes, little endian), the header (JSON: name -> dtype, shape
and the range of its bytes in what follows), and the numbers in row-major order, little endian.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rljax.errors import reason
from rljax.models.pretrained.checks import read_json
from rljax.models.pretrained.files import check_inside

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
}
FORMATS = {dtype.name: name for name, dtype in DTYPES.items()}

# Bits of an element, of every type that the format has.
BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}
# The format's own limit of a header; a damaged length would otherwise be read into memory.
HEADER_BYTES = 100_000_000

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

    A single file comes before an index, as in transformers.

    Raises:
        ValueError: if there are no such files, one is missing or damaged, or two hold one tensor.
    """
    if (folder / SINGLE).is_file():
        return read_header(folder / SINGLE)
    if not (folder / INDEX).is_file():
        raise ValueError(_no_files(folder))
    index = read_index(folder)
    found: dict[str, StoredTensor] = {}
    for name in sorted(set(index.values())):
        tensors = read_header(folder / name)
        for twice in found.keys() & tensors.keys():
            raise ValueError(f"{folder}: {found[twice].path.name} and {name} both hold {twice}.")
        found |= tensors
    for tensor, name in index.items():
        if tensor not in found or found[tensor].path.name != name:
            raise ValueError(f"{folder / INDEX} looks for {tensor} in {name}, which lacks it.")
    return found


def read_index(folder: Path) -> dict[str, str]:
    """The index of a checkpoint in several files: tensor -> name of a file in the folder.

    Raises:
        ValueError: unless it names files of this folder, all of which are there.
    """
    path = folder / INDEX
    index = read_json(path).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise ValueError(f"{path}: weight_map must be an object, tensor -> file, got {index!r}.")
    for tensor, name in index.items():
        if not _is_file_name(name):
            raise ValueError(
                f"{path}: weight_map names {name!r} for {tensor}; allowed are names of files in "
                "this folder, without a path."
            )
    names = sorted(set(index.values()))
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}, which {INDEX} names.")
    for name in names:
        check_inside(folder, folder / name)
    return index


def _is_file_name(name: Any) -> bool:
    """Whether it is a name without a path, of a length that file systems know."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and not set(name) & set("/\\\0")
        and len(name.encode("utf-8", "replace")) <= 255
    )


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
        ValueError: if the file is damaged or shorter than its header says, or if the header lies:
            the bytes of the tensors must follow each other without holes, and be as many as their
            shapes and types say.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(HEADER_BYTES, size - 8):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length), object_pairs_hook=_no_name_twice)
        if not isinstance(header, dict):
            raise ValueError(f"the header is a {type(header).__name__}, not an object")
        header.pop("__metadata__", None)
        ranges = {name: _range(name, entry) for name, entry in header.items()}
        end = _end(ranges)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not a safetensors file, or damaged: {reason(error)}."
        ) from error
    start = 8 + length
    if size < start + end:
        raise ValueError(f"{path} is cut off: {size} bytes of {start + end}.")
    if size > start + end:
        raise ValueError(
            f"{path} goes on after its last tensor: {size} bytes instead of {start + end}."
        )
    return {
        name: StoredTensor(path, entry["dtype"], tuple(entry["shape"]), start + ranges[name][0])
        for name, entry in header.items()
    }


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {twice!r} is there twice")
    return found


def _range(name: str, entry: Any) -> tuple[int, int]:
    """Where the bytes of a tensor begin and end, checked against its shape and type."""
    if not isinstance(entry, dict):
        raise ValueError(f"{name} is described by {entry!r}, not by an object")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in BITS:
        raise ValueError(f"{name} has the dtype {dtype!r}, which the format does not have")
    if not _are_counts(shape):
        raise ValueError(f"{name} has the shape {shape!r}; whole numbers >= 0 are allowed")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{name} has the data_offsets {offsets!r}; allowed is 0 <= begin <= end")
    needed, given = math.prod(shape) * BITS[dtype], offsets[1] - offsets[0]
    if needed != 8 * given:
        raise ValueError(
            f"{name} has {given} bytes, but {dtype} of shape {shape} takes {needed / 8:.0f}"
        )
    return offsets[0], offsets[1]


def _are_counts(values: Any) -> bool:
    """Whether it is a list of whole numbers >= 0, none of them too large for a file."""
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**60
        for value in values
    )


def _end(ranges: Mapping[str, tuple[int, int]]) -> int:
    """Where the last tensor ends; each must begin where the one before it ends."""
    end = 0
    for name, (begin, stop) in sorted(ranges.items(), key=lambda item: item[1]):
        if begin != end:
            what = "overlaps the tensor before it" if begin < end else "leaves a hole before it"
            raise ValueError(f"{name} begins at byte {begin}, which {what}")
        end = stop
    return end


def check_finite(name: str, path: Path, values: np.ndarray) -> None:
    """Raises ValueError where a weight is no finite number; float32 and bfloat16 only."""
    # All ones in the exponent: infinity or NaN. Compared as integers, which is fast in any type.
    kind, ones = (np.uint32, 0x7F800000) if values.dtype.itemsize == 4 else (np.uint16, 0x7F80)
    for start in range(0, len(values), STRIP):
        strip = values[start : start + STRIP]
        wrong = (strip.view(kind) & ones) == ones
        if wrong.any():
            row = start + int(np.argwhere(wrong)[0][0])
            value = strip[tuple(np.argwhere(wrong)[0])]
            raise ValueError(
                f"{path}: {name} holds {float(value)} in row {row}; weights must be finite."
            )


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
