"""The splash kernels, emulated, against dense attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.attention import attention_mask, dense
from rljax.models.attention.splash import splash
from rljax.models.config import ModelConfig
from rljax.parallel.mesh import make_mesh

N, S, H, K, h = 2, 140, 4, 2, 8  # two blocks of 128 slots, the second one mostly padding


def packed_rows():
    """Segment ids and positions: padding, 55 tokens, 73 tokens, padding; and one full row."""
    segments, positions = np.ones((N, S), np.int32), np.tile(np.arange(S), (N, 1))
    segments[0] = np.repeat([0, 1, 2, 0], [5, 55, 73, 7])
    positions[0] = np.concatenate([np.zeros(5), np.arange(55), np.arange(73), np.zeros(7)])
    return jnp.asarray(segments), jnp.asarray(positions)


CASES = {
    "causal": {},
    "window across blocks": dict(sliding_window=30, attention_scale=0.7),
    "soft-cap": dict(attention_softcap=2.0),
    "both sides": dict(causal=False),
    "window on both sides": dict(causal=False, sliding_window=20),
}


def configure(**changes):
    shape = dict(vocab_size=8, layers=1, width=8, heads=H, kv_heads=K, head_dim=h, mlp_width=8)
    return ModelConfig(**shape, **changes)


def value_and_gradients(attend):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(N, S, n, h)), jnp.float32) for n in (H, K, K))
    present = packed_rows()[0][..., None, None] > 0
    weights = jnp.where(present, rng.normal(size=(N, S, H, h)), 0.0)

    def loss(q, k, v):
        mixed = jnp.where(present, attend(q, k, v), 0.0)
        return jnp.sum(mixed * weights), mixed

    (_, mixed), gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(q, k, v)
    return mixed, gradients


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_equal_dense_attention(case):
    config = configure(**CASES[case])
    segments, positions = packed_rows()
    window, softcap = config.sliding_window, config.attention_softcap
    mask = attention_mask(segments, causal=config.causal, positions=positions, window=window)
    found = value_and_gradients(
        lambda q, k, v: splash(q, k, v, segments, config, window=window, interpret=True)
    )
    expected = value_and_gradients(
        lambda q, k, v: dense(q, k, v, mask, scale=config.score_scale, softcap=softcap)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), found, expected)


def test_split_over_rows_and_heads_it_equals_one_device():
    config = configure()
    segments, _ = packed_rows()

    def attend(q, k, v):
        return splash(q, k, v, segments, config, window=0, interpret=True)

    expected = value_and_gradients(attend)
    with jax.set_mesh(make_mesh({"fsdp": 2, "tensor": 2}, devices=jax.devices()[:4])):
        found = value_and_gradients(attend)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), found, expected)
