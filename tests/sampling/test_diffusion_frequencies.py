"""Masked-diffusion decoding of a denoiser that is a table: frequencies against enumeration."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rljax.sampling.diffusion import (
    DiffusionConfig,
    Rows,
    decode_blocks,
)

# Logits of two positions, 3 tokens and the mask, given the other position (3: still masked).
TABLE = 2.0 * np.random.default_rng(10).normal(size=(2, 4, 4))
TABLE[:, :, 3] += 3.0  # a model that likes to predict the mask


def toy_denoise(canvas, start):
    table, other = jnp.asarray(TABLE, jnp.float32), canvas[:, ::-1]
    return table[jnp.arange(2), other]


def toy_probabilities(temperature):
    weights = np.exp(TABLE[..., :3] / temperature)
    return weights / weights.sum(axis=-1, keepdims=True)


def enumerated(temperature, remasking, confidence_temperature=1.0):
    """[3, 3] exact probabilities of the two tokens, one committed a step."""
    p, sure = toy_probabilities(temperature), toy_probabilities(confidence_temperature)
    exact = np.zeros((3, 3))
    for first, second in itertools.product(range(3), repeat=2):
        both = p[0, 3, first] * p[1, 3, second]
        left = float(sure[0, 3, first] >= sure[1, 3, second]) if remasking != "random" else 0.5
        exact[first, :] += both * left * p[1, first]
        exact[:, second] += both * (1 - left) * p[0, second]
    return exact


@functools.cache
def jit_toy(remasking):
    config = DiffusionConfig(
        samples_per_prompt=1,
        max_new_tokens=2,
        block_tokens=2,
        steps=2,
        mask_token=3,
        stop_tokens=(),
        pad_token=0,
        remasking=remasking,
    )
    return jax.jit(lambda rows: decode_blocks(toy_denoise, rows, config))


def toy_decode(temperature, remasking, n=20_000):
    rows = Rows(
        prompts=jnp.zeros((n, 0), jnp.int32),
        keys=jax.random.split(jax.random.key(5), n),
        max_new_tokens=jnp.full(n, 2, jnp.int32),
        temperature=jnp.full(n, temperature),
    )
    return jax.device_get(jit_toy(remasking)(rows))


@pytest.mark.parametrize("remasking", ["low_confidence", "random"])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_frequencies_match_exact_enumeration(temperature, remasking):
    decoded = toy_decode(temperature, remasking)
    n = len(decoded.tokens)
    counts = np.zeros((3, 3))
    np.add.at(counts, tuple(decoded.tokens.T), 1)

    def p_value(exact):
        return stats.chisquare(counts.ravel(), n * exact.ravel()).pvalue

    exact = enumerated(temperature, remasking)
    np.testing.assert_allclose(exact.sum(), 1, rtol=1e-12)
    assert p_value(exact) > 1e-3
    # The test can tell: other orders, or confidences of the tempered softmax, are refused.
    other = "random" if remasking == "low_confidence" else "low_confidence"
    assert p_value(enumerated(temperature, other)) < 1e-9
    if remasking == "low_confidence" and temperature != 1:
        assert p_value(enumerated(temperature, remasking, temperature)) < 1e-9


def test_logprobs_and_entropy_are_those_of_the_table():
    temperature = 2.5
    decoded = toy_decode(temperature, "low_confidence")
    np.testing.assert_array_equal(decoded.tempered_logprobs, decoded.logprobs)
    model, tempered = (np.log(toy_probabilities(at)) for at in (1.0, temperature))
    for n in range(100):
        tokens, steps = decoded.tokens[n], decoded.commit_step[n]
        assert sorted(steps) == [0, 1]
        for i in range(2):
            other = 3 if steps[i] == 0 else tokens[1 - i]
            log_p = tempered[i, other]
            found = [getattr(decoded, name)[n, i] for name in ("model_logprobs", "logprobs")]
            expected = [model[i, other, tokens[i]], log_p[tokens[i]]]
            np.testing.assert_allclose(found, expected, atol=1e-5)
            np.testing.assert_allclose(decoded.entropy[n, i], -np.exp(log_p) @ log_p, atol=1e-5)
