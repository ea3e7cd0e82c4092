"""Tiny whole runs, shared by the tests of this folder."""

import importlib.util
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict
from rich.console import Console

from rljax.config.load import load_config
from rljax.parallel.mesh import make_mesh
from rljax.training import context, loop

HERE = Path(__file__).parent
CONFIG = HERE / "tiny_config.py"
CACHE_SETTINGS = {
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


class TinyRun(NamedTuple):
    """A finished run."""

    workdir: Path
    config: ConfigDict
    summary: dict
    output: str
    compiled: list[str]  # a name for every program that was compiled or loaded


def load_file(path: Path) -> ModuleType:
    """Imports a file that lies in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_module() -> ModuleType:
    """tiny_config.py."""
    return load_file(CONFIG)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory, tiny_module) -> Iterator[Path]:
    """The data files, and a cache in which a program is compiled once for the whole session."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_module.write_data(folder)
    os.environ[tiny_module.DATA] = str(folder)
    yield folder
    del os.environ[tiny_module.DATA]


@pytest.fixture(scope="session")
def cache_folder(tiny_folder) -> Path:
    """Where compiled programs of tiny runs are kept."""
    return tiny_folder / "cache"


@pytest.fixture
def one_device_runs(monkeypatch, cache_folder) -> Iterator[None]:
    """Runs in this process use the first fake device, and the cache."""
    with one_device_and_cache(cache_folder):
        yield


class one_device_and_cache:  # noqa: N801
    """A context: `build_context` makes a mesh of one device, programs are cached on disk."""

    def __init__(self, folder: Path) -> None:
        self.settings = {"jax_compilation_cache_dir": str(folder), **CACHE_SETTINGS}

    def __enter__(self) -> None:
        self.before = {name: getattr(jax.config, name) for name in self.settings}
        self._set(self.settings)
        context.make_mesh = lambda sizes: make_mesh(sizes, devices=jax.devices()[:1])

    def __exit__(self, *exception: object) -> None:
        context.make_mesh = make_mesh
        self._set(self.before)

    def _set(self, settings: dict) -> None:
        for name, value in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


@pytest.fixture
def tiny_config(tiny_folder) -> Callable[..., ConfigDict]:
    """tiny_config("grpo", "--config.seed=1", ...): a complete config."""
    return lambda variant, *overrides: load_config(f"{CONFIG}:{variant}", overrides)


def run_tiny(variant: str, workdir: Path, *overrides: str) -> TinyRun:
    """Runs a variant in this process."""
    config = load_config(f"{CONFIG}:{variant}", overrides)
    text = io.StringIO()
    names: list[str] = []
    with capture_compilations(names):
        summary = loop.run(config, workdir, Console(file=text, width=200))
    return TinyRun(workdir, config, summary, text.getvalue(), names)


class capture_compilations:  # noqa: N801
    """A context that collects the name of every program that jax compiles or loads."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __enter__(self) -> None:
        import logging

        class Handler(logging.Handler):
            def emit(handler, record: logging.LogRecord) -> None:
                text = record.getMessage()
                if text.startswith("Compiling "):
                    self.names.append(text.split()[1])

        self.handler = Handler()
        self.logger = logging.getLogger("jax._src.interpreters.pxla")
        self.level = self.logger.level
        self.propagate = self.logger.propagate
        self.logger.addHandler(self.handler)
        self.logger.setLevel(logging.DEBUG)
        self.logger.propagate = False

    def __exit__(self, *exception: object) -> None:
        self.logger.removeHandler(self.handler)
        self.logger.setLevel(self.level)
        self.logger.propagate = self.propagate


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, tiny_folder, cache_folder) -> Callable[[str], TinyRun]:
    """tiny_run("grpo"): a finished run of a variant, made once; do not write into its workdir."""
    done: dict[str, TinyRun] = {}

    def get(variant: str) -> TinyRun:
        if variant not in done:
            workdir = tmp_path_factory.mktemp(variant) / "run"
            with one_device_and_cache(cache_folder):
                done[variant] = run_tiny(variant, workdir)
        return done[variant]

    return get


@pytest.fixture(scope="session")
def subprocess_environment(tiny_folder, cache_folder) -> dict[str, str]:
    """For runs in processes of their own that share data and cache with those here."""
    root = str(HERE.parents[1])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)]),
        "JAX_COMPILATION_CACHE_DIR": str(cache_folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
