"""The transformer against a float64 loop, and the invariances that training and sampling need."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

TOLERANCE = dict(rtol=0, atol=1e-5)


@functools.cache
def make_params(network, mesh, seed=0):
    """Parameters with uneven norm scales and biases, else a forgotten one would pass."""
    params = network.init(jax.random.key(seed), mesh)
    rng = np.random.default_rng(seed)

    def perturb(path, leaf):
        if path[-1].key not in ("scale", "bias"):
            return leaf
        return leaf + jnp.asarray(rng.uniform(-0.5, 0.5, leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(perturb, params)


def random_tokens(network, shape, seed=0):
    return np.random.default_rng(seed).integers(0, network.config.vocab_size, shape)


def left_padded(lengths, slots):
    """Segment ids and positions of rows whose last `lengths` slots are real."""
    present = np.arange(slots)[None] >= slots - np.asarray(lengths)[:, None]
    return present.astype(int), np.maximum(present.cumsum(1) - 1, 0)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(network, params, tokens, positions, segment_ids):
    model = network.bind(params)
    return model.logits(model(tokens, positions, segment_ids).hidden)


@functools.partial(jax.jit, static_argnums=0)
def hidden_states_of(network, params, tokens, positions, segment_ids):
    return network.bind(params).hidden_states(tokens, positions, segment_ids)


# --- float64 reference, one token and one head at a time -----------------------------------------


def reference_norm(x, scale, config, axes=1):
    square = (x**2).mean(tuple(range(-axes, 0)), keepdims=True)
    return x / np.sqrt(square + config.norm_epsilon) * (scale + config.norm_offset)


def reference_rotate(vector, position, base):
    """Pairs (i, i + h/2) as complex numbers, turned by position * base^(-2i/h)."""
    half = len(vector) // 2
    angle = position * base ** (-2.0 * np.arange(half) / len(vector))
    turned = (vector[:half] + 1j * vector[half:]) * np.exp(1j * angle)
    return np.concatenate([turned.real, turned.imag])


def reference_project(block, name, x, config):
    """[S, D] -> [S, heads, h], with bias and norm."""
    y = np.einsum("sd,dnh->snh", x, block[name]["kernel"])
    if config.attention_bias:
        y = y + block[name]["bias"]
    if name == "value" or config.query_key_norm == "none":
        return y
    axes = 1 if config.query_key_norm == "head" else 2
    return reference_norm(y, block[f"{name}_norm"]["scale"], config, axes)


def reference_sees(query, key, positions, segments, config, is_global):
    if segments[query] != segments[key] or segments[key] == 0 or (config.causal and key > query):
        return False
    return is_global or abs(positions[query] - positions[key]) < config.sliding_window


def reference_attention(block, x, positions, segments, config, is_global):
    shared = config.heads // config.kv_heads
    base = config.rope_base if is_global else config.local_rope_base or config.rope_base
    q, k, v = (reference_project(block, name, x, config) for name in ("query", "key", "value"))
    out = np.zeros_like(x)
    for query in range(len(x)):
        sees = functools.partial(
            reference_sees, positions=positions, segments=segments, config=config
        )
        seen = [c for c in range(len(x)) if sees(query, c, is_global=is_global)]
        for head in range(config.heads if seen else 0):
            turned = reference_rotate(q[query, head], positions[query], base)
            keys = [reference_rotate(k[c, head // shared], positions[c], base) for c in seen]
            scale = config.attention_scale or 1 / np.sqrt(config.head_dim)
            scores = np.array([turned @ key for key in keys]) * scale
            scores = reference_cap(scores, config.attention_softcap)
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            context = sum(w * v[c, head // shared] for w, c in zip(weights, seen, strict=True))
            out[query] += context @ block["out"]["kernel"][head]
    return out


def reference_cap(x, cap):
    return cap * np.tanh(x / cap) if cap else x


def reference_mlp(block, x, config):
    gate, up = x @ block["gate"]["kernel"], x @ block["up"]["kernel"]
    if config.activation == "silu":
        act = gate / (1 + np.exp(-gate))
    else:
        act = gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3))) / 2
    return (act * up) @ block["down"]["kernel"]


def reference_hidden(params, tokens, positions, segments, config):
    """One row [S] -> what leaves each block, [L + 1, S, D]; the embedded tokens first."""
    states = [params["embedding"][tokens] * config.embedding_scale]
    for layer, is_global in enumerate(config.global_layers):
        block = jax.tree.map(lambda leaf: leaf[layer], params["blocks"])  # noqa: B023
        attend = functools.partial(
            reference_attention,
            block["attention"],
            positions=positions,
            segments=segments,
            config=config,
            is_global=is_global,
        )
        x = states[-1]
        for name, sublayer in (
            ("attention", lambda y: attend(y)),  # noqa: B023
            ("mlp", lambda y: reference_mlp(block["mlp"], y, config)),  # noqa: B023
        ):
            y = x
            if config.norm_placement in ("pre", "both"):
                y = reference_norm(y, block[f"{name}_norm"]["scale"], config)
            y = sublayer(y)
            if config.norm_placement in ("post", "both"):
                y = reference_norm(y, block[f"{name}_out_norm"]["scale"], config)
            x = x + y
        states.append(x)
    return np.stack(states)


def reference_logits(params, hidden, config):
    """What leaves the last block [S, D] -> [S, V]."""
    x = reference_norm(hidden, params["final_norm"]["scale"], config)
    output = params["embedding"] if config.tied_embeddings else params["output"]
    return reference_cap((x @ output.T)[:, : config.vocab_size], config.logit_softcap)


# Each with numbers that bite at random initial weights.
VARIANTS = {
    "tied": dict(kv_heads=4),
    "untied": dict(tied_embeddings=False, kv_heads=1),
    "biases": dict(attention_bias=True),
    "norm of each head": dict(query_key_norm="head"),
    "norm of the projection": dict(query_key_norm="projection", norm_placement="post"),
    "gemma": dict(
        norm_placement="both",
        norm_offset=1.0,
        activation="gelu_tanh",
        embedding_scale=4.0,
        attention_scale=0.7,
        attention_softcap=0.5,
        logit_softcap=0.4,
        sliding_window=2,
        global_every=2,
        local_rope_base=10.0,
    ),
    "only local": dict(sliding_window=3),
    "bidirectional": dict(causal=False),
    "bidirectional with windows": dict(causal=False, sliding_window=2, global_every=2),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_hidden_states_equal_a_float64_loop(tiny_network, one_device, variant):
    network = tiny_network(rope_base=100.0, **VARIANTS[variant])
    params = make_params(network, one_device)
    tokens = random_tokens(network, (2, 7))
    segments = np.array([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 2, 2, 2, 0]])
    positions = np.array([[0, 0, 0, 1, 2, 3, 4], [0, 1, 2, 0, 1, 2, 0]])
    states = hidden_states_of(network, params, tokens, positions, segments)
    logits = logits_of(network, params, tokens, positions, segments)
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for row in range(2):
        expected = reference_hidden(
            exact, tokens[row], positions[row], segments[row], network.config
        )
        real = segments[row] > 0
        np.testing.assert_allclose(states[:, row, real], expected[:, real], **TOLERANCE)
        expected = reference_logits(exact, expected[-1], network.config)
        np.testing.assert_allclose(logits[row][real], expected[real], **TOLERANCE)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_query_heads_share_key_heads_in_order(tiny_network, one_device, kv_heads):
    network = tiny_network(kv_heads=kv_heads)
    params = make_params(network, one_device)

    def repeat(leaf):
        return jnp.repeat(leaf, 4 // kv_heads, axis=2)

    attention = dict(params["blocks"]["attention"])
    attention |= {name: {"kernel": repeat(attention[name]["kernel"])} for name in ("key", "value")}
    repeated = {**params, "blocks": {**params["blocks"], "attention": attention}}
    rows = (random_tokens(network, (2, 5)), np.tile(np.arange(5), (2, 1)), np.ones((2, 5), int))
    np.testing.assert_allclose(
        logits_of(network, params, *rows),
        logits_of(tiny_network(kv_heads=4), repeated, *rows),
        **TOLERANCE,
    )


# --- invariances ---------------------------------------------------------------------------------


def packed_and_separate(network):
    """Three sequences of 4, 3 and 5 tokens: in one row of 14 slots, and in three rows of 5."""
    lengths = [4, 3, 5]
    flat = random_tokens(network, 12, seed=3)
    packed = np.zeros((3, 1, 14), int)  # tokens, positions, segment ids
    separate = np.zeros((3, 3, 5), int)
    start = 0
    for row, length in enumerate(lengths):
        columns = np.stack([flat[start : start + length], np.arange(length), np.ones(length, int)])
        separate[:, row, :length] = columns
        columns[2] = row + 1
        packed[:, 0, start : start + length] = columns
        start += length
    return packed, separate, lengths


def test_packed_rows_equal_separate_rows(tiny_network, one_device):
    network = tiny_network()
    params = make_params(network, one_device)
    packed, separate, lengths = packed_and_separate(network)
    together = logits_of(network, params, *packed)[0, :12]
    alone = logits_of(network, params, *separate)
    alone = np.concatenate([alone[row, :length] for row, length in enumerate(lengths)])
    np.testing.assert_allclose(together, alone, **TOLERANCE)


def test_gradient_of_packed_rows_equals_that_of_separate_rows(tiny_network, one_device):
    network = tiny_network()
    params = make_params(network, one_device)

    def loss(params, batch):
        present = batch[2] > 0
        log_p = jax.nn.log_softmax(logits_of(network, params, *batch))
        taken = jnp.take_along_axis(log_p, jnp.asarray(batch[0])[..., None], -1)[..., 0]
        weights = jnp.where(present, 1.0 + batch[1] + batch[0] % 3, 0.0)
        return jnp.sum(weights * jnp.sin(taken)) / 12

    packed, separate, _ = packed_and_separate(network)
    gradient = jax.jit(jax.grad(loss))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE),
        gradient(params, packed),
        gradient(params, separate),
    )


def test_padding_changes_nothing_whatever_ids_it_holds(tiny_network, one_device):
    network = tiny_network()
    params = make_params(network, one_device)
    lengths = [5, 2]
    tokens = random_tokens(network, (2, 5))
    segments, positions = left_padded(lengths, 5)
    expected = logits_of(network, params, tokens, positions, segments)
    for left, right, seed in [(3, 0, 1), (0, 4, 2), (2, 2, 3)]:
        wide = random_tokens(network, (2, left + 5 + right), seed)
        wide[:, left : left + 5] = np.where(segments > 0, tokens, wide[:, left : left + 5])
        pad = ((0, 0), (left, right))
        found = logits_of(network, params, wide, np.pad(positions, pad), np.pad(segments, pad))
        for row, length in enumerate(lengths):
            np.testing.assert_allclose(
                found[row, left + 5 - length : left + 5], expected[row, -length:], **TOLERANCE
            )


def test_hidden_states_do_not_depend_on_later_tokens(tiny_network, one_device):
    network = tiny_network()
    params = make_params(network, one_device)
    tokens, segments = jnp.arange(8)[None], jnp.ones((1, 8), int)

    def hidden(embedding):
        # The derivative tells about every pair of slots at once, and must be exactly zero.
        model = network.bind({**params, "embedding": embedding})
        return model(tokens, tokens, segments).hidden[0].sum(axis=-1)

    jacobian = jax.jit(jax.jacrev(hidden))(params["embedding"])  # [S, vocab, D]; slot s holds id s
    influence = np.abs(jacobian[:, :8]).max(axis=-1)  # [to, from]
    np.testing.assert_array_equal(np.triu(influence, 1), 0)
    assert (np.tril(influence)[np.tril_indices(8)] > 0).all()


def test_rows_do_not_see_each_other(tiny_network, one_device):
    network = tiny_network()
    params = make_params(network, one_device)
    tokens = random_tokens(network, (3, 6))
    positions, segments = np.tile(np.arange(6), (3, 1)), np.ones((3, 6), int)
    together = logits_of(network, params, tokens, positions, segments)
    for row in range(3):
        alone = logits_of(network, params, tokens[[row]], positions[[row]], segments[[row]])
        np.testing.assert_allclose(together[row], alone[0], **TOLERANCE)


def test_row_without_any_token_is_finite_and_has_finite_gradient(tiny_network, one_device):
    network = tiny_network()
    params = make_params(network, one_device)
    nothing = np.zeros((2, 4), int)

    def total(params):
        return logits_of(network, params, nothing, nothing, nothing).sum()

    value, gradient = jax.jit(jax.value_and_grad(total))(params)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


# --- precision -----------------------------------------------------------------------------------


def test_bfloat16_activations_give_float32_logits_near_the_float32_ones(tiny_network, one_device):
    network, half = tiny_network(), tiny_network(dtype="bfloat16")
    params = make_params(network, one_device)
    tokens = random_tokens(network, (2, 6))
    rows = (tokens, np.tile(np.arange(6), (2, 1)), np.ones((2, 6), int))
    hidden = jax.eval_shape(half.bind(params), *map(jnp.asarray, rows)).hidden
    logits = logits_of(half, params, *rows)
    assert hidden.dtype == jnp.bfloat16 and logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, logits_of(network, params, *rows), rtol=0, atol=0.1)
    # Not merely float32 in name: a bfloat16 result would survive the round trip.
    assert not np.array_equal(logits, logits.astype(jnp.bfloat16).astype(jnp.float32))


def test_param_dtype_is_that_of_every_parameter(tiny_network, one_device):
    params = tiny_network(param_dtype="bfloat16").init(jax.random.key(0), one_device)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
