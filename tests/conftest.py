"""The whole test session sees 8 fake CPU devices; a test that wants one takes the first.

The variables are read once, when jax is imported, and are passed on to workers and subprocesses.
So all of them share one folder of compiled programs, which lives as long as the session. Give
JAX_COMPILATION_CACHE_DIR to keep it for the next one.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.flags import CONCURRENCY, FUSIONS, knows_flag, with_flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Workers of pytest-xdist inherit what the process that starts them has found out.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _wanted = {
        "xla_force_host_platform_device_count": 8,
        # Tests spend their time compiling, not computing.
        "xla_backend_optimization_level": 0,
    }
    # Compilers of other platforms may end at these flags.
    for _flag in (FUSIONS, CONCURRENCY):
        if os.environ["JAX_PLATFORMS"] == "cpu" and knows_flag(_flag, "false"):
            _wanted[_flag] = "false"
    os.environ["XLA_FLAGS"] = with_flags(os.environ.get("XLA_FLAGS", ""), _wanted)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        _programs = tempfile.mkdtemp(prefix="rljax-programs-")
        atexit.register(shutil.rmtree, _programs, ignore_errors=True)
        os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # small ones too

import jax  # noqa: E402
import pytest  # noqa: E402
from jax.sharding import Mesh  # noqa: E402

from rljax.models.config import ModelConfig  # noqa: E402
from rljax.models.network import Network  # noqa: E402
from rljax.parallel.mesh import make_mesh  # noqa: E402

TINY = dict(vocab_size=13, layers=2, width=16, heads=4, kv_heads=2, head_dim=8, mlp_width=24)


# A process that keeps all compiled programs of the session grows beyond 8 GB.
MEMORY_LIMIT = 2 * 2**30


def memory_in_use() -> float:
    """Bytes of this process that lie in memory; infinite where that is not told."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("inf")
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Between two files, a large process forgets its compiled programs."""
    if nextitem is None or nextitem.path == item.path or memory_in_use() < MEMORY_LIMIT:
        return
    jax.clear_caches()
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # a call of glibc: give back free pages
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """A folder that all workers of this session share; see `once` in once.py."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def one_device() -> Mesh:
    """A mesh of a single device."""
    return make_mesh({"data": 1}, devices=jax.devices()[:1])


@pytest.fixture(scope="session")
def mesh_2x2x2() -> Mesh:
    """A mesh in which every axis really splits."""
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    return make_mesh({"data": 2, "fsdp": 2, "tensor": 2}, devices=jax.devices()[:8])


@pytest.fixture(scope="session")
def tiny_network():
    """tiny_network(**changes): a network of a few thousand parameters."""

    def create(**changes) -> Network:
        return Network.create(ModelConfig(**{**TINY, **changes}))

    return create


@contextlib.contextmanager
def compilations_meanwhile() -> Iterator[list[str]]:
    """The names of the programs that jax compiles or loads meanwhile, such as "jit(step)"."""
    names: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if text.startswith("Compiling "):
                names.append(text.split()[1])

    logger, handler = logging.getLogger("jax._src.interpreters.pxla"), Handler()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield names
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


@pytest.fixture(scope="session")
def compilations() -> Callable[[], contextlib.AbstractContextManager[list[str]]]:
    """`with compilations() as names:` see `compilations_meanwhile`."""
    return compilations_meanwhile


@pytest.fixture(scope="session")
def run_for_tpu() -> Callable[..., str]:
    """run_for_tpu("-c", program, ...): the output of a Python process that compiles for TPUs.

    A process of its own: libtpu reads its settings from the environment when it is loaded, ends
    at flags of XLA that are for CPUs, and takes a lock that other processes may hold.
    """
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed (extra plan)")
    for_cpus = ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")  # no device loads what is compiled
    environment = {
        **{name: value for name, value in os.environ.items() if name not in for_cpus},
        "JAX_PLATFORMS": "cpu",  # no TPU is looked for; the topology alone loads libtpu
        "TPU_SKIP_MDS_QUERY": "1",  # no metadata server is asked where there is none
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
