"""Memory, operations and collectives of small compiled programs equal hand counts."""

import json

import pytest

PROGRAM = """
import json
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from rljax.models.attention.splash import splash
from rljax.models.config import ModelConfig
from rljax.models.products import embed
from rljax.parallel.mesh import make_mesh
from rljax.planning.chips import read_topology
from rljax.planning.groups import axes_of
from rljax.planning.parts import devices_of
from rljax.planning.worker import measured

devices = devices_of(read_topology("v5e:2x2"))
mesh = jax.make_mesh((2, 2), ("rows", "hidden"), (AxisType.Auto,) * 2, devices=devices)

rows = make_mesh({"fsdp": 4}, devices)

def part(shape, dtype=jnp.bfloat16):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(rows, P("fsdp")))

OF_ROWS = P(None, "fsdp")
ATTENTION = dict(
    vocab_size=8, layers=1, width=512, heads=4, kv_heads=2, head_dim=128, mlp_width=8,
    dtype="bfloat16",
)

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

def attended(config, window=0, slots=1024):
    def loss(q, k, v, segments):
        def layer(q, _):
            return splash(q, k, v, segments, config, window=window), None
        return jax.lax.scan(layer, q, None, length=3)[0].astype(jnp.float32).sum()
    def gradient(*arrays):
        return jax.grad(jax.checkpoint(loss), argnums=(0, 1, 2))(*arrays)
    with jax.set_mesh(rows):
        arrays = (part((8, slots, heads, 128)) for heads in (4, 2, 2))
        return report(gradient, *arrays, part((8, slots), jnp.int32))

def embedded(tokens, dy):
    table = jnp.zeros((4096, 512))
    with jax.sharding.use_abstract_mesh(rows.abstract_mesh):
        return jax.vjp(lambda table: embed(table, tokens, jnp.bfloat16), table)[1](dy)[0]

def largest(x, table):
    # As decoding computes logits: the matrix is read by another name, and products are not written.
    return jnp.matmul(x, table.T, preferred_element_type=jnp.float32).max(axis=-1)

def report(function, *arguments, out=None, donate=()):
    jitted = jax.jit(function, out_shardings=out, donate_argnums=donate)
    found = measured(jitted.lower(*arguments).compile(), arguments[0].sharding.mesh)
    sizes = dict(arguments[0].sharding.mesh.shape)
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
# Two slices of 2x2: data goes over both.
slices = make_mesh({"data": 2, "fsdp": 4}, devices_of(read_topology("2xv5e:2x2")))

def between(function, shape, given, out):
    array = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(slices, P(*given)))
    return report(function, array, out=NamedSharding(slices, P(*out)))

def passed_on(x):
    pairs = [(0, 1), (1, 0)]
    def pass_on(x):
        return jax.lax.ppermute(x, "data", pairs)
    return jax.shard_map(pass_on, mesh=slices, in_specs=P("data"), out_specs=P("data"))(x)

def looped(x):
    def add(_, total):
        return total + jnp.sum(x * total[None], axis=0)
    return jax.lax.fori_loop(0, 3, add, jnp.ones(x.shape[1:]))

print(json.dumps({
    "between": {
        "summed": between(lambda x: x.sum(0), (8, 512, 256), [("data", "fsdp")], []),
        "looped": between(looped, (2, 512, 256), ["data"], []),
        "scattered": between(lambda x: x.sum(0), (2, 512, 256), ["data"], ["data"]),
        "gathered": between(lambda x: x + 1, (512, 256), ["data"], []),
        "all gathered": between(lambda x: x + 1, (512, 256), [("data", "fsdp")], []),
        "exchanged": between(lambda x: x + 1, (512, 256), ["data"], [None, "data"]),
        "passed": between(passed_on, (512, 256), ["data"], ["data"]),
    },
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
    "embedded": report(
        embedded, part((8, 128), jnp.int32), part((8, 128, 512)), out=NamedSharding(rows, OF_ROWS)
    ),
    "largest": report(
        largest, part((32, 1024)), array((65536, 1024)), out=NamedSharding(rows, P("fsdp"))
    ),
    "causal": attended(ModelConfig(**ATTENTION)),
    "bidirectional": attended(ModelConfig(causal=False, **ATTENTION)),
    "window": attended(ModelConfig(**ATTENTION), window=256),
    "narrow": attended(ModelConfig(**ATTENTION), window=256, slots=2048),
    "donated": report(lambda x: x * 2, array((4096, 512), "rows"), out=place("rows"), donate=0),
}))
"""

PART = 4 * 512 * 256  # bytes of a chip's array in the programs that exchange


@pytest.fixture(scope="module")
def everything(run_for_tpu):
    return json.loads(run_for_tpu("-c", PROGRAM).splitlines()[-1])


@pytest.fixture(scope="module")
def found(everything):
    return {name: each for name, each in everything.items() if name != "between"}


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


def test_a_matrix_is_read_whole_by_whatever_name(found):
    table = 2 * 65536 * 1024  # too large for a chip's own memory
    assert table <= found["largest"]["hbm_bytes"] < 1.1 * table


def test_collectives_have_their_kind_axes_and_bytes(found):
    assert found["layers"]["collectives"] == found["batched"]["collectives"] == []
    rows, hidden = ["rows"], ["hidden"]
    assert found["gathered"]["collectives"] == [["all-gather", hidden, 2 * PART, 1]]
    assert found["summed"]["collectives"] == [["all-reduce", rows, PART, 1]]
    assert found["everywhere"]["collectives"] == [["all-reduce", rows + hidden, PART, 1]]
    assert found["scattered"]["collectives"] == [["reduce-scatter", rows, PART, 1]]
    assert found["exchanged"]["collectives"] == [["all-to-all", hidden, PART, 1]]
    assert found["passed"]["collectives"] == [["collective-permute", hidden, PART, 1]]


def test_what_goes_between_slices_is_read_from_what_chips_give_their_hosts(everything):
    between = {name: each["collectives"] for name, each in everything["between"].items()}
    data, fsdp = ["data"], ["fsdp"]
    # Within the slice a chip gets its quarter of the sum, of which it gets the other slice's part.
    assert sorted(between["summed"]) == [
        ["all-gather", fsdp, PART, 1],
        ["all-reduce", data, PART / 4, 1],
        ["reduce-scatter", fsdp, PART, 1],
    ]
    assert between["looped"] == [["all-reduce", data, 3 * PART, 3]]
    assert between["scattered"] == [["reduce-scatter", data, PART, 1]]
    assert between["gathered"] == [["all-gather", data, PART, 1]]
    # An eighth of each chip, and of the quarter that it has then, from the chips beside it.
    assert sorted(between["all gathered"]) == [
        ["all-gather", data, PART / 4, 1],
        ["all-gather", fsdp, PART, 1],
    ]
    assert between["exchanged"] == [["all-to-all", data, PART / 2, 1]]
    assert between["passed"] == [["collective-permute", data, PART / 2, 1]]


def test_gradients_of_embeddings_are_exchanged_by_columns_not_summed_as_tables(found):
    exchanged = {kind: size for kind, _, size, _ in found["embedded"]["collectives"]}
    # A chip's 2 rows of 128 tokens, 512 numbers each, and the numbers of all tokens.
    assert exchanged == {"all-to-all": 2 * 2 * 128 * 512, "all-gather": 4 * 8 * 128}
    assert found["embedded"]["temporaries"] < 4 * 4096 * 512 / 4


def test_kernels_of_attention_count_the_blocks_that_their_masks_compute(found):
    # 2 blocks of 512 queries and of keys; a chip has 2 rows of 4 heads. Three layers, each
    # forward and its gradients: 2 + 4 + 3 products of 512 x 512 pairs and 128 numbers.
    block = 2 * 4 * 512 * 512 * 2 * 128
    assert found["causal"]["flops"] == 3 * 9 * 3 * block
    assert found["bidirectional"]["flops"] == 3 * 9 * 4 * block
    # 256 columns back from the second block lie in the first one: as causal.
    assert found["window"]["flops"] == 3 * 9 * 3 * block
    # Of 4 x 4 blocks those on the diagonal and the ones before them.
    assert found["narrow"]["flops"] == 3 * 9 * 7 * block
