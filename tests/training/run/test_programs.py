"""Compiled programs are kept in a folder, or through etils in an object store (gs://)."""

from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from rljax.training.run.programs import keep_programs
from tests.training.fake_store import fake_store

HIT, MISS = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"


SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_raise_persistent_cache_errors",
)


@pytest.fixture(params=["disk", "store"])
def programs(request, tmp_path):
    """A folder of a disk, or the one behind gs://bucket, in which programs are kept meanwhile."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    own = tmp_path / "store" / "bucket" / "programs"
    with fake_store(tmp_path / "store"):
        keep_programs(str(own) if request.param == "disk" else "gs://bucket/programs")
        jax.config.update("jax_raise_persistent_cache_errors", True)
        compilation_cache.reset_cache()
        yield own
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_programs_are_kept_and_loaded(programs):
    heard = Counter()

    def hear(event: str, **about: object) -> None:
        heard.update([event])

    def call(factor: float = 3.25) -> float:
        jax.clear_caches()
        return float(jax.jit(lambda x: jnp.tanh(x) * factor + 1.5)(2.0))

    jax.monitoring.register_event_listener(hear)
    try:
        first = call()
        assert heard[MISS] >= 1 and heard[HIT] == 0
        assert any(path.name.endswith("-cache") for path in programs.iterdir())
        heard.clear()
        assert call() == first and heard[HIT] >= 1 and heard[MISS] == 0
        heard.clear()
        assert call(3.5) > first and heard[MISS] >= 1  # another program
    finally:
        jax.monitoring.unregister_event_listener(hear)
