"""What the backward pass recomputes or offloads changes memory only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.config import REMAT
from tests.flags import FUSIONS, knows_flag

# As users compile it: the compiler that is quicker for tests rounds recomputed values otherwise.
# jaxlib that does not know the option compiles so anyway.
OPTIONS = {FUSIONS: True} if knows_flag(FUSIONS, "true") else None


@pytest.fixture(scope="module")
def compiled(tiny_network, one_device):
    """{policy: (gradient, bytes held between the passes)} of three layers."""
    found = {}
    for remat in REMAT:
        network = tiny_network(remat=remat, layers=3, sliding_window=4, global_every=2)
        params = network.init(jax.random.key(0), one_device)
        positions = jnp.tile(jnp.arange(12), (2, 1))

        def loss(params, network=network, positions=positions):
            model = network.bind(params)
            return jnp.sin(model(positions, positions, jnp.ones_like(positions)).hidden).sum()

        program = jax.jit(jax.grad(loss)).lower(params).compile(OPTIONS)
        found[remat] = program(params), program.memory_analysis().temp_size_in_bytes
    return found


@pytest.mark.parametrize("remat", [name for name in REMAT if name != "none"])
def test_gradients_are_equal(compiled, remat):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
        compiled[remat][0],
        compiled["none"][0],
    )


def test_each_policy_holds_less_than_the_one_before(compiled):
    held = {remat: size for remat, (_, size) in compiled.items()}
    assert held["full"] < held["dots"] < held["none"]
    assert held["offload"] <= held["full"]  # a CPU's host memory is its device memory
