"""TrainState: zero counters, and one structure for live, abstract and sharded trees."""

import jax
import jax.numpy as jnp
import optax

from rljax.training.update.optimizers import OPTIMIZERS
from rljax.training.update.state import abstract_state, create_state, state_shardings


def test_first_state_counts_from_zero_and_owns_its_buffers(tiny_network, one_device):
    network, optimizer = tiny_network(), optax.adamw(1e-3)
    shardings = state_shardings(network, optimizer, one_device)
    state = create_state(network.init(jax.random.key(0), one_device), optimizer, shardings)
    scalars = (state.updates, state.skipped, state.skipped_in_a_row)
    assert all(value == 0 for value in scalars)
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    assert len(set(buffers)) == len(buffers)  # else donation would delete one twice


def test_live_and_abstract_state_agree_for_every_optimizer(tiny_network, mesh_2x2x2):
    for param_dtype in ("float32", "bfloat16"):
        network = tiny_network(param_dtype=param_dtype)
        for name, build in OPTIMIZERS.items():
            optimizer = optax.chain(optax.clip_by_global_norm(1.0), build(lambda count: 1e-3))
            shardings = state_shardings(network, optimizer, mesh_2x2x2)
            abstract = abstract_state(network, optimizer, shardings)
            live = jax.eval_shape(
                lambda params, optimizer=optimizer, shardings=shardings: create_state(
                    params, optimizer, shardings
                ),
                network.shapes,
            )
            same = jax.tree.map(
                lambda a, b: a.shape == b.shape and a.dtype == b.dtype, live, abstract
            )
            assert all(jax.tree.leaves(same)), name
            for leaf in jax.tree.leaves(abstract.optimizer_state):
                assert leaf.dtype != jnp.bfloat16, f"{name} keeps a moment in bfloat16"
