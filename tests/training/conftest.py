"""Tiny whole runs, shared by the tests of this folder."""

import contextlib
import importlib.util
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict
from rich.console import Console

from rljax.config.load import load_config
from rljax.config.stage import Stage
from rljax.config.validate import validate
from rljax.parallel.mesh import make_mesh
from rljax.training import loop
from rljax.training.families.table import family_class
from rljax.training.run import context
from rljax.training.update.optimizers import build_optimizer
from rljax.training.update.state import TrainState, create_state, state_shardings

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


@contextlib.contextmanager
def one_device_and_cache(folder: Path) -> Iterator[None]:
    """`build_context` makes a mesh of one device, programs are cached on disk."""
    settings = {"jax_compilation_cache_dir": str(folder), **CACHE_SETTINGS}
    before = {name: getattr(jax.config, name) for name in settings}

    def set_all(values: dict) -> None:
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()

    set_all(settings)
    make_mesh_before = context.make_mesh
    context.make_mesh = lambda sizes: make_mesh(sizes, devices=jax.devices()[:1])
    try:
        yield
    finally:
        context.make_mesh = make_mesh_before
        set_all(before)


@pytest.fixture
def tiny_config(tiny_folder) -> Callable[..., ConfigDict]:
    """tiny_config("grpo", "--config.seed=1", ...): a complete config."""
    return lambda variant, *overrides: load_config(f"{CONFIG}:{variant}", overrides)


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, tiny_folder, cache_folder, compilations) -> Callable[[str], TinyRun]:
    """tiny_run("grpo"): a finished run of a variant, made once; do not write into its workdir."""
    done: dict[str, TinyRun] = {}

    def run(variant: str) -> TinyRun:
        workdir, config = (
            tmp_path_factory.mktemp(variant) / "run",
            load_config(f"{CONFIG}:{variant}"),
        )
        text = io.StringIO()
        with one_device_and_cache(cache_folder), compilations() as names:
            summary = loop.run(config, workdir, Console(file=text, width=200))
        return TinyRun(workdir, config, summary, text.getvalue(), names)

    def get(variant: str) -> TinyRun:
        if variant not in done:
            done[variant] = run(variant)
        return done[variant]

    return get


class Pieces(NamedTuple):
    """What a family is made of, without a run around it."""

    context: context.Context
    stage: Stage
    params: dict
    state: TrainState


@pytest.fixture
def pieces(one_device_runs, tiny_config, tmp_path) -> Iterator[Callable[..., Pieces]]:
    """pieces("grpo", override, ...): context, last stage, fresh parameters and state."""
    with contextlib.ExitStack() as stack:

        def build(variant: str, *overrides: str) -> Pieces:
            config = tiny_config(variant, *overrides)
            stages = validate(config)
            made = context.build_context(config, stages, tmp_path / "pieces")
            stack.enter_context(made.scorer)
            stack.enter_context(jax.set_mesh(made.mesh))
            optimizer = build_optimizer(stages[-1])
            params = made.network.init(jax.random.key(0), made.mesh)
            copy = jax.tree.map(lambda leaf: leaf.copy(), params)
            extra = family_class(stages[-1]).extra(made, stages[-1])
            shardings = state_shardings(made.network, optimizer, made.mesh, extra)
            state = create_state(copy, optimizer, shardings, extra)
            return Pieces(made, stages[-1], params, state)

        yield build


@pytest.fixture
def final_params(tiny_run):
    """final_params("grpo", "warmup"): a stage's last parameters, as numpy arrays."""

    def read(variant: str, stage: str) -> dict:
        run = tiny_run(variant)
        folder = run.workdir / "checkpoints" / stage / str(run.config[stage].steps) / "state"
        with ocp.StandardCheckpointer() as checkpointer:
            return jax.tree.map(np.asarray, checkpointer.restore(folder)["params"])

    return read


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
