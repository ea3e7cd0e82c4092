"""Products of sorted rows with one matrix per group, in both forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from rljax.models import grouped_matmul as module
from rljax.models.grouped_matmul import Split, grouped_matmul
from rljax.parallel.mesh import make_mesh

# Empty groups first, between and last; several blocks of 8 rows; rows that belong to no group.
SIZES = {
    "gaps": [0, 3, 0, 21, 1, 0],
    "one": [0, 0, 40, 0, 0, 0],
    "full": [8, 8, 8, 8, 7, 1],
    "none": [0, 0, 0, 0, 0, 0],
}
ROWS, A, B = 40, 5, 7


def case(sizes):
    rng = np.random.default_rng(0)
    x, weights, dy = (rng.standard_normal(s) for s in ((ROWS, A), (len(sizes), A, B), (ROWS, B)))
    group = np.repeat(np.arange(len(sizes)), sizes)  # of each row that belongs to one
    return x, weights, dy, group


def reference(x, weights, dy, group):
    """Values, and gradients of sum(y * dy), row by row in float64."""
    y = np.array([x[r] @ weights[g] for r, g in enumerate(group)]).reshape(-1, B)
    dx = np.array([dy[r] @ weights[g].T for r, g in enumerate(group)]).reshape(-1, A)
    dw = np.zeros_like(weights)
    for r, g in enumerate(group):
        dw[g] += np.outer(x[r], dy[r])
    return y, dx, dw


def ragged(on_cpu, elsewhere, *args):
    return elsewhere(*args)


@pytest.mark.parametrize("form", ["loop", "ragged"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_values_and_gradients_match_row_by_row_products(sizes, form, monkeypatch):
    if form == "ragged":
        monkeypatch.setattr(module, "_by_platform", ragged)
    x, weights, dy, group = case(sizes)
    expected = reference(x, weights, dy, group)

    def run(x, weights, dy):
        y, pull = jax.vjp(lambda x, w: grouped_matmul(x, w, jnp.array(sizes), None), x, weights)
        return y, *pull(dy)

    y, dx, dw = jax.jit(run)(*(jnp.asarray(array, jnp.float32) for array in (x, weights, dy)))
    count = len(group)
    for found, right in zip((y[:count], dx[:count], dw), expected, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5)


def test_weights_in_float32_are_multiplied_in_the_dtype_of_the_rows():
    x, weights, dy, _ = case(SIZES["full"])
    x, weights = jnp.asarray(x, jnp.bfloat16), jnp.asarray(weights, jnp.float32)

    def run(x, w):
        return grouped_matmul(x, w, jnp.array(SIZES["full"]), None)

    y, pull = jax.vjp(run, x, weights)
    dx, dw = pull(jnp.asarray(dy, jnp.bfloat16))
    assert (y.dtype, dx.dtype, dw.dtype) == (jnp.bfloat16, jnp.bfloat16, jnp.float32)
    np.testing.assert_array_equal(y, run(x, weights.astype(jnp.bfloat16)))


@pytest.mark.parametrize("dimension", [1, 2])
def test_split_weights_are_gathered_and_their_gradient_is_scattered(dimension):
    rng = np.random.default_rng(1)
    x, weights, dy = (
        jnp.asarray(rng.standard_normal(shape), jnp.float32)
        for shape in ((2, 12, 4), (3, 4, 4), (2, 12, 4))
    )
    sizes = jnp.array([5, 0, 7])
    spec = [None, None, None]
    spec[dimension] = "fsdp"
    rows, split = PartitionSpec("fsdp"), PartitionSpec(*spec)

    def each(x, weights, dy, split):
        y, pull = jax.vjp(lambda x, w: grouped_matmul(x, w, sizes, split), x[0], weights)
        dx, dw = pull(dy[0])
        return y[None], dx[None], dw

    mesh = make_mesh({"fsdp": 2}, devices=jax.devices()[:2])
    with jax.set_mesh(mesh):
        y, dx, dw = jax.jit(
            jax.shard_map(
                functools.partial(each, split=Split("fsdp", dimension)),
                in_specs=(rows, split, rows),
                out_specs=(rows, rows, split),
                check_vma=False,
            )
        )(x, weights, dy)
    parts = [each(x[i : i + 1], weights, dy[i : i + 1], None) for i in range(2)]
    np.testing.assert_allclose(y, jnp.concatenate([p[0] for p in parts]), atol=1e-5)
    np.testing.assert_allclose(dx, jnp.concatenate([p[1] for p in parts]), atol=1e-5)
    np.testing.assert_allclose(dw, parts[0][2] + parts[1][2], atol=1e-5)
