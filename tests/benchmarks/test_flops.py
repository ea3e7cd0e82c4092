"""Counts of floating-point operations against hand values and the compiler's own count."""

import time

import jax
import jax.numpy as jnp
import pytest

from rljax.benchmarks.flops import (
    adapter_flops,
    attention_flops,
    forward_flops,
    logits_flops,
    sampling_flops,
    token_flops,
    update_flops,
)
from rljax.benchmarks.machine import measured_rate, median_seconds
from rljax.models.config import LoRAConfig, ModelConfig

SHAPE = dict(vocab_size=32, layers=3, width=8, heads=4, kv_heads=2, head_dim=6, mlp_width=10)


def test_matrices_by_hand():
    config = ModelConfig(**SHAPE)
    attention = 8 * 24 + 2 * 8 * 12 + 24 * 8
    assert token_flops(config) == 2 * 3 * (attention + 3 * 8 * 10)
    assert logits_flops(config) == 2 * 8 * 32


def test_only_the_chosen_experts_count():
    experts = dict(experts=16, experts_per_token=2, expert_width=5)
    config = ModelConfig(**SHAPE, **experts)
    attention = 8 * 24 + 2 * 8 * 12 + 24 * 8
    assert token_flops(config) == 2 * 3 * (attention + 8 * 16 + 2 * 3 * 8 * 5)


def test_attention_sees_what_precedes_or_its_window():
    config = ModelConfig(**SHAPE)
    assert attention_flops(config, 0, 4) == 4 * 24 * 3 * (1 + 2 + 3 + 4)
    assert attention_flops(config, 4, 2) == 4 * 24 * 3 * (5 + 6)
    local = ModelConfig(**SHAPE, sliding_window=3, global_every=3)  # two local layers, one global
    assert attention_flops(local, 4, 2) == 4 * 24 * (2 * (3 + 3) + (5 + 6))


def test_sharing_computes_a_prompt_once():
    config = ModelConfig(**SHAPE)
    shared = forward_flops(config, 5, 3, 7, 4, shared=True)
    separate = forward_flops(config, 5, 3, 7, 4, shared=False)
    prompt = 7 * token_flops(config) + attention_flops(config, 0, 7)
    assert separate - shared == pytest.approx(5 * 2 * prompt)
    last = token_flops(config) + attention_flops(config, 10, 1)
    assert sampling_flops(config, 5, 3, 7, 4) == pytest.approx(shared - 15 * last)


@pytest.mark.parametrize("kind", ["lora", "lora_sb"])
def test_frozen_matrices_have_no_gradient(kind):
    config = ModelConfig(**SHAPE)
    lora = LoRAConfig(rank=2, alpha=2, kind=kind, modules=("key", "down"))
    adapted = ModelConfig(**SHAPE, lora=lora)
    outer, core = 2 * 3 * 2 * (8 + 12 + 10 + 8), 2 * 3 * 2 * 2 * 2
    trained, fixed = (outer, 0) if kind == "lora" else (core, outer)
    assert adapter_flops(adapted) == (trained, fixed) and adapter_flops(config) == (0, 0)
    sizes = (5, 3, 7, 4)
    for shared, tokens in ((True, 5 * 7 + 15 * 4), (False, 15 * 11)):
        forward = forward_flops(config, *sizes, shared=shared)
        found = forward_flops(adapted, *sizes, shared=shared)
        assert found == forward + tokens * (trained + fixed)
        assert update_flops(config, *sizes, shared=shared) == 3 * forward
        matrices = tokens * token_flops(config) + 15 * 4 * logits_flops(config)
        expected = 2 * matrices + 3 * (forward - matrices) + tokens * (3 * trained + 2 * fixed)
        assert update_flops(adapted, *sizes, shared=shared) == pytest.approx(expected)


def test_the_compiler_counts_the_same_matrix_products(tiny_network, one_device):
    """Separate rows of one completion: what is left over is norms, softmax and activations."""
    network = tiny_network(layers=1, width=256, heads=4, kv_heads=2, head_dim=64, mlp_width=512)
    params = network.init(jax.random.key(0), one_device)

    def forward(params, tokens):
        model = network.bind(params)
        at = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        hidden = model(tokens, at, jnp.ones_like(tokens)).hidden
        return model.logits(hidden)

    tokens = jnp.ones((4, 16), jnp.int32)
    counted = jax.jit(forward).lower(params, tokens).compile().cost_analysis()["flops"]
    config = network.config
    ours = 4 * (16 * token_flops(config) + 16 * logits_flops(config))
    ours += 4 * 16 * 16 * 4 * 256  # every slot's scores are computed, whoever is masked
    assert ours == pytest.approx(counted, rel=0.05)


def test_the_rate_is_that_of_a_product_timed_here():
    """Within a factor of 6, whatever else the machine does."""
    matrix = jnp.full((1024, 1024), 1e-3)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    started = time.perf_counter()
    for _ in range(3):
        product(matrix, matrix).block_until_ready()
    rate = 3 * 2 * 1024**3 / (time.perf_counter() - started)
    assert 1 / 6 < measured_rate(matrix.dtype) / rate < 6


def test_medians_ignore_outliers():
    waits = iter([0.0, 0.0, 0.2, 0.0])
    assert median_seconds(lambda: time.sleep(next(waits)), 3) < 0.1
