"""A critic of denoising steps values what the sampler saw: by plain passes, one for each step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.objectives.values import critic_loss
from rljax.training.learner.critic import HEAD, Critic
from rljax.training.update.logprobs import FILL_STEPS, LIKELIHOOD_KEYS

MASK_TOKEN = 12
PROMPT, SLOTS = 2, 4


@pytest.fixture(scope="module")
def policy():
    fields = dict(layers=1, width=16, heads=2, kv_heads=1, head_dim=8, mlp_width=16)
    config = ModelConfig(vocab_size=13, causal=False, mask_token=MASK_TOKEN, **fields)
    return Network.create(config)


@pytest.fixture(scope="module")
def rows():
    """Two samples; the second ended after three tokens, with the fourth slot still open."""
    segments = jnp.array([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0]])
    return {
        "tokens": jnp.array([[1, 2, 3, 4, 5, 6], [0, 7, 8, 9, 10, 0]]),
        "positions": jnp.maximum(jnp.cumsum(segments, axis=1) - 1, 0),
        "segment_ids": segments,
        "mask": jnp.array([[True] * 4, [True, True, True, False]]),
        FILL_STEPS: jnp.array([[0, 2, 1, 2], [3, 0, 5, -1]]),
        LIKELIHOOD_KEYS: jax.random.key_data(jax.random.split(jax.random.key(0), 2)),
    }


def plain_value(model, head, row, place):
    """The value at the slot of token `place`, in the step in which it was filled."""
    seen = [int(t) for t, s in zip(row["tokens"][:PROMPT], row["segment_ids"], strict=False) if s]
    steps, mask = row[FILL_STEPS], row["mask"]
    canvas = [
        int(row["tokens"][PROMPT + j]) if mask[j] and steps[j] < steps[place] else MASK_TOKEN
        for j in range(SLOTS)
    ]
    ids = jnp.array([seen + canvas])
    slots = jnp.arange(ids.shape[1])[None]
    states = model(ids, slots, jnp.ones_like(ids)).hidden[0, len(seen) + place]
    return float(head(states))


@pytest.mark.parametrize("trunk", ["separate", "shared"])
def test_values_are_those_of_plain_passes(policy, rows, trunk, one_device):
    fields = dict(mask_draws=4, trajectory_shrink=1, open_canvas=True)
    settings = dict(trunk=trunk)
    critic = Critic.create(policy, optax.sgd(1e-2), critic_loss, settings, 1, fields)
    params = policy.init(jax.random.key(1), one_device)
    own = critic.first_params(params)
    assert not np.asarray(jax.jit(critic.values)(own, params, rows)).any()
    kernel = jax.random.normal(jax.random.key(2), (16, 1))
    if trunk == "shared":
        own = {HEAD: {"kernel": kernel, "bias": jnp.ones(1)}}
        model = policy.bind(params)
    else:
        own = own | {"head": kernel, "head_bias": jnp.ones(1)}
        model = critic.network.bind(own)

    def head(states):
        return (states.astype(jnp.float32) @ kernel)[0] + 1.0

    found = np.asarray(jax.jit(critic.values)(own, params, rows))
    for number in range(2):
        row = {name: np.asarray(array)[number] for name, array in rows.items()}
        for place in range(SLOTS):
            expected = plain_value(model, head, row, place) if row["mask"][place] else 0.0
            assert found[number, place] == pytest.approx(expected, abs=2e-5)
    gradient = jax.grad(lambda p: critic.values(p, params, rows).sum())(own)
    biases = gradient[HEAD]["bias"] if trunk == "shared" else gradient["head_bias"]
    assert float(biases[0]) == pytest.approx(7.0)  # each token is valued once
