"""The program inside of a serialised executable for TPUs.

jaxlib hands a compiled program out as a module that it builds anew, which it refuses where an async
update has several operands. The serialised executable holds the same module as the compiler wrote
it: a file of records in Riegeli's format (https://github.com/google/riegeli, riegeli/records).
"""

import struct
from collections.abc import Iterator

from rljax.planning.wire import Message, varint

# What a file of records begins with: a block header, whose first hash is that of an empty chunk.
MAGIC = bytes.fromhex("83af70d10d884a3f")
BLOCK, BLOCK_HEADER, CHUNK_HEADER = 1 << 16, 24, 40
SIMPLE, UNCOMPRESSED = ord("r"), 0


def module_of(serialised: bytes) -> bytes:
    """The HloModuleProto in a serialised executable.

    Raises:
        ValueError: if none is found, as where another version writes another format.
    """
    start = serialised.find(MAGIC)
    if start < 0:
        raise ValueError("The compiler's executable is no file of records: its program is unread.")
    for record in records(serialised[start:]):
        module = _module(record)
        if module:
            return module
    raise ValueError("The compiler's executable holds no program that can be read.")


def records(file: bytes) -> Iterator[bytes]:
    """The records of a file in Riegeli's format, those of compressed chunks left out."""
    place = 0
    plain = _without_block_headers(file)
    while place + CHUNK_HEADER <= len(plain):
        _, size, _, kind, decoded = struct.unpack_from("<5Q", plain, place)
        kind, count = kind & 0xFF, kind >> 8
        chunk = plain[place + CHUNK_HEADER : place + CHUNK_HEADER + size]
        # A chunk takes at least as much room as it has records, and the blocks that begin in it.
        place += CHUNK_HEADER + max(size, count)
        if kind == SIMPLE and chunk and chunk[0] == UNCOMPRESSED:
            yield from _simple(chunk, count, decoded)


def _without_block_headers(file: bytes) -> bytes:
    return b"".join(
        file[begin + BLOCK_HEADER : begin + BLOCK] for begin in range(0, len(file), BLOCK)
    )


def _simple(chunk: bytes, count: int, decoded: int) -> Iterator[bytes]:
    """Records of a simple chunk: their sizes, then their bytes."""
    length, sizes = varint(chunk, 1)
    place = sizes + length
    if len(chunk) - place != decoded:
        raise ValueError("A chunk of the compiler's executable ends inside of a record.")
    for _ in range(count):
        size, sizes = varint(chunk, sizes)
        yield chunk[place : place + size]
        place += size


def _module(record: bytes) -> bytes:
    """The module of a record that is one with its settings; b"" for any other record."""
    try:
        content = Message(record).message(2).content(1)
        module = Message(content)
    except ValueError:
        return b""
    # A name, computations, and which of them is the entry.
    return content if module.has(1) and module.has(3) and module.has(6) else b""
