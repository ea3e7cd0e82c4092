"""The noise of members in a network: forward passes, keys, meshes, what is left alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.config import LoRAConfig
from rljax.models.lora import flatten, unflatten
from rljax.objectives.evolution import direction_keys, low_rank_noise, member_signs
from rljax.training.collect.perturbation import UPDATE_CHUNK, Perturbation, perturbed

KEY = jax.random.key(3)
TOKENS = jnp.array([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]])
KERNEL = ("blocks", "attention", "out", "kernel")


@pytest.fixture(scope="module")
def network(tiny_network):
    return tiny_network(attention_bias=True)


@pytest.fixture(scope="module")
def params(network, one_device):
    return network.init(jax.random.key(0), one_device)


def logits(network, params):
    positions = jnp.broadcast_to(jnp.arange(5), TOKENS.shape)
    model = network.bind(params)
    return model.logits(model(TOKENS, positions, jnp.ones_like(TOKENS)).hidden)


def draw(perturbation, members, epoch=0):
    return jax.jit(perturbation.noise)(perturbation.keys(KEY), epoch, jnp.asarray(members))


def of_member(noise, index):
    return {path: leaf[index] for path, leaf in noise.items()}


def explicit(perturbation, params, noise, index):
    """The parameters with E_i built, in float64."""
    leaves = flatten(params)
    for path, leaf in of_member(noise, index).items():
        if path[-1] == "lora_b":
            continue
        change = np.asarray(leaf, np.float64)
        if path[-1] == "lora_a":
            b = np.asarray(noise[(*path[:-1], "lora_b")][index], np.float64)
            path = (*path[:-1], "kernel")
            change = np.stack([np.tensordot(x, y, 1) for x, y in zip(change, b, strict=True)])
        leaves[path] = jnp.asarray(np.asarray(leaves[path], np.float64) + change, jnp.float32)
    return unflatten(leaves)


@pytest.mark.parametrize("vectors", [False, True])
def test_the_implicit_forward_is_that_of_the_explicit_parameters(network, params, vectors):
    """For every member, with the shared matrices not vmapped."""
    perturbation = Perturbation.of(network, sigma=0.3, rank=2, freeze_vectors=not vectors)
    noise = draw(perturbation, [0, 1, 7])

    def member(noise):
        return logits(perturbation.member_network, perturbed(params, noise))

    found = jax.jit(jax.vmap(member))(noise)
    of_all = jax.jit(lambda params: logits(network, params))
    for index in range(3):
        whole = of_all(explicit(perturbation, params, noise, index))
        np.testing.assert_allclose(found[index], whole, rtol=1e-4, atol=1e-5)
    assert np.abs(found[0] - of_all(params)).max() > 0.1


def test_the_products_with_shared_matrices_stay_one(network, params):
    """In the vmapped program no product has the members among its batch axes and a whole kernel."""
    perturbation = Perturbation.of(network, sigma=0.3)

    def member(noise):
        return logits(perturbation.member_network, perturbed(params, noise))

    text = str(jax.make_jaxpr(jax.vmap(member))(draw(perturbation, range(5))))
    width, hidden = network.config.width, network.config.mlp_width
    assert f"f32[5,{width},{hidden}]" not in text and f"f32[5,{hidden},{width}]" not in text


def test_layers_apart_are_perturbed_as_stacked_ones(network, params):
    perturbation = Perturbation.of(network, freeze_vectors=False)
    noise = of_member(draw(perturbation, [2]), 0)
    stacked = jax.jit(perturbed)(params, noise)
    apart = jax.jit(perturbed)(jax.jit(network.unstack)(params), noise)
    again = jax.jit(perturbation.member_network.unstack)(stacked)
    jax.tree.map(np.testing.assert_array_equal, apart, again)


def test_keys_are_split_by_leaf_and_then_by_layer(network):
    """A leaf's noise is that of the functions in objectives/, from its own place in the tree."""
    perturbation = Perturbation.of(network, sigma=0.2, rank=2, noise_reuse=2)
    noise, members = draw(perturbation, [4, 5, 1], epoch=5), jnp.array([4, 5, 1])
    paths = sorted(flatten(network.shapes))
    leaf = jax.random.split(KEY, len(paths))[paths.index(KERNEL)]
    layer = jax.random.split(leaf, network.config.layers)[1]
    keys = direction_keys(layer, 5, members, noise_reuse=2)
    heads, size, width = network.shapes["blocks"]["attention"]["out"]["kernel"].shape[1:]
    expected = low_rank_noise(keys, member_signs(members), heads * size, width, sigma=0.2, rank=2)
    a, b = (noise[(*KERNEL[:-1], name)] for name in ("lora_a", "lora_b"))
    assert a.shape == (3, 2, heads, size, 2) and b.shape == (3, 2, 2, width)
    np.testing.assert_allclose(a[:, 1].reshape(3, -1, 2), expected.inputs, rtol=1e-6)
    np.testing.assert_allclose(b[:, 1], expected.outputs, rtol=1e-6)
    assert (a[:, 0] != a[:, 1]).all()


def test_the_gradient_is_the_weighed_sum_of_the_explicit_noise(network, params):
    """With more members than one chunk; matrices and vectors."""
    count = UPDATE_CHUNK + 6
    perturbation = Perturbation.of(network, sigma=0.3, freeze_vectors=False)
    fitness = np.random.default_rng(0).normal(size=count).astype(np.float32)
    keys = perturbation.keys(KEY)
    found = flatten(jax.jit(perturbation.gradient)(keys, 4, jnp.asarray(fitness)))
    noise = {path: np.asarray(x, float) for path, x in draw(perturbation, range(count), 4).items()}
    weights = -fitness.astype(float) / np.sqrt(count)
    for path in (KERNEL, ("final_norm", "scale"), ("blocks", "attention", "query", "bias")):
        if path == KERNEL:
            a, b = (noise[(*path[:-1], name)] for name in ("lora_a", "lora_b"))
            expected = np.einsum("n,nlhsr,nlrw->lhsw", weights, a, b)
        else:
            expected = np.einsum("n,n...->...", weights, noise[path])
        np.testing.assert_allclose(found[path], expected, rtol=1e-4, atol=1e-5)
    for path in (("embedding",),):
        assert not found[path].any()
    assert found.keys() == flatten(params).keys()


def test_noise_and_gradient_do_not_depend_on_the_mesh(network, one_device, mesh_2x2x2):
    modules = ("query", "out", "down")
    perturbation = Perturbation.of(network, sigma=0.3, modules=modules)
    fitness, results = np.linspace(-1, 1, 8, dtype=np.float32), []
    for mesh in (one_device, mesh_2x2x2):
        with jax.set_mesh(mesh):
            rows = jax.NamedSharding(mesh, jax.P(("data", "fsdp")))
            members, placed = (jax.device_put(x, rows) for x in (np.arange(8), fitness))
            keys = perturbation.keys(KEY)
            noise = jax.jit(perturbation.noise, out_shardings=rows)(keys, 2, members)
            update = jax.jit(perturbation.gradient, out_shardings=network.shardings(mesh))
            results.append(jax.device_get((noise, update(keys, 2, placed))))
    (noise, gradient), (spread_noise, spread_gradient) = results
    jax.tree.map(np.testing.assert_array_equal, noise, spread_noise)

    def close(a, b):
        return np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)

    jax.tree.map(close, gradient, spread_gradient)


def test_only_the_named_modules_are_perturbed(network):
    perturbation = Perturbation.of(network, modules=("query", "down"))
    assert {path[-2] for path in perturbation.matrices} == {"query", "down"}
    assert perturbation.vector_paths == []
    everything = Perturbation.of(network, freeze_vectors=False)
    assert len(everything.matrices) == 7
    names = {path[-2:] for path in everything.vector_paths}
    assert ("final_norm", "scale") in names and ("query", "bias") in names


def test_the_first_members_of_a_group_may_have_no_noise(network):
    perturbation = Perturbation.of(network, unperturbed=2, group_size=4)
    noise = draw(perturbation, range(8))[(*KERNEL[:-1], "lora_b")]
    moved = np.abs(noise).reshape(8, -1).max(axis=1) > 0
    assert moved.tolist() == [False, False, True, True] * 2


@pytest.mark.parametrize(
    "changes, fields, message",
    [
        (dict(lora=LoRAConfig(rank=1, alpha=1)), {}, "config.model.lora.rank"),
        (dict(decode_attention="ragged"), {}, "config.model.decode_attention"),
        ({}, dict(modules=("queri",)), r"\['queri'\].*config.<stage>.objective.modules"),
        (
            dict(experts=2, experts_per_token=1, expert_width=4),
            {},
            "experts.*leave out gate, up and down.*config.<stage>.objective.modules",
        ),
    ],
)
def test_what_cannot_be_perturbed_is_refused(tiny_network, changes, fields, message):
    with pytest.raises(ValueError, match=message):
        Perturbation.of(tiny_network(**changes), **fields)
