"""completion_statistics by definition, and in parts."""

import jax
import jax.numpy as jnp
import numpy as np

from rljax.sampling.distribution import TokenFilter
from rljax.training.logprobs import completion_statistics, make_score, model_rows
from rljax.training.rows import completion_rows


def example(rows=6, prompt=4, length=5, seed=0):
    rng = np.random.default_rng(seed)
    prompt_mask = np.arange(prompt) >= rng.integers(0, prompt, (rows, 1))
    mask = np.arange(length) < rng.integers(1, length + 1, (rows, 1))
    return completion_rows(
        rng.integers(0, 13, (rows, prompt)), prompt_mask, rng.integers(0, 13, (rows, length)), mask
    )


def test_statistics_equal_their_definition(tiny_network, one_device):
    network, rows = tiny_network(), example()
    params = network.init(jax.random.key(0), one_device)
    token_filter = TokenFilter(temperature=0.7)
    statistics = jax.jit(lambda p, r: completion_statistics(network, p, r, token_filter))
    logprobs, entropy, greedy = statistics(params, rows)
    model = network.bind(params)
    hidden = jax.jit(model)(*(jnp.asarray(rows[k]) for k in ("tokens", "positions", "segment_ids")))
    logits = np.float64(model.logits(hidden)) / 0.7
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for row, t in zip(*np.nonzero(rows["mask"]), strict=True):
        before, token = log_p[row, 4 + t - 1], rows["tokens"][row, 4 + t]
        np.testing.assert_allclose(logprobs[row, t], before[token], atol=1e-5)
        np.testing.assert_allclose(entropy[row, t], -(np.exp(before) * before).sum(), atol=1e-5)
        assert greedy[row, t] == (before.argmax() == token)


def test_score_does_not_depend_on_the_number_of_parts(tiny_network, one_device):
    network, rows = tiny_network(), model_rows(example())
    params = network.init(jax.random.key(0), one_device)
    whole, parts = (
        jax.jit(make_score(network, TokenFilter(top_k=5), micro_batches=count))(params, rows)
        for count in (1, 3)
    )
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-6)


def test_gradient_of_a_logprob_reaches_only_what_its_token_saw(tiny_network, one_device):
    network, rows = tiny_network(), example(rows=2)
    params = network.init(jax.random.key(0), one_device)

    def masked_sum(params, tokens):
        changed = {**rows, "tokens": tokens}
        values = completion_statistics(network, params, changed, TokenFilter())[0]
        return jnp.where(rows["mask"], values, 0.0).sum()

    gradient = jax.jit(jax.grad(masked_sum))
    expected = gradient(params, rows["tokens"])
    junk = np.where(rows["segment_ids"] > 0, rows["tokens"], 11)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6),
        gradient(params, junk),
        expected,
    )
