"""Tiny whole runs, shared by the tests of this folder."""

import contextlib
import dataclasses
import functools
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
import pytest
from ml_collections import ConfigDict
from orbax.checkpoint import v1 as ocp
from rich.console import Console

from rljax.config.load import load_config
from rljax.config.stage import Stage
from rljax.config.validate import validate
from rljax.models.lora import split_frozen
from rljax.parallel.mesh import make_mesh
from rljax.training import loop
from rljax.training.families.table import family_class
from rljax.training.run import context
from rljax.training.update.optimizers import build_optimizer
from rljax.training.update.state import TrainState, create_state, state_shardings
from tests.once import once

HERE = Path(__file__).parent
CONFIG = HERE / "tiny_config.py"


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
def tiny_folder(shared_folder, tiny_module) -> Iterator[Path]:
    """The data files, written once for all workers."""

    def write() -> Path:
        folder = shared_folder / "tiny"
        folder.mkdir(exist_ok=True)
        tiny_module.write_data(folder)
        return folder

    folder = once(shared_folder, "tiny", write)
    os.environ[tiny_module.DATA] = str(folder)
    yield folder
    del os.environ[tiny_module.DATA]


@pytest.fixture
def one_device_runs(tiny_folder) -> Iterator[None]:
    """Runs in this process use the first fake device."""
    with on_one_device():
        yield


@contextlib.contextmanager
def on_one_device() -> Iterator[None]:
    """Meanwhile `build_context` makes meshes of one device each."""
    before = context.make_mesh
    context.make_mesh = lambda sizes, devices=None: make_mesh(
        sizes, devices=(devices or jax.devices())[:1]
    )
    try:
        yield
    finally:
        context.make_mesh = before


@pytest.fixture
def tiny_config(tiny_folder) -> Callable[..., ConfigDict]:
    """tiny_config("grpo", "--config.seed=1", ...): a complete config."""
    return lambda variant, *overrides: load_config(f"{CONFIG}:{variant}", overrides)


@pytest.fixture(scope="session")
def tiny_run(shared_folder, tiny_folder, compilations) -> Callable[[str], TinyRun]:
    """tiny_run("grpo"): a finished run of a variant; do not write into its workdir.

    It is made once for all workers, so its numbers are of whichever process came first.
    """

    def make(variant: str) -> TinyRun:
        workdir, config = shared_folder / variant / "run", load_config(f"{CONFIG}:{variant}")
        text = io.StringIO()
        jax.clear_caches()  # programs that another file compiled would not be counted
        with on_one_device(), compilations() as names:
            summary = loop.run(config, workdir, Console(file=text, width=200))
        return TinyRun(workdir, config, summary, text.getvalue(), names)

    return functools.cache(lambda variant: once(shared_folder, variant, lambda: make(variant)))


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
            stack.enter_context(made.workers())
            stack.enter_context(jax.set_mesh(made.mesh))
            optimizer = build_optimizer(stages[-1])
            params = made.network.init(jax.random.key(0), made.mesh)
            copy, frozen = split_frozen(jax.tree.map(lambda leaf: leaf.copy(), params))
            made = dataclasses.replace(made, frozen=frozen)
            carried = family_class(stages[-1]).carried(made, stages[-1])
            shardings = state_shardings(made.network, optimizer, made.mesh, carried)
            state = create_state(copy, optimizer, shardings, carried)
            return Pieces(made, stages[-1], params, state)

        yield build


@pytest.fixture
def final_params(tiny_run):
    """final_params("grpo", "warmup"): a stage's last parameters, as numpy arrays."""

    def read(variant: str, stage: str) -> dict:
        run = tiny_run(variant)
        folder = run.workdir / "checkpoints" / stage / str(run.config[stage].steps)
        state = ocp.load(folder, checkpointable_name="state")
        return jax.tree.map(np.asarray, state["params"])

    return read


@pytest.fixture(scope="session")
def subprocess_environment(tiny_folder) -> dict[str, str]:
    """For runs in processes of their own that share data with those here."""
    root = str(HERE.parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)])}
