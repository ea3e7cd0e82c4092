"""What the machine gives: rates of matrix products and of memory, as measured and as published."""

import platform
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

import rljax

# Nominal bfloat16 rates of one device without sparsity, FLOP/s, by the beginning of its name.
NOMINAL_RATES = {
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA A100": 312e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
}


def machine(devices: int, rate: float) -> dict[str, Any]:
    """Where something was timed, with which versions; rate: see `measured_rate`."""
    device = jax.devices()[0]
    return {
        "devices": devices,
        "platform": device.platform,
        "device": device.device_kind,
        "processor": platform.machine(),
        "matmul_flops_per_second": rate,
        "nominal_flops_per_second": nominal_rate(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,
        "rljax": rljax.__version__,
    }


def measured_rate(dtype: jnp.dtype) -> float:
    """FLOP/s of products of large square matrices on one device: the median of five timings."""
    on_cpu = jax.devices()[0].platform == "cpu"
    size, products = (1536, 2) if on_cpu else (8192, 20)
    matrix = jnp.full((size, size), 1.0 / size, dtype)

    @jax.jit
    def chain(x: jax.Array, matrix: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, products, lambda _, x: x @ matrix, x)

    seconds = median_seconds(lambda: jax.block_until_ready(chain(matrix, matrix)), 5)
    return 2.0 * size**3 * products / seconds


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Median of the wall seconds of `run()`, after one call that is not counted."""
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


def nominal_rate() -> float | None:
    """The device's published bfloat16 rate, where it is known."""
    kind = jax.devices()[0].device_kind
    known = [rate for name, rate in NOMINAL_RATES.items() if kind.startswith(name)]
    return known[0] if known else None


def measured_bandwidth() -> float:
    """Bytes per second at which one device reads memory that is in no cache: median of five."""
    on_cpu = jax.devices()[0].platform == "cpu"
    count = 2**26 if on_cpu else 2**30  # of float32
    numbers = jnp.ones(count, jnp.float32)
    total = jax.jit(lambda x: x.reshape(1024, -1).sum(axis=1))
    seconds = median_seconds(lambda: jax.block_until_ready(total(numbers)), 5)
    return 4.0 * count / seconds
