"""Gradient norms by the embedding, against the gradient of the table itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.config import ModelConfig
from rljax.models.network import Network
from rljax.sampling.distribution import TokenFilter
from rljax.training.learner.embedding_gradients import make_embedding_gradient_norms
from rljax.training.update.logprobs import completion_statistics
from rljax.training.update.rows import completion_rows


def test_norms_are_those_of_the_table():
    """Tokens come several times, in prompt and completion; the scale of the embedding counts."""
    config = ModelConfig(
        vocab_size=8, layers=1, width=8, heads=2, kv_heads=1, head_dim=4, mlp_width=8,
        tied_embeddings=False, embedding_scale=3.0,
    )  # fmt: skip
    network = Network.create(config)
    keys = iter(jax.random.split(jax.random.key(0), 99))
    params = jax.tree.map(lambda s: jax.random.normal(next(keys), s.shape) * 0.3, network.shapes)
    prompts = np.array([[0, 3, 3], [1, 2, 5]], np.int32)
    completions = np.array([[3, 4, 4], [5, 5, 1]], np.int32)
    mask = np.array([[True, True, True], [True, True, False]])
    rows = completion_rows(prompts, np.array([[0, 1, 1], [1, 1, 1]]) > 0, completions, mask)
    filter_ = TokenFilter(temperature=0.7)

    def total(table, row):
        one = {name: jnp.asarray(array[row : row + 1]) for name, array in rows.items()}
        found = completion_statistics(network, {**params, "embedding": table}, one, filter_)
        return jnp.where(one["mask"], found.logprobs, 0.0).sum()

    expected = [
        float(jnp.linalg.norm(jax.grad(total)(params["embedding"], row).reshape(-1)))
        for row in range(2)
    ]
    for micro_batch in (1, 2):
        norms = make_embedding_gradient_norms(network, filter_, micro_batch=micro_batch)
        found = jax.jit(norms)(params, jax.tree.map(jnp.asarray, rows))
        assert found == pytest.approx(np.array(expected), rel=1e-4)
