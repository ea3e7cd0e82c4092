"""The rule table, and that it really splits parameters, moments and rows."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import (
    RULES,
    batch_sharding,
    constrain,
    partition_spec,
    put_rows,
    rows_divisor,
    slots_are_split,
)
from rljax.training.update.state import abstract_state, create_state, state_shardings

# vocab 13 is padded to 16; width 16, heads 4, kv_heads 2, head_dim 8, MLP 24, 2 layers.
SHARDS_2X2X2 = {
    "embedding": (8, 8),
    "output": (8, 8),
    "query": (2, 8, 2, 8),
    "key": (2, 8, 1, 8),
    "value": (2, 8, 1, 8),
    "out": (2, 2, 8, 8),
    "gate": (2, 8, 12),
    "up": (2, 8, 12),
    "down": (2, 12, 8),
}


def test_rules_name_only_axes_of_the_mesh(mesh_2x2x2):
    for target in RULES.values():
        axes = (target,) if isinstance(target, str) else target or ()
        assert set(axes) <= set(mesh_2x2x2.shape)


def test_partition_spec_by_hand():
    spec = partition_spec(("layers", "embed", "heads", "head_dim"))
    assert spec == PartitionSpec(None, "fsdp", "tensor", None)
    assert partition_spec(("batch", None)) == PartitionSpec(("data", "fsdp", "expert"), None)


def test_unknown_logical_axis_is_named():
    with pytest.raises(ValueError, match=r"Unknown logical axes \['hedas'\].*heads"):
        partition_spec(("layers", "hedas"))


def test_parameters_and_moments_are_really_split(tiny_network, mesh_2x2x2):
    network = tiny_network(tied_embeddings=False)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    shardings = state_shardings(network, optimizer, mesh_2x2x2)
    state = create_state(network.init(jax.random.key(0), mesh_2x2x2), optimizer, shardings)
    adam = state.optimizer_state[1][0]
    for tree in (state.params, adam.mu, adam.nu):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            name = path[-2].key if path[-1].key == "kernel" else path[-1].key
            expected = SHARDS_2X2X2.get(name, leaf.shape)  # norm scales: every device holds all
            shapes = {shard.data.shape for shard in leaf.addressable_shards}
            assert len(leaf.addressable_shards) == 8 and shapes == {expected}, name
    assert adam.count.sharding.is_fully_replicated
    # What a checkpoint is restored into has the same shapes, types and places.
    abstract = abstract_state(network, optimizer, shardings)
    jax.tree.map(
        lambda a, b: (
            np.testing.assert_equal((a.shape, a.dtype), (b.shape, b.dtype)),
            np.testing.assert_(a.sharding.is_equivalent_to(b.sharding, a.ndim)),
        ),
        state,
        abstract,
    )


def test_rows_are_split_over_the_axes_of_batch(mesh_2x2x2):
    assert rows_divisor(mesh_2x2x2) == 4
    rows = put_rows({"a": np.arange(24).reshape(8, 3), "b": np.arange(8.0)}, mesh_2x2x2)
    assert {shard.data.shape for shard in rows["a"].addressable_shards} == {(2, 3)}
    assert {shard.data.shape for shard in rows["b"].addressable_shards} == {(2,)}
    np.testing.assert_array_equal(rows["a"], np.arange(24).reshape(8, 3))


def test_constrain_pins_inside_jit_and_is_free_without_a_mesh(mesh_2x2x2):
    f = jax.jit(lambda x: constrain(x * 2, "batch", "sequence"))
    np.testing.assert_array_equal(f(jnp.ones((4, 3))), 2)
    whole = jax.device_put(jnp.ones((4, 3)), batch_sharding(mesh_2x2x2).update(spec=()))
    with jax.set_mesh(mesh_2x2x2):
        out = jax.jit(constrain, static_argnums=(1, 2))(whole, "batch", "sequence")
    assert {shard.data.shape for shard in out.addressable_shards} == {(1, 3)}


def test_slots_are_split_over_context_only_where_the_mesh_has_it(mesh_2x2x2):
    assert not slots_are_split()
    with jax.set_mesh(mesh_2x2x2):
        assert not slots_are_split()
    with jax.set_mesh(make_mesh({"context": 2, "expert": 4})):
        assert slots_are_split()
        out = jax.jit(lambda x: constrain(x, "batch", "sequence"))(jnp.ones((8, 6)))
    assert {shard.data.shape for shard in out.addressable_shards} == {(2, 3)}
