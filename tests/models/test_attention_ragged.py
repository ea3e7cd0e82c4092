"""The ragged kernel, emulated, against XLA's form of the same part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.attention import ragged as module
from rljax.models.attention.partial import KeyValues, context
from rljax.models.attention.ragged import (
    MOST_BLOCKS,
    _entry,
    _list,
    _Shape,
    block_columns,
    ragged,
    resolve_own_kernel,
)
from rljax.models.config import ModelConfig
from rljax.models.decoding import Own, own_part
from rljax.models.kv_cache import stored
from rljax.parallel.mesh import make_mesh
from tests.tolerance import assert_same_sums

N, K, R, h, C = 6, 2, 3, 8, 48  # with blocks of 8 columns
AGES = np.array([0, 1, 7, 20, 46, 47], np.int32)

CASES = {
    "everything": {},
    "window across blocks": dict(sliding_window=11),
    "window of the token itself": dict(sliding_window=1),
    "soft-cap and scale": dict(attention_softcap=2.0, attention_scale=0.7),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Six blocks of a ring."""
    monkeypatch.setattr(module, "LEAST_BYTES", 8 * K * module.LANES * 4)
    monkeypatch.setattr(module, "MOST_BYTES", 8 * K * module.LANES * 4)


def configure(kv_heads=K, group=R, **changes):
    shape = dict(vocab_size=8, layers=1, width=8, kv_heads=kv_heads, head_dim=h, mlp_width=8)
    return ModelConfig(heads=kv_heads * group, **shape, **changes)


def rows(kv_heads=K, group=R, count=N, columns=C):
    rng = np.random.default_rng(0)

    def of(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    heads = (count, kv_heads)
    return of(*heads, group, h), KeyValues(of(*heads, columns, h), of(*heads, columns, h))


def run(q, cache, own, config, current=True):
    """Compiled once for all columns and ages."""
    return _run(q, cache, own, config, current)


_run = jax.jit(
    lambda q, cache, own, config, current: ragged(
        q, cache, *own, config, window=config.sliding_window, current=current, interpret=True
    ),
    static_argnums=(3, 4),
)


def compare(q, cache, own, config, current=True):
    found = run(q, cache, own, config, current)
    expected = own_part(q, cache, own, config, config.sliding_window, current=current)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def own_of(column, ages=AGES, used=C):
    return Own(jnp.int32(column), jnp.asarray(ages), jnp.int32(used))


@pytest.mark.parametrize("current", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_parts_equal_those_of_xla(case, current):
    config = configure(**CASES[case])
    q, cache = rows()
    # In the first block (the others wrap around), at both ends of a block, in the last column.
    for column in (0, 3, 15, 16, 47):
        compare(q, cache, own_of(column), config, current)


@pytest.mark.parametrize("kv_heads, group", [(1, 1), (1, 6), (3, 1), (2, 12)])
def test_heads_share_keys_in_any_way(kv_heads, group):
    q, cache = rows(kv_heads, group)
    compare(q, cache, own_of(21), configure(kv_heads, group))


@pytest.mark.parametrize("count", [1, 2])
def test_few_rows(count):
    q, cache = rows(count=count)
    for ages in ([47] * count, [0] * count, list(range(count))):
        compare(q, cache, own_of(5, np.array(ages, np.int32)), configure())


def test_a_ring_of_one_block():
    q, cache = rows(columns=6)
    ages = np.array([0, 1, 2, 3, 4, 5], np.int32)
    compare(q, cache, own_of(2, ages, used=6), configure())


def test_int8_keys_and_values_bring_their_scales():
    q, exact = rows()
    zeros = jnp.zeros(exact.keys.shape, jnp.int8)
    like = KeyValues(zeros, zeros, jnp.zeros(zeros.shape[:3]), jnp.zeros(zeros.shape[:3]))
    cache = stored(exact.keys.swapaxes(1, 2), exact.values.swapaxes(1, 2), like)
    compare(q, cache, own_of(21), configure(attention_softcap=3.0))


def test_nothing_outside_the_age_has_any_effect():
    q, cache = rows()
    column = 5
    back = (column - np.arange(C)) % C
    outside = (back > AGES[:, None])[:, None, :, None]
    spoilt = jax.tree.map(lambda x: jnp.where(outside, 1e4, x), cache)
    clean, other = (run(q, each, own_of(column), configure()) for each in (cache, spoilt))
    jax.tree.map(np.testing.assert_array_equal, clean, other)


def test_rows_that_do_not_matter_are_cut_at_the_columns_in_use():
    q, cache = rows()
    found = run(q, cache, own_of(30, used=8), configure())
    expected = run(q, cache, own_of(30, np.minimum(AGES, 7)), configure())
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_blocks_in_use_are_listed_from_new_to_old_and_shared_by_two_cores():
    """The example of the module: blocks of 2 columns, ages 0, 3 and 7."""
    shape = _Shape(rows=3, heads=1, queries=1, head_dim=8, columns=8, block=2, blocks=4)
    todo = _list(shape, jnp.int32(5), jnp.array([1, 4, 8]))
    entries = np.asarray(todo.entries)[:7]
    assert (entries // 4).tolist() == [0, 1, 1, 2, 2, 2, 2]
    assert (entries % 4).tolist() == [2, 2, 1, 2, 1, 0, 3]
    assert todo.bounds.tolist() == [0, 3, 7] and todo.steps == 4
    # The first part is one step shorter and stays where it is: the next row is the other core's.

    def of_steps(part):
        return [int(_entry(part, step, *todo[:2])) for step in range(4)]

    assert of_steps(0) == [*entries[:3], entries[2]] and of_steps(1) == entries[3:].tolist()


@pytest.mark.parametrize("reach", [[8, 1, 1], [1, 1, 8], [1, 1, 1], [8, 8, 8]])
def test_no_core_is_left_without_rows(reach):
    shape = _Shape(rows=3, heads=1, queries=1, head_dim=8, columns=8, block=2, blocks=4)
    todo = _list(shape, jnp.int32(6), jnp.array(reach))
    begin, cut, end = todo.bounds.tolist()
    rows_of = np.asarray(todo.entries) // 4
    assert begin == 0 and 0 < cut < end and todo.steps == max(cut, end - cut)
    assert rows_of[cut - 1] < rows_of[cut] and rows_of[end - 1] == 2


def test_split_over_rows_and_heads_it_equals_one_device():
    q, cache = rows(count=8)
    ages = np.array([0, 3, 47, 20, 0, 1, 2, 3], np.int32)
    expected = run(q, cache, own_of(21, ages), configure())
    with jax.set_mesh(make_mesh({"fsdp": 2, "tensor": 2}, devices=jax.devices()[:4])):
        found = jax.jit(
            lambda: ragged(q, cache, *own_of(21, ages), configure(), window=0, interpret=True)
        )()
    for one, other in zip(found, expected, strict=True):
        assert_same_sums(one, other, h + C)


def test_bfloat16_differs_by_its_rounding_only():
    q, cache = jax.tree.map(lambda x: x.astype(jnp.bfloat16), rows())
    found = context(run(q, cache, own_of(21), configure()), jnp.float32)
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), (q, cache))
    expected = context(run(*exact, own_of(21), configure()), jnp.float32)
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.parametrize(
    "heads, columns, head_dim, dtype, block",
    [
        (8, 64, 128, "bfloat16", 64),
        (8, 512, 128, "bfloat16", 128),  # a quarter
        (8, 8192, 128, "bfloat16", 256),  # 512 KiB of keys
        (8, 1088, 128, "bfloat16", 272),  # 17 x 64: no multiple of 128 divides it
        (1, 2048, 128, "bfloat16", 512),  # 128 KiB of keys
        (8, 2048, 64, "bfloat16", 256),  # numbers are padded to 128
        (8, 2048, 128, "int8", 512),
        (8, 1088, 128, "int8", 1088),  # its scales lie along the lanes
    ],
)
def test_blocks_divide_the_ring_and_fit_the_tiles(
    monkeypatch, heads, columns, head_dim, dtype, block
):
    monkeypatch.undo()
    assert block_columns(heads, columns, head_dim, dtype) == block


def resolve(platform="tpu", rows=64, columns=2048, head_dim=128, choice="auto"):
    shape = dict(vocab_size=8, layers=1, width=8, heads=16, kv_heads=8, mlp_width=8)
    config = ModelConfig(head_dim=head_dim, decode_attention=choice, **shape)
    return resolve_own_kernel(config, platform, rows, columns, "bfloat16")


def test_auto_takes_the_kernel_on_tpu_where_it_is_expected_to_be_faster(monkeypatch):
    monkeypatch.undo()
    assert resolve() == "ragged"
    assert resolve("cpu") == resolve("gpu") == "dense"
    assert resolve(columns=64) == resolve(head_dim=64) == "dense"
    assert resolve(rows=MOST_BLOCKS, columns=512) == "dense"
    assert resolve(choice="dense") == "dense"
    assert resolve(columns=64, choice="ragged") == resolve(head_dim=64, choice="ragged") == "ragged"


def test_what_cannot_be_served_is_said(monkeypatch):
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"runs on TPU, not on cpu.*config.model.decode_attention"):
        resolve("cpu", choice="ragged")
    with pytest.raises(ValueError, match=r"65536 rows of 4 blocks .* more than the 65536 blocks"):
        resolve(rows=2**16, columns=512, choice="ragged")
    with pytest.raises(ValueError, match="Unknown decode_attention 'paged'"):
        resolve(choice="paged")


def test_decoding_asks_for_the_kernel_by_name():
    q, cache = rows()
    with pytest.raises(ValueError, match="decode_attention='ragged' cannot be used here"):
        own_part(q, cache, own_of(3), configure(decode_attention="ragged"), 0)
