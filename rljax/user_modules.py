"""Files of the user (rewards, configs), imported as the modules that they are.

A file may import its neighbours, hold dataclasses and be pickled, here and in scoring processes.
Its folder stands at the *end* of `sys.path`: a user's `json.py` or `math.py` hides nobody's module.
Its own name in `sys.modules` is its stem, or its dotted name inside of a package; where that name
is another module's, it gets a name of its own. `__file__` is absolute. Relative data paths are
relative to the folder that the command was started in, as in any Python program; a path beside the
file is `Path(__file__).parent / "data.txt"`.

Folders are remembered for the whole process. Where two of them hold a module of the same name, the
file that is imported later gets its own neighbour.
"""

import contextlib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from rljax.errors import reason

# Folders of the user's files, the latest first; those that `sys.path` did not have before.
_folders: list[str] = []
_added: list[str] = []
_LIBRARIES = (Path(__file__).parent, sysconfig.get_paths()["stdlib"])


def import_file(path: str | Path, *, field: str, again: bool = False) -> ModuleType:
    """Imports a Python file.

    Args:
        path: of the file, relative to the working directory or absolute.
        field: the config field or flag that named it, for errors.
        again: run the file also where it was imported before; its neighbours stay as they are.

    Raises:
        ValueError: no such file, no Python file, or an error in it: file, line and what it says.
    """
    file = Path(path).resolve()
    if not file.is_file():
        raise ValueError(f"No file {str(path)!r} (from {str(Path.cwd())!r}) ({field}).")
    if file.suffix != ".py":
        raise ValueError(f"{str(path)!r} is no Python file, FILE.py ({field}).")
    with errors_located(str(file), field=field):
        name = _name_of(file)
        known = sys.modules.get(name)
        if known is not None and not again:
            return known
        return _run(name, file)


def import_dotted(name: str, *, field: str) -> ModuleType:
    """Imports a module by its dotted name, from `sys.path` and the working directory.

    Raises:
        ValueError: there is none, or an error in it.
    """
    with errors_located(f"module {name!r}", field=field):
        _make_importable([str(Path.cwd())])
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            _remember([str(Path(spec.origin).parent)])
        return importlib.import_module(name)


def trainer_path() -> list[str]:
    """`sys.path` for another process that imports the same files: absolute, without their folders.

    It puts them at the end itself, as this process did.
    """
    return [path or str(Path.cwd()) for path in sys.path if path not in _added]


@contextlib.contextmanager
def errors_located(
    what: str, *, field: str, leave: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Turns whatever a user's code raises into one ValueError that names file and line.

    Args:
        what: is named where no line of the user's is at fault.
        field: the config field or flag that named the code.
        leave: exceptions that pass as they are.

    Raises:
        ValueError: instead of any other exception; also of `sys.exit`, which would end the run
            silently.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the run's own output stays clean
            yield
    except leave:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit):
            said = f"it calls sys.exit({error.code!r})"
        else:
            said = f"{type(error).__name__}: {_message(error)}"
        raise ValueError(f"{place_of(error) or what}: {said} ({field}).") from error


def place_of(error: BaseException) -> str:
    """Where an exception comes from: "FILE, line N" of the deepest line of the user's, or ""."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_users(f.filename)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def _message(error: BaseException) -> str:
    """What it says; of a SyntaxError without the place, which is said before."""
    return error.msg if isinstance(error, SyntaxError) else reason(error)


def _is_users(file: str) -> bool:
    """Whether a file is in a folder of the user, and no library that happens to be below it."""
    path = Path(file)
    if "site-packages" in path.parts or any(map(path.is_relative_to, _LIBRARIES)):
        return False
    return any(map(path.is_relative_to, _folders))


def _name_of(file: Path) -> str:
    """The name in `sys.modules` of a file, whose folder becomes importable."""
    root, parts = file.parent, [file.stem]
    while (root / "__init__.py").is_file():  # inside of a package
        parts.insert(0, root.name)
        root = root.parent
    if file.stem == "__init__":
        parts.pop()
    _make_importable([str(file.parent), str(root)])
    name = ".".join(parts)
    importlib.invalidate_caches()
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a name that the import system keeps for itself
        spec = None
    if spec is not None and spec.origin and Path(spec.origin).resolve() == file:
        return name
    return f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"


def _make_importable(folders: list[str]) -> None:
    """Puts folders of the user behind all others, before those of earlier files."""
    others = [path for path in sys.path if path not in _added]
    mine = [folder for folder in dict.fromkeys(folders) if folder not in others]
    _added[:] = [*mine, *(folder for folder in _added if folder not in mine)]
    sys.path[:] = [*others, *_added]
    _remember(folders)
    hidden = {
        name
        for name, module in list(sys.modules.items())
        if _folder_of(module) in set(_folders) - set(folders) and _holds(folders, name)
    }
    for name in [name for name in sys.modules if name.partition(".")[0] in hidden]:
        del sys.modules[name]  # who has imported it keeps it


def _remember(folders: list[str]) -> None:
    _folders[:] = [*folders, *(folder for folder in _folders if folder not in folders)]


def _folder_of(module: ModuleType) -> str | None:
    """The folder in `sys.path` that a top-level module is from, unless it is our own."""
    file = getattr(module, "__file__", None)
    if file is None or module.__name__ == __package__:
        return None
    path = Path(file)
    return str(path.parent.parent if path.name == "__init__.py" else path.parent)


def _holds(folders: list[str], name: str) -> bool:
    return any(importlib.machinery.PathFinder.find_spec(name, [folder]) for folder in folders)


def _run(name: str, file: Path) -> ModuleType:
    """Runs a file as the module of that name; a file that fails leaves no module."""
    spec = importlib.util.spec_from_file_location(name, file)
    module, before = importlib.util.module_from_spec(spec), sys.modules.get(name)
    sys.modules[name] = module
    try:
        # From the source: a compiled file is taken for new if it was written in the same second.
        code = spec.loader.source_to_code(spec.loader.get_data(str(file)), str(file))
        exec(code, module.__dict__)
    except BaseException:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        raise
    return sys.modules[name]
