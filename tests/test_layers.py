"""Lower rooms never import upper ones."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rljax"

# Files that every room may import; they import no room.
EVERYWHERE = {"errors", "remarks", "user_modules"}
# Room -> the rooms that it may import besides itself and those files.
ROOMS = {
    "commands": set(),
    "objectives": set(),
    "models": {"parallel"},
    "parallel": set(),
    "processes": {"commands"},
    "pods": {"processes", "commands"},
    "laboratory": {"objectives"},
    "sampling": {"models", "parallel"},
    "serving": {"environments", "models", "parallel", "sampling", "data"},
    "tasks": set(),
    "verifiers": {"tasks"},
    "rewards": {"tasks", "processes", "commands"},
    "data": {"tasks"},
    "environments": {"data", "rewards", "processes"},
    "reporting": set(),
    "registry": {"objectives"},
    "config": {
        *("registry", "objectives", "sampling", "models", "parallel", "processes", "rewards"),
        "data",
    },
    "training": {
        *("objectives", "models", "parallel", "sampling", "tasks", "verifiers", "rewards", "data"),
        *("reporting", "registry", "config", "processes", "environments", "serving"),
    },
    "comparison": {
        *(
            "objectives",
            "models",
            "parallel",
            "tasks",
            "reporting",
            "registry",
            "config",
            "training",
        ),
        *("commands", "processes", "pods"),
    },
    "benchmarks": {
        *("models", "parallel", "rewards", "data", "registry", "config", "sampling", "training"),
        *("reporting", "serving"),
    },
    "chaos": {"reporting", "training"},
    "planning": {
        *("models", "parallel", "data", "sampling", "config", "commands", "training"),
        *("reporting", "benchmarks"),
    },
}
# These files run without the package, and know their neighbours alone.
ALONE = PACKAGE / "rewards" / "code" / "inside"
DEVICE = {"jax", "flax", "optax", "orbax", "chex"}
# Room -> packages from outside that it must do without.
WITHOUT = {
    "commands": DEVICE | {"grain"},
    "pods": DEVICE | {"grain"},
    "tasks": DEVICE | {"grain"},
    "rewards": DEVICE | {"grain"},
    "data": DEVICE,
    "environments": DEVICE | {"grain"},
    "reporting": DEVICE | {"grain"},
    "verifiers": {"flax", "optax", "orbax", "grain"},
    "parallel": {"flax", "optax", "orbax", "grain"},
    "models": {"optax", "orbax", "grain"},
    "sampling": {"optax", "orbax", "grain"},
    "serving": {"environments", "flax", "optax", "orbax", "grain"},
    "registry": {"jax", "flax", "optax", "orbax"},
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports_of(path: Path) -> set[str]:
    """Full names of all modules that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if path.parent == ALONE and node.level == 1:
                continue  # of a neighbour
            assert node.level == 0, f"{path}: relative imports hide the room"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(path: Path) -> str:
    """The folder or file right below rljax/."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_imported(path: Path) -> set[str]:
    names = {name.split(".")[1] for name in imports_of(path) if name.startswith("rljax.")}
    return names - {"__version__", *EVERYWHERE, room_of(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_lower_rooms_only(path):
    if room_of(path) in EVERYWHERE:
        assert not rooms_imported(path)
        return
    assert rooms_imported(path) <= ROOMS[room_of(path)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_do_without_packages_of_other_rooms(path):
    packages = {name.split(".")[0] for name in imports_of(path)}
    assert not packages & WITHOUT.get(room_of(path), set())
    if room_of(path) == "objectives":
        assert packages <= {"jax", "chex", "rljax", *sys.stdlib_module_names}


def test_there_is_no_cycle_of_rooms():
    order: list[str] = []
    while len(order) < len(ROOMS):
        ready = [room for room in ROOMS if room not in order and ROOMS[room] <= set(order)]
        assert ready, "the rooms left over import each other"
        order += ready
    assert order[-5:] == ["training", "comparison", "benchmarks", "chaos", "planning"]


# Rooms of training/, each of which imports those before it.
FLOORS = (
    *("update", "learner", "run", "collect", "pair_evaluation", "win_rate"),
    *("data_selection", "test_time"),
    *("families", "ahead", "device_loop", "self_check"),
)


@pytest.mark.parametrize("floor", FLOORS)
def test_rooms_of_training_import_lower_ones_only(floor):
    allowed = set(FLOORS[: FLOORS.index(floor) + 1])
    for path in sorted((PACKAGE / "training" / floor).rglob("*.py")):
        names = {n.split(".")[2] for n in imports_of(path) if n.startswith("rljax.training.")}
        assert names <= allowed, path


def test_the_rooms_of_training_are_all_ordered():
    rooms = {path.parent.name for path in (PACKAGE / "training").glob("*/__init__.py")}
    assert rooms == set(FLOORS)


def test_there_is_no_cycle_of_files():
    modules = {
        str(path.relative_to(ROOT)).removesuffix(".py").replace("/", "."): path for path in FILES
    }
    graph = {}
    for name, path in modules.items():
        imported = imports_of(path)
        graph[name] = {
            other
            for other in modules
            if other in {*imported, *(i.rpartition(".")[0] for i in imported)}
        } - {name}
    order: set[str] = set()
    while len(order) < len(graph):
        ready = {name for name, needs in graph.items() if name not in order and needs <= order}
        assert ready, f"a cycle within {sorted(set(graph) - order)}"
        order |= ready


def test_config_files_know_nothing_but_the_config_type_and_their_neighbours():
    """Recipes also read their arguments as the package does."""
    allowed = {"ml_collections", *sys.stdlib_module_names}
    for path in sorted(ROOT.joinpath("configs").rglob("*.py")):
        neighbours = {file.stem for file in path.parent.glob("*.py")}
        names = imports_of(path) - {"rljax.config.recipe_arguments.read_arguments"}
        if path.parent.name == "sweeps":  # these are written with helpers
            names = {n for n in names if not n.startswith("rljax.comparison.sweeps.")}
        assert {name.split(".")[0] for name in names} <= allowed | neighbours, path


def test_files_and_functions_stay_short():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 500, path
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                docstring = ast.get_docstring(node, clean=False) or ""
                length = node.end_lineno - node.lineno + 1 - len(docstring.splitlines())
                assert length <= 60, f"{path}: {node.name} has {length} lines"
