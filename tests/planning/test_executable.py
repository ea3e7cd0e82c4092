"""Records of a serialised executable, written here by the format's rules."""

import struct

import pytest

from rljax.planning.executable import BLOCK, BLOCK_HEADER, MAGIC, module_of, records
from rljax.planning.hlo import Program


def varint(number):
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes(found + bytes([number]))


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def chunk(*contents, compression=0, kind="r"):
    sizes = b"".join(varint(len(each)) for each in contents)
    data = bytes([compression]) + varint(len(sizes)) + sizes + b"".join(contents)
    decoded = sum(map(len, contents))
    return struct.pack("<5Q", 0, len(data), 0, len(contents) << 8 | ord(kind), decoded) + data


def file(*chunks):
    """Chunks with a header of a block in front of every 64 KiB."""
    plain, room = b"".join(chunks), BLOCK - BLOCK_HEADER
    header = MAGIC + bytes(BLOCK_HEADER - len(MAGIC))
    return b"".join(header + plain[begin : begin + room] for begin in range(0, len(plain), room))


def module():
    instruction = field(1, b"p") + field(2, b"parameter") + field(35, 7) + field(99, field(2, 1))
    computation = field(1, b"main") + field(2, instruction) + field(5, 3) + field(6, 7)
    notes = field(22, b"none") + field(22, b'{"a": 1}')
    return field(1, b"jit_f") + field(3, computation) + field(6, 3) + notes


def test_records_over_several_blocks():
    contents = [b"a", bytes(range(256)) * 600, b"", b"end"]
    made = file(chunk(*contents[:2]), chunk(*contents[2:]))
    assert len(made) > 2 * BLOCK
    assert list(records(made)) == contents


def test_compressed_chunks_and_those_of_other_kinds_are_passed():
    made = file(chunk(b"x", compression=1), chunk(b"y", kind="t"), chunk(b"z"))
    assert list(records(made)) == [b"z"]


def test_a_module_is_found_behind_other_records_and_in_front_of_settings():
    wanted = field(2, field(1, module()) + field(2, b"settings"))
    made = b"head of another length" + file(chunk(b"\x00\xff"), chunk(wanted), chunk(b"rest"))
    assert module_of(made) == module()


def test_notes_of_an_instruction_are_looked_up_in_those_of_the_module():
    program = Program.read(module())
    assert program.entry.name == "main"
    assert program.entry.instructions[7].backend == '{"a": 1}'


def test_an_executable_of_another_format_is_an_error():
    with pytest.raises(ValueError, match="no file of records"):
        module_of(b"something else")
    with pytest.raises(ValueError, match="holds no program"):
        module_of(file(chunk(b"x")))
