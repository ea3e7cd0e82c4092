"""Shared-prefix rows against the same completions in rows of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.attention import GroupLayout

TOLERANCE = dict(rtol=0, atol=1e-5)
P, G, T = 5, 3, 4
PROMPTS = [5, 2]
COMPLETIONS = [[4, 1, 3], [2, 4, 0]]  # the last one is empty


def group_rows(seed=0):
    """Tokens, positions, segment ids of group rows [B, P+G*T], and of separate ones [B*G, P+T]."""
    prompt = np.arange(P) >= P - np.array(PROMPTS)[:, None]
    own = np.arange(T) < np.array(COMPLETIONS)[..., None]
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 13, (2, P)), rng.integers(0, 13, (2, G, T))
    positions = (
        np.maximum(prompt.cumsum(1) - 1, 0),
        np.array(PROMPTS)[:, None, None] + np.maximum(own.cumsum(2) - 1, 0),
    )
    groups, separate = [], []
    for shared, single in (tokens, positions, (prompt.astype(int), own.astype(int))):
        groups.append(np.concatenate([shared, single.reshape(2, -1)], axis=1))
        repeated = np.broadcast_to(shared[:, None], (2, G, P))
        separate.append(np.concatenate([repeated, single], axis=2).reshape(2 * G, -1))
    return groups, separate


VARIANTS = {
    "plain": {},
    "windows": dict(sliding_window=3, global_every=2, local_rope_base=10.0),
    "caps and norms": dict(
        attention_softcap=0.5, query_key_norm="head", attention_bias=True, kv_heads=1
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_values_and_gradients_equal_those_of_separate_rows(tiny_network, one_device, variant):
    network = tiny_network(**VARIANTS[variant])
    params = network.init(jax.random.key(0), one_device)
    groups, separate = group_rows()
    weights = np.random.default_rng(1).normal(size=(2, G, P + T, 16)) / 10
    present = separate[2].reshape(2, G, -1) > 0

    def hidden_of_groups(params):
        hidden = network.bind(params)(*groups, group=GroupLayout(P, G)).hidden
        prompt = jnp.broadcast_to(hidden[:, None, :P], (2, G, P, 16))
        return jnp.concatenate([prompt, hidden[:, P:].reshape(2, G, T, 16)], axis=2)

    def hidden_of_rows(params):
        return network.bind(params)(*separate).hidden.reshape(2, G, P + T, 16)

    def value_and_gradient(hidden_of):
        def loss(params):
            hidden = jnp.where(present[..., None], hidden_of(params), 0.0)
            return jnp.sum(jnp.sin(hidden) * weights), hidden

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(params)

    found, expected = value_and_gradient(hidden_of_groups), value_and_gradient(hidden_of_rows)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), found, expected)


def test_completions_do_not_see_each_other_nor_the_prompt_a_completion(tiny_network, one_device):
    network = tiny_network()
    params = network.init(jax.random.key(0), one_device)
    (tokens, positions, segments), _ = group_rows()
    encode = jax.jit(lambda t: network.bind(params)(t, positions, segments, group=layout).hidden)
    layout = GroupLayout(P, G)
    changed = tokens.copy()
    changed[:, P + T : P + 2 * T] = (tokens[:, P + T : P + 2 * T] + 1) % 13
    before, after = encode(tokens), encode(changed)
    others = np.r_[0 : P + T, P + 2 * T : P + 3 * T]
    np.testing.assert_array_equal(before[:, others], after[:, others])
    assert np.abs(before[0, P + T] - after[0, P + T]).max() > 1e-3


def test_bad_layouts_and_bidirectional_models_are_refused(tiny_network, one_device):
    groups, _ = group_rows()
    network = tiny_network()
    params = network.init(jax.random.key(0), one_device)
    for layout in (GroupLayout(P, 5), GroupLayout(P + G * T, G)):
        with pytest.raises(ValueError, match=r"17 slots .*\(GroupLayout\)"):
            network.bind(params)(*groups, group=layout)
    network = tiny_network(causal=False)
    with pytest.raises(ValueError, match="config.model.causal"):
        network.bind(params)(*groups, group=GroupLayout(P, G))
