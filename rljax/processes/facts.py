"""What must be the same on every process before jax starts."""

import functools
import hashlib
import importlib.metadata
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rljax

PACKAGES = (
    *("jax", "jaxlib", "libtpu", "flax", "optax", "orbax-checkpoint", "grain", "numpy"),
    *("ml-collections", "transformers", "tokenizers", "reasoning-gym", "math-verify"),
)
# Variables that change what is compiled or computed.
VARIABLES = (
    *("XLA_FLAGS", "LIBTPU_INIT_ARGS", "JAX_PLATFORMS", "JAX_ENABLE_X64"),
    *("JAX_DEFAULT_MATMUL_PRECISION", "JAX_DEFAULT_PRNG_IMPL", "JAX_THREEFRY_PARTITIONABLE"),
)


def facts_before_jax(config: Mapping[str, Any], workdir: Path) -> dict[str, Any]:
    """Facts by name; those of jax's devices and of files follow once jax has started.

    Args:
        config: of the run, as JSON has it; its section "processes" is left out, as it says who
            each process is.
        workdir: of the run.
    """
    return {
        "python": platform.python_version(),
        "version": {package: _version(package) for package in PACKAGES},
        "code": code_digests(Path(rljax.__file__).parent),
        "environment": {name: os.environ.get(name) for name in VARIABLES},
        "config": {name: value for name, value in config.items() if name != "processes"},
        "workdir": str(Path(workdir).absolute()) if "://" not in str(workdir) else str(workdir),
    }


@functools.cache
def code_digests(package: Path) -> dict[str, str]:
    """The first 12 hex digits of SHA-256 of every Python file of a package, by name."""
    return {
        str(path.relative_to(package.parent)): hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in sorted(package.rglob("*.py"))
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
