"""The docstring of a room is a map: it names each of its files and rooms, and nothing else."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rljax"
ROOMS = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
# `file.py`, `room/`, or either with a path before it.
NAME = re.compile(r"(?<![\w/.])(?:\w+/)*(?:\w+\.py|\w+/)(?!\w)")


def named(room: Path) -> set[str]:
    """The files and folders that the docstring of a room names."""
    docstring = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    return set(NAME.findall(docstring))


def inside(room: Path) -> set[str]:
    """The files and rooms that lie in a room."""
    files = {path.name for path in room.glob("*.py")} - {"__init__.py"}
    return files | {f"{path.parent.name}/" for path in room.glob("*/__init__.py")}


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(ROOT)))
def test_a_room_maps_its_files(room):
    names = named(room)
    missing = sorted(inside(room) - names)
    assert not missing, f"{room.relative_to(ROOT)}/__init__.py does not name {', '.join(missing)}"
    # A name with a path counts from the room, from rljax/ or from the root of the repository.
    gone = sorted(n for n in names if not any((f / n).exists() for f in (room, PACKAGE, ROOT)))
    assert not gone, f"{room.relative_to(ROOT)}/__init__.py names {', '.join(gone)}: not there"


def test_names_are_found_in_lists_and_tables():
    text = "a.py    one\n| `b/` | two |\nc.py, d.py\n`objectives/parts.py` x.pyc 1/2 RUNS/STAGE"
    assert NAME.findall(text) == ["a.py", "b/", "c.py", "d.py", "objectives/parts.py"]
