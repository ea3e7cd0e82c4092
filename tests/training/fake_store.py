"""An object store for the tests: gs:// paths that lie in a folder, through etils' fsspec code.

What a store has not, this one has not either: empty folders, and renaming. Arrays, which
tensorstore writes by its own client, go to the same folder.
"""

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from etils.epath import backend, gpath
from orbax.checkpoint._src.path import gcs_utils

from rljax.training.run import storage


class WholeObject(io.BytesIO):
    """What is written appears when it is closed, and not in part."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def close(self) -> None:
        if not self.closed:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=os.path.dirname(self.path), delete=False) as file:
                file.write(self.getvalue())
            os.replace(file.name, self.path)
        super().close()


class FakeStore(backend._FileSystemSpecBackend):
    """The backend of gs:// paths."""

    def __init__(self, root: Path) -> None:
        self.root, self.files = root, fsspec.filesystem("file")

    def real(self, path) -> str:
        return os.path.join(self.root, os.fspath(path).removeprefix("gs://").rstrip("/"))

    def fs(self, path):
        return self

    # What etils asks of fsspec, with gs:// paths.
    def open(self, path, mode="r"):
        if "w" not in mode:
            return open(self.real(path), mode)
        made = WholeObject(self.real(path))
        return made if "b" in mode else io.TextIOWrapper(made, encoding="utf-8")

    def exists(self, path):
        return os.path.isfile(self.real(path)) or self.isdir(path)

    def isdir(self, path):
        return any(names for _, _, names in os.walk(self.real(path)))

    def listdir(self, path, detail=False):
        if not self.isdir(path):
            raise FileNotFoundError(path)
        here = sorted(os.listdir(self.real(path)))
        return [name for name in here if self.exists(f"{os.fspath(path)}/{name}")]

    def glob(self, path):
        found = self.files.glob(self.real(path))
        return [f"gs://{os.path.relpath(name, self.root)}" for name in sorted(found)]

    def walk(self, top, *, top_down=True, on_error=None):
        for folder, folders, names in os.walk(self.real(top)):
            yield f"gs://{os.path.relpath(folder, self.root)}", folders, names

    def makedirs(self, path, *, exist_ok=False, mode=None):
        pass

    def mkdir(self, path, *, exist_ok=False, mode=None):
        pass

    def rmtree(self, path):
        self.files.rm(self.real(path), recursive=True)

    def remove(self, path):
        os.remove(self.real(path))

    def rename(self, path, dst):
        raise AssertionError(f"a store renames nothing: {path} to {dst}")

    replace = rename

    def stat(self, path):
        return super().stat(path)

    def info(self, path):
        return self.files.info(self.real(path))


@contextlib.contextmanager
def fake_store(root: Path) -> Iterator[Path]:
    """Meanwhile gs://NAME is the folder root/NAME."""
    store = FakeStore(root)

    def kvstore(path: str) -> dict:
        return {"driver": "file", "path": store.real(path)}

    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(gpath._PREFIX_TO_BACKEND, "gs", store)
        patched.setattr(gcs_utils, "get_kvstore_for_gcs", kvstore)
        patched.setattr(gcs_utils, "is_hierarchical_namespace_enabled", lambda path: False)
        patched.setattr(storage, "missing_clients", list)
        yield root
