"""Every member answers as a plain sampler with its own explicit parameters would."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.lora import merge_adapters
from rljax.sampling.config import SamplingConfig
from rljax.sampling.distribution import TokenFilter
from rljax.sampling.engine import Engine
from rljax.sampling.request import Requests
from rljax.training.collect.perturbation import Perturbation, perturbed
from rljax.training.collect.population import Population

KEY, EPOCH = jax.random.key(3), 5
GROUP, EACH, SLOTS = 4, 2, 6
LENGTHS = np.array([1, 6, 3, 4])
CONFIG = SamplingConfig(
    samples_per_prompt=1,
    max_new_tokens=4,
    stop_tokens=(2,),
    pad_token=0,
    token_filter=TokenFilter(forbidden_tokens=(7,)),
)


@pytest.fixture(scope="module")
def network(tiny_network):
    return tiny_network(layers=1, tied_embeddings=False)


@pytest.fixture(scope="module")
def params(network, one_device):
    """Parameters whose greedy choices differ from member to member."""
    params = network.init(jax.random.key(1), one_device)
    return {**params, "output": params["output"] * 3}


@pytest.fixture(scope="module")
def requests():
    tokens = np.random.default_rng(0).integers(0, 13, (4, SLOTS)).astype(np.int32)
    mask = np.arange(SLOTS) >= SLOTS - LENGTHS[:, None]
    return Requests(tokens, mask, np.arange(4, dtype=np.int32))


@pytest.fixture(scope="module")
def answers(network, params, requests):
    """answers(mesh, **fields) -> rollouts of a population, and its perturbation."""

    @functools.cache
    def run(mesh, **fields):
        perturbation = Perturbation.of(network, sigma=0.3, rank=2, freeze_vectors=False)
        with jax.set_mesh(mesh):
            population = Population(
                Engine(network, CONFIG, mesh),
                perturbation,
                members_per_prompt=GROUP,
                prompts_per_member=EACH,
                **fields,
            )
            placed = population.load(jax.device_put(params, network.shardings(mesh)))
            return population.sample(placed, requests, key=KEY, step=EPOCH), perturbation

    return run


def test_members_answer_with_their_own_parameters(answers, network, params, requests, one_device):
    """All by the plain sampler at temperature 0, on W + sigma E_i; prompts in sets of two."""
    rollouts, perturbation = answers(one_device, rows_at_a_time=6)
    assert rollouts.tokens.shape == (4, GROUP, 4)
    keys = perturbation.keys(KEY)
    noise = jax.jit(perturbation.noise)(keys, jnp.int32(EPOCH), jnp.arange(8))
    greedy = Requests(*requests[:3], temperature=np.zeros((4, 1), np.float32))
    with jax.set_mesh(one_device):
        engine = Engine(network, CONFIG, one_device)
        for member in range(8):
            own = perturbed(params, {path: leaf[member] for path, leaf in noise.items()})
            _, merged = merge_adapters(perturbation.member_network, jax.tree.map(jnp.copy, own))
            expected = engine.sample(engine.load(merged), greedy, key=KEY, step=0)
            group, place = divmod(member, GROUP)
            answered = slice(group * EACH, (group + 1) * EACH)
            found = rollouts.tokens[answered, place]
            np.testing.assert_array_equal(found, expected.tokens[answered, 0])
            np.testing.assert_allclose(
                rollouts.model_logprobs[answered, place],
                expected.model_logprobs[answered, 0],
                atol=1e-4,
            )
    assert (rollouts.tokens != 7).all()
    assert len({row.tobytes() for row in rollouts.tokens[1]}) > 1


def test_neither_chunks_nor_the_mesh_change_an_answer(answers, one_device, mesh_2x2x2):
    """Chunks of 3 members on one device do not divide the 8; on 4 shards of rows all at once."""
    part, _ = answers(one_device, rows_at_a_time=6)
    spread, _ = answers(mesh_2x2x2)
    for name in ("tokens", "mask", "stop_reason", "slot_steps"):
        np.testing.assert_array_equal(getattr(part, name), getattr(spread, name))
    np.testing.assert_allclose(part.model_logprobs, spread.model_logprobs, atol=1e-5)
