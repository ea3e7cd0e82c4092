"""token_divergence by definition, in chunks, in shards, and within its memory."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.objectives.divergences import (
    divergence,
    forward_kl,
    full,
    jensen_shannon,
    policy_top_k,
    reverse_kl,
    teacher_top_k,
)
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import batch_sharding, named_sharding
from rljax.training.update.token_divergence import (
    DIVERGENCE,
    OTHER_LOGPROBS,
    States,
    make_compare,
    token_divergence,
)

# Rows, slots, widths of both models, tokens, rows of the matrices.
N, T, D, OTHER_D, V, PADDED = 8, 6, 5, 3, 13, 16

COMPARED = {
    "forward": (forward_kl, full),
    "reverse": (reverse_kl, full),
    "jensen_shannon": (jensen_shannon, full),
    "teacher": (forward_kl, functools.partial(teacher_top_k, support_tokens=4)),
    "policy": (reverse_kl, functools.partial(policy_top_k, support_tokens=4)),
    "normalised": (
        forward_kl,
        functools.partial(teacher_top_k, support_tokens=4, support_rest=False),
    ),
}
CHUNKS = {"one": {}, "many": dict(chunk_slots=7), "small": dict(logits_bytes=8 * PADDED * 5)}


def example():
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    given = normal(N, T, D), normal(PADDED, D), normal(N, T, OTHER_D), normal(PADDED, OTHER_D)
    return *given, jnp.asarray(rng.integers(0, V, (N, T)), jnp.int32)


WEIGHTS = np.random.default_rng(1).normal(size=(3, N, T)).astype(np.float32)


def between(log_p, count):
    """Half-way between the `count`-th largest and the next one."""
    return jnp.sort(log_p, axis=-1)[..., -count - 1 :][..., :2].mean(axis=-1)


def naive(hidden, vocabulary, other_hidden, other_vocabulary, targets, term, support, caps):
    """All at once."""

    def log_softmax(hidden, vocabulary, cap):
        logits = (hidden @ vocabulary.T)[..., :V]
        return jax.nn.log_softmax(cap * jnp.tanh(logits / cap) if cap else logits)

    policy = log_softmax(hidden, vocabulary, caps[0])
    other = jax.lax.stop_gradient(log_softmax(other_hidden, other_vocabulary, caps[1]))
    take = functools.partial(jnp.take_along_axis, indices=targets[..., None], axis=-1)
    entropy = -(jnp.exp(policy) * policy).sum(axis=-1)
    found = divergence(support(policy, other, between), term)
    greedy = policy.argmax(axis=-1) == targets
    return take(policy)[..., 0], entropy, found, greedy, take(other)[..., 0]


def ours(hidden, vocabulary, other_hidden, other_vocabulary, targets, term, support, caps, **more):
    found = token_divergence(
        States(hidden, vocabulary, caps[0]),
        States(other_hidden, other_vocabulary, caps[1]),
        targets,
        make_compare(term, support),
        vocab_size=V,
        **more,
    )
    more = found.more
    return found.logprobs, found.entropy, more[DIVERGENCE], found.greedy, more[OTHER_LOGPROBS]


def value_and_gradient(function, given, *args, **more):
    """All results, and the gradient of a weighted sum of the learned ones in all four inputs."""

    def total(*floats):
        found = function(*floats, given[4], *args, **more)
        return jnp.sum(jnp.stack(found[:3]) * WEIGHTS), found

    gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2, 3), has_aux=True))
    return jax.device_get(gradient(*given[:4]))


def assert_close(found, expected, tolerance=1e-5):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance),
        found,
        expected,
    )


@functools.cache
def expected_of(name, caps):
    return value_and_gradient(naive, example(), *COMPARED[name], caps)


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("name", COMPARED)
def test_values_and_gradients_equal_the_naive_form(name, chunks):
    given, caps = example(), (2.0, 3.0) if chunks == "many" else (0.0, 0.0)
    found = value_and_gradient(ours, given, *COMPARED[name], caps, **CHUNKS[chunks])
    assert_close(found, expected_of(name, caps))
    assert not found[0][2].any() and not found[0][3].any()  # the other model is constant


@pytest.mark.parametrize(
    "sizes", [{"data": 8}, {"fsdp": 2, "tensor": 4}, {"data": 2, "context": 2, "tensor": 2}]
)
@pytest.mark.parametrize("name", ["forward", "policy"])
def test_shards_do_not_change_a_number(name, sizes):
    given, mesh = example(), make_mesh(sizes)
    matrix, rows = named_sharding(mesh, ("vocab", "embed")), batch_sharding(mesh)
    if sizes.get("fsdp"):  # which divides no width here
        matrix = named_sharding(mesh, ("vocab", None))
    with jax.set_mesh(mesh):
        placed = jax.device_put(given, (rows, matrix, rows, matrix, rows))
        assert_close(
            value_and_gradient(ours, placed, *COMPARED[name], (0.0, 0.0)),
            expected_of(name, (0.0, 0.0)),
        )


def test_no_array_is_as_large_as_all_logits():
    given = example()

    def total(hidden, vocabulary):
        found = ours(hidden, vocabulary, *given[2:], forward_kl, full, (0.0, 0.0), chunk_slots=4)
        return jnp.sum(jnp.stack(found[:3]) * WEIGHTS)

    text = jax.jit(jax.grad(total, argnums=(0, 1))).lower(*given[:2]).compile().as_text()
    sizes = [
        np.prod([int(size) for size in shape.split(",")])
        for shape in re.findall(r"f32\[([\d,]+)\]", text)
    ]
    assert max(sizes) < N * T * V
