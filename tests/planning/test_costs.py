"""Memory, operations and collectives of small compiled programs equal hand counts."""

import json

import pytest

PROGRAM = """
import json
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from rljax.planning.chips import read_topology
from rljax.planning.groups import axes_of
from rljax.planning.programs import devices_of
from rljax.planning.worker import measured

devices = devices_of(read_topology("v5e:2x2"))
mesh = jax.make_mesh((2, 2), ("rows", "hidden"), (AxisType.Auto,) * 2, devices=devices)

def place(*axes):
    return NamedSharding(mesh, P(*axes))

def array(shape, *axes):
    return jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=place(*axes))

def layers(weights, x):
    def layer(x, weight):
        return jnp.tanh(x @ weight), None
    return jax.lax.scan(layer, x, weights)[0]

def twice(weights, x):
    def again(_, x):
        return layers(weights, x)
    return jax.lax.fori_loop(0, 3, again, x)

def until(weights, x):
    def more(state):
        count, x = state
        return (count < 7) & (jnp.max(x) < 5)
    def again(state):
        count, x = state
        return count + 1, jnp.tanh(x @ weights[0])
    return jax.lax.while_loop(more, again, (0, x))[1]

def batched(a, b):
    return jnp.einsum("bij,bjk->bik", a, b)

def report(function, *arguments, out=None, donate=()):
    jitted = jax.jit(function, out_shardings=out, donate_argnums=donate)
    found = measured(jitted.lower(*arguments).compile(), 4)
    sizes = dict(mesh.shape)
    found["collectives"] = [
        [c["kind"], axes_of(c["groups"], sizes), c["bytes"], c["count"]]
        for c in found["collectives"]
    ]
    return found

def exchange(function):
    # Of every chip's own part, float32 [512, 256].
    part = P(("rows", "hidden"))
    mapped = jax.shard_map(function, mesh=mesh, in_specs=part, out_specs=part, check_vma=False)
    given = jax.ShapeDtypeStruct((2048, 256), jnp.float32, sharding=NamedSharding(mesh, part))
    return report(mapped, given)

whole = array((6, 512, 512)), array((256, 512), "rows")
print(json.dumps({
    "layers": report(layers, *whole, out=place("rows")),
    "twice": report(twice, *whole, out=place("rows")),
    "until": report(until, *whole, out=place("rows")),
    "batched": report(
        batched, array((8, 256, 384), "rows"), array((8, 384, 128), "rows"), out=place("rows")),
    "gathered": exchange(lambda x: jax.lax.all_gather(x, "hidden", tiled=True)),
    "summed": exchange(lambda x: jax.lax.psum(x, "rows")),
    "everywhere": exchange(lambda x: jax.lax.psum(x, ("rows", "hidden"))),
    "scattered": exchange(lambda x: jax.lax.psum_scatter(x, "rows", tiled=True)),
    "exchanged": exchange(lambda x: jax.lax.all_to_all(x, "hidden", 0, 0, tiled=True)),
    "passed": exchange(lambda x: jax.lax.ppermute(x, "hidden", [(0, 1), (1, 0)])),
    "donated": report(lambda x: x * 2, array((4096, 512), "rows"), out=place("rows"), donate=0),
}))
"""

PART = 4 * 512 * 256  # bytes of a chip's array in the programs that exchange


@pytest.fixture(scope="module")
def found(run_for_tpu):
    return json.loads(run_for_tpu("-c", PROGRAM).splitlines()[-1])


def test_products_are_counted_with_the_trips_of_their_loops(found):
    one = 2 * 128 * 512 * 512  # 256 rows over two chips
    assert found["layers"]["flops"] == 6 * one
    assert found["twice"]["flops"] == 3 * 6 * one
    # A loop that may end early counts as often as it runs at most.
    assert found["until"]["flops"] == 7 * one
    assert found["batched"]["flops"] == 2 * 4 * 256 * 384 * 128
    assert not any(each["endless"] or each["kernels"] for each in found.values())


def test_memory_is_that_of_the_shapes(found):
    weights, rows = 2 * 6 * 512 * 512, 2 * 128 * 512
    assert found["layers"]["arguments"] == weights + rows
    assert found["layers"]["outputs"] == rows
    assert found["gathered"]["arguments"] == PART
    assert found["gathered"]["outputs"] == 2 * PART
    # What is donated is not counted twice.
    assert found["donated"]["arguments"] == 2 * 2048 * 512
    assert found["donated"]["outputs"] == 0


def test_traffic_reads_each_layer_once_and_not_the_stack_of_them(found):
    weights, rows = 2 * 6 * 512 * 512, 2 * 128 * 512
    assert weights + 2 * rows <= found["layers"]["hbm_bytes"] < 2.2 * weights
    assert found["donated"]["hbm_bytes"] == 2 * 2 * 2048 * 512


def test_collectives_have_their_kind_axes_and_bytes(found):
    assert found["layers"]["collectives"] == found["batched"]["collectives"] == []
    rows, hidden = ["rows"], ["hidden"]
    assert found["gathered"]["collectives"] == [["all-gather", hidden, 2 * PART, 1]]
    assert found["summed"]["collectives"] == [["all-reduce", rows, PART, 1]]
    assert found["everywhere"]["collectives"] == [["all-reduce", rows + hidden, PART, 1]]
    assert found["scattered"]["collectives"] == [["reduce-scatter", rows, PART, 1]]
    assert found["exchanged"]["collectives"] == [["all-to-all", hidden, PART, 1]]
    assert found["passed"]["collectives"] == [["collective-permute", hidden, PART, 1]]
