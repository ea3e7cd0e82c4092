"""The engine: buckets and shards, the sampler's copy of the weights, precisions, other meshes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.quantize import Quantised
from rljax.parallel.mesh import make_mesh
from rljax.sampling.engine import Engine, bucket, fill_rows, in_bucket
from rljax.sampling.weights import sampling_network, sampling_weights
from rljax.training.update.logprobs import make_score, model_rows
from rljax.training.update.rows import rollout_rows
from tests.sampling.tiny import (
    KEY,
    config_of,
    network_of,
    one_device,
    params_of,
    requests_of,
    sample,
    take,
)


def answer(engine, params, requests, step=4):
    return engine.sample(engine.load(params), requests, key=KEY, step=step)


def check_same(found, expected):
    for name in ("tokens", "mask", "stop_reason"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
    np.testing.assert_allclose(found.logprobs, expected.logprobs, rtol=0, atol=1e-5)


# --- shapes --------------------------------------------------------------------------------------


def test_buckets():
    lengths = (1, 16, 17, 24, 25, 32, 33, 48, 49, 64, 65, 96, 97, 1000)
    expected = (16, 16, 24, 24, 32, 32, 48, 48, 64, 64, 96, 96, 128, 1024)
    assert tuple(map(bucket, lengths)) == expected
    for length in range(17, 3000, 7):
        assert length <= bucket(length) < 1.5 * length


def test_prompts_are_moved_into_the_bucket_of_the_longest():
    requests = requests_of((3, 17, 1))
    padded = in_bucket(requests)
    assert padded.prompts.shape == (3, 24)
    wide = in_bucket(requests_of((3, 17, 1), slots=90))  # much padding is cut off
    for found in (padded, wide):
        np.testing.assert_array_equal(found.prompt_mask.sum(axis=1), [3, 17, 1])
        own = found.prompts[found.prompt_mask]
        np.testing.assert_array_equal(own, requests.prompts[requests.prompt_mask])
        assert (found.prompt_mask == np.sort(found.prompt_mask, axis=1)).all()


def test_missing_rows_are_copies_of_the_last():
    requests = requests_of((3, 5), temperature=np.float32([[1, 2], [3, 4]]))
    filled = fill_rows(requests, 4)
    for array, before in zip(jax.tree.leaves(filled), jax.tree.leaves(requests), strict=True):
        np.testing.assert_array_equal(array, before[[0, 1, 1, 1]])
    assert fill_rows(requests, 2) is requests


@functools.cache
def shared_engine():
    return Engine(network_of(), config_of(), one_device())


def test_one_program_for_each_bucket_and_number_of_prompts(compilations):
    engine = Engine(network_of(), config_of(), one_device())
    weights = engine.load(params_of(network_of()))

    def compiled(lengths, step=0, slots=0):
        with compilations() as programs:
            engine.sample(weights, requests_of(lengths, slots=slots), key=KEY, step=step)
        return programs.count("jit(sample)")

    assert compiled((1, 6, 3, 4)) == 1
    assert compiled((16, 1, 1, 1), step=1) == 0
    assert compiled((2, 2, 2, 2), step=2, slots=40) == 0
    assert compiled((1, 6, 3, 24)) == 1
    assert compiled((17, 1, 1, 1)) == 0


def test_answers_do_not_depend_on_the_bucket():
    expected = sample(network_of(), params_of(network_of()), config_of(), requests_of())
    check_same(answer(shared_engine(), params_of(network_of()), requests_of()), expected)
    longer = answer(shared_engine(), params_of(network_of()), requests_of((1, 6, 3, 20)))
    check_same(*(jax.tree.map(lambda x: x[:3], rollouts) for rollouts in (longer, expected)))


# --- meshes and weights --------------------------------------------------------------------------


def test_three_prompts_on_a_mesh_of_its_own():
    """Trained on 2 x 2 x 2, sampled on fsdp = 4, tensor = 2, where weights are not gathered."""
    network, config = network_of(), config_of(slots=8, refill_every=2)
    expected = sample(network, params_of(network), config_of(), requests_of())
    trained = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    params = jax.device_put(params_of(network), network.shardings(trained))
    own = make_mesh({"fsdp": 4, "tensor": 2})
    engine = Engine(network, config, own, gather_weights=False)
    found = answer(engine, params, take(requests_of(), slice(3)))
    assert found.tokens.shape == (3, 3, 7) and isinstance(found.tokens, np.ndarray)
    check_same(found, jax.tree.map(lambda x: x[:3], expected))


def test_a_key_of_the_trainers_mesh_is_as_good_as_any():
    """Made where that mesh is set, as everything of a run is."""
    network, requests = network_of(), requests_of((3, 1))
    trained, own = make_mesh({"data": 2, "fsdp": 2, "tensor": 2}), make_mesh({"data": 8})
    engine = Engine(network, config_of(), own)
    params = jax.device_put(params_of(network), network.shardings(trained))
    with jax.set_mesh(trained):
        key = jax.random.fold_in(jax.random.key(0), 1)
        found = engine.sample(engine.load(params), requests, key=key, step=4)
    expected = engine.sample(
        engine.load(params), requests, key=jax.random.fold_in(jax.random.key(0), 1), step=4
    )
    check_same(found, expected)


@pytest.mark.parametrize("gather", [True, False])
def test_where_weights_lie(gather):
    network, mesh = network_of(layers=2), make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    params = jax.device_put(params_of(network), network.shardings(mesh))
    engine = Engine(network, config_of(), mesh, weights="int8", gather_weights=gather)
    weights = engine.load(params)
    assert isinstance(weights["blocks"], tuple) and len(weights["blocks"]) == 2
    up = weights["blocks"][1]["mlp"]["up"]["kernel"]  # [width over fsdp, hidden over tensor]
    assert isinstance(up, Quantised) and up.codes.dtype == jnp.int8
    shard = up.codes.sharding.shard_shape(up.codes.shape)
    assert shard == ((16, 12) if gather else (8, 12))
    norm = weights["blocks"][0]["mlp_norm"]["scale"]
    np.testing.assert_array_equal(norm, params["blocks"]["mlp_norm"]["scale"][0])
    np.testing.assert_array_equal(weights["output"], params["output"])
    again = engine.load(jax.tree.map(lambda x: x + 1, params))
    np.testing.assert_array_equal(again["output"], params["output"] + 1)


def test_quantised_matrices_are_near_and_bfloat16_is_a_cast():
    network = network_of(layers=2)
    params = params_of(network)
    exact = network.unstack(params)
    rough = jax.jit(lambda params: sampling_weights(network, params, "int8"))(params)
    kernel = exact["blocks"][1]["attention"]["out"]["kernel"]  # [heads, h, width]
    found = rough["blocks"][1]["attention"]["out"]["kernel"]
    largest = np.abs(kernel).max(axis=(0, 1))  # one scale for each output
    assert found.scale.shape == (1, 1, 16)
    error = np.abs(found.astype(jnp.float32) - kernel)
    assert (error <= 0.501 * largest / 127.5).all() and error.max() > 0
    np.testing.assert_array_equal(rough["embedding"], exact["embedding"])
    half = sampling_weights(network, params, "bfloat16")
    for one, other in zip(jax.tree.leaves(half), jax.tree.leaves(exact), strict=True):
        assert one.dtype == jnp.bfloat16
        np.testing.assert_array_equal(one, other.astype(jnp.bfloat16))
    half = sampling_network(network, "bfloat16").config
    assert (half.dtype, half.param_dtype) == ("bfloat16", "bfloat16")
    assert sampling_network(network, "int8") is network


# --- precision -----------------------------------------------------------------------------------

# Largest error of the log-probabilities of 250 sampled tokens, as measured; they may double. The
# logits are sharp and sums are over 16 numbers: errors of larger networks are averaged away.
MEASURED = {"int8 weights": 0.15, "int8 cache": 0.05, "bfloat16 weights": 0.05, "bfloat16": 0.05}


@functools.cache
def jit_score(network):
    return jax.jit(make_score(network, config_of().token_filter, micro_batches=1))


def scored(network, params, requests, rollouts):
    """The trainer's log-probabilities of sampled tokens."""
    rows = rollout_rows(
        requests.prompts,
        requests.prompt_mask,
        rollouts.tokens,
        rollouts.mask,
        share_prompts=False,
    )
    found = np.asarray(jit_score(network)(params, model_rows(rows)))
    return np.where(rows["mask"], found, 0).reshape(rollouts.tokens.shape)


@pytest.mark.parametrize(
    "name, weights, cache",
    [
        ("int8 weights", "int8", ""),
        ("int8 cache", "", "int8"),
        ("bfloat16 weights", "bfloat16", ""),
    ],
)
def test_fewer_bits_cost_little_precision(name, weights, cache):
    """Against the float32 trainer."""
    network, requests = network_of(layers=2), requests_of()
    params = params_of(network)
    config = config_of(samples_per_prompt=10, cache_dtype=cache, slots=12, refill_every=2)
    engine = Engine(network, config, one_device(), weights=weights)
    rollouts = answer(engine, params, requests)
    gap = np.abs(rollouts.logprobs - scored(network, params, requests, rollouts))
    assert 0 < gap.max() < 2 * MEASURED[name], (name, gap.max())
    assert 1e-6 < gap[rollouts.mask].mean() < gap.max() / 2


def test_a_bfloat16_policy_and_its_trainer():
    """Both compute in bfloat16, in another order."""
    network, requests = network_of(layers=2, dtype="bfloat16"), requests_of()
    params = params_of(network)
    config = config_of(samples_per_prompt=10, slots=12, refill_every=2)
    rollouts = sample(network, params, config, requests)
    gap = np.abs(rollouts.logprobs - scored(network, params, requests, rollouts))
    assert 0 < gap.max() < 2 * MEASURED["bfloat16"], gap.max()
