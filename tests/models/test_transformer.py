"""The transformer against a float64 loop, and the invariances that training and sampling need."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.transformer import KVCache

TOLERANCE = dict(rtol=0, atol=1e-5)


@functools.cache
def make_params(network, mesh, seed=0):
    """Parameters with norm scales other than 1, else a forgotten scale would pass."""
    params = network.init(jax.random.key(seed), mesh)
    rng = np.random.default_rng(seed)

    def perturb(path, leaf):
        if path[-1].key != "scale":
            return leaf
        return leaf * jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)

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
    return model.logits(model(tokens, positions, segment_ids))


# --- float64 reference, one token and one head at a time -----------------------------------------


def reference_norm(x, scale, epsilon):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * scale


def reference_rotate(vector, position, base):
    """Pairs (i, i + h/2) as complex numbers, turned by position * base^(-2i/h)."""
    half = len(vector) // 2
    angle = position * base ** (-2.0 * np.arange(half) / len(vector))
    turned = (vector[:half] + 1j * vector[half:]) * np.exp(1j * angle)
    return np.concatenate([turned.real, turned.imag])


def reference_attention(block, x, positions, segments, config):
    group = config.heads // config.kv_heads
    out = np.zeros_like(x)
    for query in range(len(x)):
        seen = [c for c in range(query + 1) if segments[c] == segments[query] > 0]
        if not seen:
            continue
        for head in range(config.heads):
            turn = lambda c, weights: reference_rotate(  # noqa: E731
                x[c] @ weights, positions[c], config.rope_base
            )
            q = turn(query, block["query"][:, head])
            keys = [turn(c, block["key"][:, head // group]) for c in seen]
            scores = np.array([q @ k for k in keys]) / np.sqrt(config.head_dim)
            weights = np.exp(scores - scores.max())
            weights /= weights.sum()
            context = sum(
                w * (x[c] @ block["value"][:, head // group])
                for w, c in zip(weights, seen, strict=True)
            )
            out[query] += context @ block["out"][head]
    return out


def reference_logits(params, tokens, positions, segments, config):
    """One row [S] -> [S, V]."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x = params["embedding"][tokens]
    for layer in range(config.layers):
        block = jax.tree.map(lambda leaf: leaf[layer], params["blocks"])  # noqa: B023
        normed = reference_norm(x, block["attention_norm"]["scale"], config.norm_epsilon)
        x = x + reference_attention(block["attention"], normed, positions, segments, config)
        normed = reference_norm(x, block["mlp_norm"]["scale"], config.norm_epsilon)
        gate, up = normed @ block["mlp"]["gate"], normed @ block["mlp"]["up"]
        x = x + (gate / (1 + np.exp(-gate)) * up) @ block["mlp"]["down"]
    x = reference_norm(x, params["final_norm"]["scale"], config.norm_epsilon)
    output = params["embedding"].T if config.tied_embeddings else params["output"]
    return (x @ output)[:, : config.vocab_size]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_logits_equal_a_float64_loop(tiny_network, one_device, tied, kv_heads):
    network = tiny_network(tied_embeddings=tied, kv_heads=kv_heads, rope_base=100.0)
    params = make_params(network, one_device)
    tokens = random_tokens(network, (2, 7))
    segments = np.array([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 2, 2, 2, 0]])
    positions = np.array([[0, 0, 0, 1, 2, 3, 4], [0, 1, 2, 0, 1, 2, 0]])
    logits = logits_of(network, params, tokens, positions, segments)
    for row in range(2):
        expected = reference_logits(
            params, tokens[row], positions[row], segments[row], network.config
        )
        real = segments[row] > 0
        np.testing.assert_allclose(logits[row][real], expected[real], **TOLERANCE)


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
        return model(tokens, tokens, segments)[0].sum(axis=-1)

    jacobian = jax.jit(jax.jacrev(hidden))(params["embedding"])  # [S, vocab, D]; slot s holds id s
    influence = np.abs(jacobian[:, :8]).max(axis=-1)  # [to, from]
    np.testing.assert_array_equal(np.triu(influence, 1), 0)
    assert (np.tril(influence)[np.tril_indices(8)] > 0).all()


def test_prefill_and_decode_equal_the_full_forward(tiny_network, one_device):
    network = tiny_network()
    params = make_params(network, one_device)
    model = network.bind(params)
    lengths, slots, new = [4, 1, 3], 4, 5
    tokens = random_tokens(network, (3, slots + new), seed=5)
    segments, positions = left_padded([length + new for length in lengths], slots + new)
    tokens, positions, segments = map(jnp.asarray, (tokens, positions, segments))
    expected = jax.jit(model)(tokens, positions, segments)
    # Two slots more than are used: unused slots must stay invisible.
    cache = KVCache.empty(network.config, 3, slots + new + 2)
    prompt = (x[:, :slots] for x in (tokens, positions, segments))
    hidden, cache = jax.jit(model.prefill)(*prompt, cache)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(
            hidden[row, -length:], expected[row, slots - length : slots], **TOLERANCE
        )
    decode = jax.jit(model.decode)
    for slot in range(slots, slots + new):
        hidden, cache = decode(tokens[:, slot], positions[:, slot], jnp.int32(slot), cache)
        np.testing.assert_allclose(hidden, expected[:, slot], **TOLERANCE)


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
    total = lambda params: logits_of(network, params, nothing, nothing, nothing).sum()  # noqa: E731
    value, gradient = jax.jit(jax.value_and_grad(total))(params)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


# --- precision -----------------------------------------------------------------------------------


def test_bfloat16_activations_give_float32_logits_near_the_float32_ones(tiny_network, one_device):
    network, half = tiny_network(), tiny_network(dtype="bfloat16")
    params = make_params(network, one_device)
    tokens = random_tokens(network, (2, 6))
    rows = (tokens, np.tile(np.arange(6), (2, 1)), np.ones((2, 6), int))
    hidden = jax.eval_shape(half.bind(params), *map(jnp.asarray, rows))
    logits = logits_of(half, params, *rows)
    assert hidden.dtype == jnp.bfloat16 and logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, logits_of(network, params, *rows), rtol=0, atol=0.1)
    # Not merely float32 in name: a bfloat16 result would survive the round trip.
    assert not np.array_equal(logits, logits.astype(jnp.bfloat16).astype(jnp.float32))


def test_param_dtype_is_that_of_every_parameter(tiny_network, one_device):
    params = tiny_network(param_dtype="bfloat16").init(jax.random.key(0), one_device)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
