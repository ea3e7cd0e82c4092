"""The engine with masked diffusion: the same requests and results, buckets, meshes."""

import jax
import numpy as np
import pytest

from rljax.sampling.automaton import allowed_tokens_automaton
from rljax.sampling.diffusion import make_diffusion_sampler
from rljax.sampling.diffusion_config import DiffusionConfig
from rljax.sampling.engine import Engine
from rljax.sampling.request import Requests, StopReason

CONFIG = DiffusionConfig(
    samples_per_prompt=2,
    max_new_tokens=6,
    block_tokens=3,
    steps=4,
    mask_token=12,
    stop_tokens=(2,),
    pad_token=0,
    temperature=0.8,
)


def requests(count=3):
    lengths = np.array([4, 1, 3])[:count]
    rng = np.random.default_rng(0)
    prompts = rng.integers(3, 12, (count, 5)).astype(np.int32)
    mask = np.arange(5) >= 5 - lengths[:, None]
    return Requests(prompts, mask, np.arange(count, dtype=np.int32))


def rollouts(network, mesh, weights=""):
    engine = Engine(network, CONFIG, mesh, weights=weights)
    with jax.set_mesh(mesh):
        loaded = engine.load(network.init(jax.random.key(3), mesh))
    return engine.sample(loaded, requests(), key=jax.random.key(1), step=7)


def test_the_engine_answers_as_the_pure_function_does(tiny_network, one_device):
    network = tiny_network(causal=False)
    found = rollouts(network, one_device)
    assert found.tokens.shape == (3, 2, 6)
    # Lengths are padded to a bucket, and the number of prompts is left as it is.
    sample = jax.jit(make_diffusion_sampler(network, CONFIG))
    params = network.init(jax.random.key(3), one_device)
    expected = sample(params, jax.tree.map(jax.numpy.asarray, requests()), jax.random.key(1), 7)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.logprobs, expected.logprobs, rtol=0, atol=1e-5)
    ended = found.stop_reason == StopReason.STOP_TOKEN
    assert (found.mask.sum(axis=-1) == 6)[~ended].all()


def test_three_prompts_on_eight_devices(tiny_network, one_device, mesh_2x2x2):
    network = tiny_network(causal=False)
    expected, found = rollouts(network, one_device), rollouts(network, mesh_2x2x2)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.logprobs, expected.logprobs, rtol=0, atol=1e-5)


def test_int8_weights_move_the_logprobs_a_little(tiny_network, one_device):
    network = tiny_network(causal=False)
    exact, rough = (rollouts(network, one_device, weights) for weights in ("", "int8"))
    same = (exact.tokens == rough.tokens).all(axis=(0, 2))
    gap = np.abs(exact.model_logprobs - rough.model_logprobs)[:, same]
    assert same.any() and 0 < gap.max() < 0.05


def test_what_diffusion_never_reads_is_refused(tiny_network, one_device):
    network = tiny_network(causal=False)
    automaton = allowed_tokens_automaton([3], 13)
    with pytest.raises(ValueError, match="never reads constraint"):
        Engine(network, CONFIG, one_device, constraint=automaton)
    engine = Engine(network, CONFIG, one_device)
    weights = engine.load(network.init(jax.random.key(3), one_device))
    for field, value, message in [
        ("temperature", np.full((3, 2), -1.0, np.float32), "temperature must be finite and >= 0"),
        ("continued", np.array([1, 0, 0]), "continued must be None for masked diffusion"),
    ]:
        asked = requests()._replace(**{field: value})
        with pytest.raises(ValueError, match=message):
            engine.sample(weights, asked, key=jax.random.key(1), step=0)
    greedy = np.array([[0.0, 1.0]] * 3, np.float32)  # some rows, which is no error
    asked = requests()._replace(temperature=greedy)
    found = engine.sample(weights, asked, key=jax.random.key(1), step=0)
    assert (found.entropy[:, 0] == 0).all() and (found.entropy[:, 1].sum(axis=-1) > 0).all()
    with pytest.raises(ValueError, match="causal=True"):
        Engine(tiny_network(), CONFIG, one_device)
