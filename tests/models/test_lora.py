"""Adapters: which leaves are whose, no-ops, merging, scales, and LoRA-SB's bases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.config import LoRAConfig
from rljax.models.lora import (
    adapters_are_zero,
    check_rank,
    combine,
    drop_adapters,
    flatten,
    merge_adapters,
    merged_kernel,
    projections,
    silver_bullet,
    split_frozen,
    split_held,
    unflatten,
    without_adapters,
)

LORA = LoRAConfig(rank=4, alpha=8)
TOKENS = jnp.array([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])


def logits(network, params):
    positions = jnp.broadcast_to(jnp.arange(5), TOKENS.shape)
    model = network.bind(params)
    return model.logits(model(TOKENS, positions, jnp.ones_like(TOKENS)).hidden)


def drawn(network, mesh, seed=0):
    """Parameters whose adapters are not zero."""
    leaves = flatten(network.init(jax.random.key(seed), mesh))
    for index, (path, leaf) in enumerate(sorted(leaves.items())):
        if path[-1] in ("lora_b", "lora_r"):
            noise = jax.random.normal(jax.random.key(100 + index), leaf.shape, leaf.dtype)
            leaves[path] = jax.device_put(0.3 * noise, leaf.sharding)
    return unflatten(leaves)


# --- the parts of a tree -------------------------------------------------------------------------


def test_everything_is_trained_without_adapters(tiny_network, one_device):
    params = tiny_network().init(jax.random.key(0), one_device)
    state, frozen = split_frozen(params)
    assert frozen == {} and split_held(state) == (params, {})


def test_leaves_of_each_kind(tiny_network):
    for kind, trained in (("lora", {"lora_a", "lora_b"}), ("lora_sb", {"lora_r"})):
        lora = LoRAConfig(rank=2, alpha=2, kind=kind, modules=("query", "down"))
        network = tiny_network(lora=lora, head="value", head_bias=True)
        state, frozen = split_frozen(network.shapes)
        optimised, held = split_held(state)

        def names(tree):
            return {path[-1] for path in flatten(tree)}

        assert names(optimised) == trained | {"head", "head_bias"}
        assert names(held) == (set() if kind == "lora" else {"lora_a", "lora_b"})
        assert names(frozen) == {"embedding", "kernel", "scale"}
        paths = [("blocks", "attention", "query"), ("blocks", "mlp", "down")]
        assert sorted(projections(network)) == paths
        assert flatten(combine(optimised, held, frozen)) == flatten(network.shapes)


def test_a_balancing_bias_is_part_of_the_state_but_not_of_the_optimizer():
    tree = {"blocks": {"mlp": {"router": 1, "router_bias": 2}}, "embedding": 3}
    assert split_frozen(tree) == (tree, {})
    assert split_held(tree)[1] == {"blocks": {"mlp": {"router_bias": 2}}}
    tree["blocks"]["attention"] = {"query": {"kernel": 4, "lora_a": 5, "lora_b": 6}}
    state, frozen = split_frozen(tree)
    assert set(flatten(state).values()) == {2, 5, 6} and set(flatten(frozen).values()) == {1, 3, 4}


def test_two_trees_with_the_same_leaf_do_not_join():
    with pytest.raises(ValueError, match="Two trees hold a.b"):
        combine({"a": {"b": 1}}, {"a": {"b": 2}})


# --- forward and merge ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["lora", "lora_sb"])
def test_zero_adapters_change_no_bit_and_share_the_base(kind, tiny_network, one_device):
    network = tiny_network(lora=LoRAConfig(rank=4, alpha=8, kind=kind))
    params = network.init(jax.random.key(0), one_device)
    bare, base = without_adapters(network), drop_adapters(params)
    fresh = bare.init(jax.random.key(0), one_device)
    assert adapters_are_zero(params) and not adapters_are_zero(drawn(network, one_device))
    jax.tree.map(np.testing.assert_array_equal, base, fresh)
    np.testing.assert_array_equal(logits(network, params), logits(bare, base))

    def pointers(tree):
        return {path: leaf.unsafe_buffer_pointer() for path, leaf in flatten(tree).items()}

    assert pointers(base).items() <= pointers(params).items()


@pytest.mark.parametrize("kind", ["lora", "lora_sb"])
def test_merged_equals_unmerged_and_holds_one_model(kind, tiny_network, one_device):
    lora = LoRAConfig(rank=4, alpha=8, kind=kind, rank_stabilised=kind == "lora")
    network = tiny_network(lora=lora, query_key_norm="head", attention_bias=True)
    params = drawn(network, one_device)
    expected = logits(network, params)
    kernels = [leaf for path, leaf in flatten(params).items() if path[-1] == "kernel"]
    merged, plain = merge_adapters(network, params)
    assert all(kernel.is_deleted() for kernel in kernels)
    assert flatten(plain).keys() == flatten(merged.shapes).keys()
    np.testing.assert_allclose(logits(merged, plain), expected, atol=1e-5)
    assert jnp.abs(expected - logits(merged, merged.init(jax.random.key(0), one_device))).max() > 1


def test_merging_on_a_mesh_keeps_the_sharding(tiny_network, one_device, mesh_2x2x2):
    network = tiny_network(lora=LORA)
    _, expected = merge_adapters(network, drawn(network, one_device))
    merged, found = merge_adapters(network, drawn(network, mesh_2x2x2))
    for path, leaf in flatten(found).items():
        np.testing.assert_allclose(leaf, flatten(expected)[path], rtol=0, atol=1e-6)
        wanted = flatten(merged.shardings(mesh_2x2x2))[path]
        assert leaf.sharding.is_equivalent_to(wanted, leaf.ndim), path


def test_a_merged_bfloat16_matrix_is_rounded_once():
    rng = np.random.default_rng(0)
    kernel, a, b = (
        jnp.asarray(rng.normal(size=s), jnp.bfloat16) for s in ((1, 32, 24), (1, 32, 4), (1, 4, 24))
    )
    found = merged_kernel(kernel, a, b, scale=0.37)
    exact = [np.asarray(x, np.float64)[0] for x in (kernel, a, b)]
    whole = jnp.asarray(exact[0] + 0.37 * exact[1] @ exact[2], jnp.bfloat16)
    # Float32 sums may fall on the other side of a tie, in a number or two of 768.
    assert np.mean(np.asarray(found[0] != whole)) < 3 / 768


@pytest.mark.parametrize("rank_stabilised, constant", [(True, True), (False, False)])
def test_only_rank_stabilised_adapters_keep_their_size_over_ranks(rank_stabilised, constant):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 256))
    deviations = []
    for rank in (4, 16, 64):
        scale = LoRAConfig(rank=rank, alpha=8, rank_stabilised=rank_stabilised).scale
        a, b = rng.normal(size=(1, 256, rank)), rng.normal(size=(1, rank, 256))
        kernel = merged_kernel(
            jnp.zeros((1, 256, 256)), jnp.asarray(a), jnp.asarray(b), scale=scale
        )
        deviations.append(float(np.std(x @ np.asarray(kernel[0]))))
    ratios = np.array(deviations) / deviations[0]
    np.testing.assert_allclose(ratios, [1, 1, 1] if constant else [1, 1 / 2, 1 / 4], rtol=0.1)


# --- LoRA-SB -------------------------------------------------------------------------------------


@pytest.fixture
def gradient():
    values = np.random.default_rng(0).normal(size=(12, 4, 5))
    values[3, 2, 1] = 0.0
    return jnp.asarray(values)


def product(leaves, scale):
    a, r, b = (np.asarray(leaves[f"lora_{name}"], np.float64) for name in "arb")
    return scale * a.reshape(-1, a.shape[-1]) @ r @ b.reshape(len(b), -1)


def test_bases_are_orthonormal_and_the_step_is_best_of_its_rank(gradient):
    step = -1e-3 * np.sign(np.asarray(gradient)).reshape(12, 20)
    sizes = np.linalg.svd(step, compute_uv=False)
    for rank in (1, 5, 12):
        leaves = silver_bullet(gradient, 1, rank, step_size=1e-3, scale=2.0)
        a, b = leaves["lora_a"], leaves["lora_b"].reshape(rank, -1)
        assert leaves["lora_b"].shape == (rank, 4, 5)
        np.testing.assert_allclose(a.T @ a, np.eye(rank), atol=1e-5)
        np.testing.assert_allclose(b @ b.T, np.eye(rank), atol=1e-5)
        # Eckart and Young: what is left is what the smaller singular values hold.
        error = np.linalg.norm(step - product(leaves, 2.0))
        np.testing.assert_allclose(error, np.linalg.norm(sizes[rank:]), rtol=1e-4, atol=1e-8)


def test_a_step_on_r_is_the_projected_gradient(gradient):
    """One SGD step changes W by -lr A A^T g B^T B; with every direction that is -lr g."""
    rng = np.random.default_rng(1)
    w = jnp.asarray(rng.normal(size=(1, 12, 20)))
    x, y = jnp.asarray(rng.normal(size=(30, 12))), jnp.asarray(rng.normal(size=(30, 20)))

    def loss(w):
        return jnp.sum((x @ w[0] - y) ** 2)

    for rank in (3, 12):
        leaves = silver_bullet(gradient.reshape(12, 20), 1, rank, step_size=1e-3, scale=1.0)
        a, b, r = (leaves[f"lora_{name}"][None] for name in "abr")

        def of_r(r, a=a, b=b):
            return merged_kernel(w, a, b, r, scale=1.0)

        moved = of_r(r - 0.1 * jax.grad(lambda r, of_r=of_r: loss(of_r(r)))(r))
        g = np.asarray(jax.grad(loss)(of_r(r)))[0]
        projected = a[0] @ a[0].T @ g @ b[0].T @ b[0]
        np.testing.assert_allclose((moved - of_r(r))[0], -0.1 * projected, rtol=1e-3, atol=1e-3)
        if rank == 12:  # complete on the side of the inputs: only rows of B's space can move
            np.testing.assert_allclose(projected, g @ b[0].T @ b[0], rtol=1e-3, atol=1e-3)


def test_full_rank_is_full_fine_tuning(gradient):
    """Square, all directions: training R by gradient descent is training W, step for step."""
    rng = np.random.default_rng(1)
    square = gradient.reshape(12, 20)[:, :12]
    w = jnp.asarray(rng.normal(size=(1, 12, 12)))
    x, y = jnp.asarray(rng.normal(size=(30, 12))), jnp.asarray(rng.normal(size=(30, 12)))

    def loss(w):
        return jnp.mean((x @ w[0] - y) ** 2)

    leaves = silver_bullet(square, 1, 12, step_size=1e-3, scale=1.0)
    a, b, r = (leaves[f"lora_{name}"][None] for name in "abr")
    full = merged_kernel(w, a, b, r, scale=1.0)
    np.testing.assert_allclose(full[0], w[0] - 1e-3 * np.sign(square), atol=1e-5)
    for _ in range(5):
        full = full - 0.1 * jax.grad(loss)(full)
        r = r - 0.1 * jax.grad(lambda r: loss(merged_kernel(w, a, b, r, scale=1.0)))(r)
    np.testing.assert_allclose(merged_kernel(w, a, b, r, scale=1.0), full, atol=1e-5)


def test_more_directions_than_a_matrix_has_are_refused(tiny_network):
    check_rank(tiny_network(lora=LoRAConfig(rank=16, alpha=1, kind="lora_sb")))
    check_rank(tiny_network(lora=LoRAConfig(rank=17, alpha=1)))
    with pytest.raises(ValueError, match="rank=17 .*config.model.lora.rank"):
        check_rank(tiny_network(lora=LoRAConfig(rank=17, alpha=1, kind="lora_sb")))
