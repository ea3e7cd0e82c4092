"""Compiled programs in an object store: jax's persistent cache takes gs:// paths through etils."""

from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests.training.fake_store import fake_store

HIT, MISS = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"


@pytest.fixture
def bucket(tmp_path):
    """The folder behind gs://bucket, in which jax keeps its programs meanwhile."""
    settings = {
        "jax_compilation_cache_dir": "gs://bucket/programs",
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_raise_persistent_cache_errors": True,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    with fake_store(tmp_path / "store"):
        for name, value in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        yield tmp_path / "store" / "bucket"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_programs_are_kept_in_a_bucket_and_loaded_from_it(bucket):
    heard = Counter()

    def hear(event: str, **about: object) -> None:
        heard.update([event])

    def call() -> float:
        jax.clear_caches()
        return float(jax.jit(lambda x: jnp.tanh(x) * 3.25 + 1.5)(2.0))

    jax.monitoring.register_event_listener(hear)
    try:
        first = call()
        assert heard[MISS] >= 1 and heard[HIT] == 0
        assert any(path.name.endswith("-cache") for path in (bucket / "programs").iterdir())
        heard.clear()
        assert call() == first and heard[HIT] >= 1 and heard[MISS] == 0
    finally:
        jax.monitoring.unregister_event_listener(hear)
