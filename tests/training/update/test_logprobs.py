"""completion_statistics by definition, in parts, and of group rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.parallel.rules import put_rows
from rljax.sampling.distribution import TokenFilter
from rljax.training.update.logprobs import completion_statistics, make_score, model_rows
from rljax.training.update.rows import completion_rows, group_rows
from tests.tolerance import assert_same_sums

# Local and global layers with their own rope bases, and both soft caps.
GEMMA_LIKE = dict(
    sliding_window=3,
    global_every=2,
    local_rope_base=100.0,
    logit_softcap=5.0,
    attention_softcap=4.0,
)
NETWORKS = {
    "tied": {},
    "untied": dict(tied_embeddings=False),
    "windows": GEMMA_LIKE,
}
FILTER = TokenFilter(temperature=0.7, top_k=5)
TERMS = 2 * 100  # products in one output of two tiny layers


def example(rows=6, prompt=4, length=5, seed=0):
    rng = np.random.default_rng(seed)
    prompt_mask = np.arange(prompt) >= rng.integers(0, prompt, (rows, 1))
    mask = np.arange(length) < rng.integers(1, length + 1, (rows, 1))
    return completion_rows(
        rng.integers(0, 13, (rows, prompt)), prompt_mask, rng.integers(0, 13, (rows, length)), mask
    )


def grouped_example(prompts=4, samples=3, prompt=4, length=5, seed=0):
    """The same completions as group rows and as separate rows."""
    rng = np.random.default_rng(seed)
    texts = rng.integers(0, 13, (prompts, prompt))
    prompt_mask = np.arange(prompt) >= rng.integers(0, prompt, (prompts, 1))
    completions = rng.integers(0, 13, (prompts, samples, length))
    mask = np.arange(length) < rng.integers(0, length + 1, (prompts, samples, 1))
    separate = completion_rows(
        np.repeat(texts, samples, axis=0),
        np.repeat(prompt_mask, samples, axis=0),
        completions.reshape(-1, length),
        mask.reshape(-1, length),
    )
    return group_rows(texts, prompt_mask, completions, mask), separate


def logits_of(network, params, rows):
    model = network.bind(params)
    inputs = (jnp.asarray(rows[name]) for name in ("tokens", "positions", "segment_ids"))
    return np.float64(jax.jit(lambda *x: model.logits(model(*x).hidden))(*inputs))


def assert_close(found, expected, tolerance=1e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        found,
        expected,
    )


def test_statistics_equal_their_definition(tiny_network, one_device):
    network, rows = tiny_network(), example()
    params = network.init(jax.random.key(0), one_device)
    token_filter = TokenFilter(temperature=0.7)
    found = jax.jit(lambda p, r: completion_statistics(network, p, r, token_filter, top_k=2))(
        params, rows
    )
    logits = logits_of(network, params, rows) / 0.7
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for at in zip(*np.nonzero(rows["mask"]), strict=True):
        row, t = at
        before, token = log_p[row, 4 + t - 1], rows["tokens"][row, 4 + t]
        np.testing.assert_allclose(found.logprobs[at], before[token], atol=1e-5)
        np.testing.assert_allclose(found.entropy[at], -(np.exp(before) * before).sum(), atol=1e-5)
        assert found.greedy[at] == (before.argmax() == token)
        np.testing.assert_array_equal(found.top_tokens[at], np.argsort(-before)[:2])
        np.testing.assert_allclose(found.top_logprobs[at], np.sort(before)[:-3:-1], atol=1e-5)
    assert found.routing is None


def test_a_mask_of_all_but_the_first_slot_scores_whole_packed_rows(tiny_network, one_device):
    network = tiny_network()
    params = network.init(jax.random.key(0), one_device)
    rng = np.random.default_rng(0)
    rows = {
        "tokens": rng.integers(0, 13, (2, 6)).astype(np.int32),
        "positions": np.array([[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]], np.int32),
        "segment_ids": np.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]], np.int32),
        "mask": np.array([[1, 1, 0, 1, 0], [1, 1, 1, 1, 1]], bool),
    }
    found = completion_statistics(network, params, rows, TokenFilter()).logprobs
    logits = logits_of(network, params, rows)[:, :-1]
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = np.take_along_axis(log_p, rows["tokens"][:, 1:, None], -1)[..., 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def loss_and_gradient(network, params, rows, token_filter):
    """A weighted sum over the completions in order, the statistics, and its gradient."""
    mask = rows["mask"]
    weights = np.random.default_rng(1).normal(size=(2, mask.size)).reshape(2, *mask.shape)

    def total(params):
        found = completion_statistics(network, params, rows, token_filter)
        both = jnp.where(mask, jnp.stack([found.logprobs, found.entropy]), 0.0)
        return jnp.sum(both * weights), (both, mask & found.greedy)

    return jax.device_get(jax.jit(jax.value_and_grad(total, has_aux=True))(params))


@pytest.mark.parametrize("changes", NETWORKS.values(), ids=NETWORKS)
def test_group_rows_equal_separate_rows(tiny_network, one_device, changes):
    network = tiny_network(**changes)
    params = network.init(jax.random.key(0), one_device)
    grouped, separate = grouped_example()
    (loss, (both, greedy)), gradient = loss_and_gradient(network, params, grouped, FILTER)
    (one_loss, one_statistics), one_gradient = loss_and_gradient(network, params, separate, FILTER)
    assert both.shape[1:] == grouped["mask"].shape
    flat = both.reshape(2, -1, both.shape[-1]), greedy.reshape(-1, greedy.shape[-1])
    assert_close((loss, flat, gradient), (one_loss, one_statistics, one_gradient))


def test_group_rows_equal_separate_rows_on_a_mesh(tiny_network, one_device, mesh_2x2x2):
    network = tiny_network()
    params = network.init(jax.random.key(0), one_device)
    grouped, separate = grouped_example()
    (loss, _), gradient = loss_and_gradient(network, params, separate, FILTER)
    with jax.set_mesh(mesh_2x2x2):
        sharded = jax.device_put(params, network.shardings(mesh_2x2x2))
        placed = put_rows(grouped, mesh_2x2x2)
        (many_loss, _), many_gradient = loss_and_gradient(network, sharded, placed, FILTER)
    assert_close((many_loss, many_gradient), (loss, gradient))


def test_group_rows_without_a_prompt_are_refused(tiny_network, one_device):
    network = tiny_network()
    rows, _ = grouped_example()
    rows["tokens"] = rows["tokens"][:, 4:]
    with pytest.raises(ValueError, match="hold no prompt before 3 completions of 5 slots"):
        completion_statistics(network, network.init(jax.random.key(0), one_device), rows, FILTER)


@pytest.mark.parametrize("layout", [0, 1], ids=["grouped", "separate"])
def test_score_does_not_depend_on_the_number_of_parts(tiny_network, one_device, layout):
    network, rows = tiny_network(), model_rows(grouped_example()[layout])
    params = network.init(jax.random.key(0), one_device)
    whole, parts = (
        jax.jit(make_score(network, TokenFilter(top_k=5), micro_batches=count))(params, rows)
        for count in (1, 2)
    )
    assert whole.shape == rows["mask"].shape
    assert_same_sums(parts, whole, TERMS)


def test_gradient_of_a_logprob_reaches_only_what_its_token_saw(tiny_network, one_device):
    network, rows = tiny_network(), example(rows=2)
    params = network.init(jax.random.key(0), one_device)

    def masked_sum(params, tokens):
        changed = {**rows, "tokens": tokens}
        values = completion_statistics(network, params, changed, TokenFilter()).logprobs
        return jnp.where(rows["mask"], values, 0.0).sum()

    gradient = jax.jit(jax.grad(masked_sum))
    expected = gradient(params, rows["tokens"])
    junk = np.where(rows["segment_ids"] > 0, rows["tokens"], 11)
    assert_close(gradient(params, junk), expected, tolerance=1e-6)
