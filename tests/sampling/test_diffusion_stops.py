"""Stops, limits and refusals of masked-diffusion decoding, with predictions that are fixed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.sampling.diffusion import (
    Rows,
    decode_blocks,
    make_diffusion_sampler,
)
from tests.sampling.tiny_diffusion import KEY, config_of


def fixed(probabilities):
    """A denoiser of one block that predicts [K, V] whatever the canvas holds, and its calls."""
    logits = jnp.log(jnp.asarray(probabilities, jnp.float32))[None]

    def denoise(canvas, start):
        jax.debug.callback(lambda: evaluations.append(1))
        return jnp.broadcast_to(logits, (len(canvas), *logits.shape[1:]))

    evaluations = []
    return denoise, evaluations


def decode_fixed(denoise, config, n=1, **fields):
    prompts, limits = np.zeros((n, 1), np.int32), np.full(n, config.max_new_tokens, np.int32)
    rows = Rows(prompts, jax.random.split(KEY, n), limits, **fields)
    decoded = jax.device_get(jax.jit(lambda rows: decode_blocks(denoise, rows, config))(rows))
    jax.effects_barrier()
    return decoded


@pytest.mark.parametrize(
    "stop_confidence, order, evaluations",
    [
        ("model", [0, -1, -1], 1),  # 0.9 first, and it ends the row
        ("zero", [2, 0, 1], 3),  # 0.5, 0.45
        ("excluded", [2, 1, 0], 3),  # 0.5 / 0.9, 0.45 / 0.56
    ],
)
def test_confidence_of_stop_tokens(stop_confidence, order, evaluations):
    # Tokens a, b, stop.
    denoise, seen = fixed([[0.05, 0.05, 0.9], [0.5, 0.4, 0.1], [0.45, 0.11, 0.44]])
    config = config_of(
        max_new_tokens=3, block_tokens=3, steps=3, stop_tokens=(2,), stop_confidence=stop_confidence
    )
    decoded = decode_fixed(denoise, config)
    assert decoded.commit_step[0].tolist() == order
    assert decoded.tokens[0, 0] == 2
    assert len(seen) == decoded.passes == evaluations


def test_a_stop_token_behind_an_open_position_does_not_end_the_row():
    # The stop token at position 1 comes first; position 0 must still be filled, position 2 not.
    denoise, _ = fixed([[0.6, 0.4, 0.0], [0.05, 0.05, 0.9], [0.3, 0.3, 0.4]])
    config = config_of(max_new_tokens=3, block_tokens=3, steps=3, stop_tokens=(2,))
    decoded = decode_fixed(denoise, config)
    assert decoded.commit_step[0].tolist() == [1, 0, -1]
    assert decoded.tokens[0, :2].tolist() == [0, 2]


def test_a_mask_token_may_be_allowed_and_then_stays():
    p = [0.2, 0.3, 0.5]
    denoise, _ = fixed([p] * 3)
    config = config_of(
        max_new_tokens=3,
        block_tokens=3,
        steps=3,
        mask_token=2,
        stop_tokens=(),
        forbid_mask_token=False,
    )
    decoded = decode_fixed(denoise, config, n=300, temperature=np.ones(300, np.float32))
    assert (np.sort(decoded.commit_step, axis=-1) == [0, 1, 2]).all()
    assert set(np.unique(decoded.tokens)) == {0, 1, 2}
    for found in (decoded.logprobs, decoded.model_logprobs, decoded.tempered_logprobs):
        np.testing.assert_allclose(found, np.log(p)[decoded.tokens], atol=1e-5)


@pytest.mark.parametrize("forbid_mask_token", [True, False])
def test_ids_without_a_text_are_never_drawn(forbid_mask_token):
    """At no temperature, likely as they are; the mask token has a rule of its own."""
    p = np.array([0.04, 0.06, 0.3, 0.4, 0.2])
    denoise, _ = fixed([p] * 3)
    config = config_of(
        max_new_tokens=3,
        block_tokens=3,
        steps=3,
        mask_token=4,
        stop_tokens=(),
        forbid_mask_token=forbid_mask_token,
        textless=((2, 5),),
    )
    kept = np.where(np.isin(np.arange(5), [0, 1] if forbid_mask_token else [0, 1, 4]), p, 0)
    decoded = decode_fixed(denoise, config, n=300, temperature=np.arange(300) % 2.0)
    assert set(np.unique(decoded.tokens[1::2])) == set(np.flatnonzero(kept))
    assert set(np.unique(decoded.tokens[::2])) == {int(kept.argmax())}
    expected = np.log(kept[decoded.tokens] / kept.sum())
    np.testing.assert_allclose(decoded.model_logprobs, expected, atol=1e-5)
    np.testing.assert_allclose(decoded.logprobs[1::2], expected[1::2], atol=1e-5)


def test_steps_that_would_commit_nothing_are_skipped():
    denoise, seen = fixed([[0.6, 0.4], [0.7, 0.3]])
    config = config_of(max_new_tokens=2, block_tokens=2, steps=7, stop_tokens=())
    decoded = decode_fixed(denoise, config)
    assert decoded.commit_step[0].tolist() == [1, 0] and len(seen) == decoded.passes == 2


def test_min_new_tokens_hold_back_stop_tokens_only():
    # The stop token has 0.8; of what is left of the first position, a has 0.15 of 0.2.
    denoise, _ = fixed([[0.15, 0.05, 0.8]] * 2)
    config = config_of(max_new_tokens=2, block_tokens=2, steps=1, stop_tokens=(2,))
    fields = dict(min_new_tokens=np.full(400, 1), temperature=np.full(400, 0.5, np.float32))
    decoded = decode_fixed(denoise, config, n=400, **fields)
    first, second = decoded.tokens.T
    assert set(first) == {0, 1} and 2 in second
    p = np.array([0.15, 0.05, 0.8])
    np.testing.assert_allclose(decoded.model_logprobs[:, 0], np.log(p)[first], atol=1e-5)
    tempered = np.log(p**2 / (p**2).sum())
    np.testing.assert_allclose(decoded.tempered_logprobs[:, 0], tempered[first], atol=1e-5)
    restricted = np.log(p[:2] ** 2 / (p[:2] ** 2).sum())
    np.testing.assert_allclose(decoded.logprobs[:, 0], restricted[first], atol=1e-5)


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(samples_per_prompt=0), "samples_per_prompt must be >= 1; got 0"),
        (dict(max_new_tokens=0), "max_new_tokens must be >= 1; got 0"),
        (dict(block_tokens=0), "block_tokens must be >= 1; got 0"),
        (dict(block_tokens=4), "block_tokens must be a divisor of max_new_tokens=6; got 4"),
        (dict(block_tokens=12), "block_tokens must be a divisor of max_new_tokens=6; got 12"),
        (dict(steps=0), "steps must be a positive multiple of the 2 blocks .*; got 0"),
        (dict(steps=1), "steps must be a positive multiple of the 2 blocks .*; got 1"),
        (dict(steps=5), "steps must be a positive multiple of the 2 blocks .*; got 5"),
        (dict(temperature=-1.0), "temperature must be finite and >= 0; got -1.0"),
        (dict(temperature=float("inf")), "temperature must be finite and >= 0; got inf"),
        (dict(cfg_scale=-0.5), "cfg_scale must be finite and >= 0; got -0.5"),
        (dict(remasking="surest"), "remasking must be one of .*random.*; got 'surest'"),
        (dict(entropy_bound=-0.1), "entropy_bound must be None, or finite and >= 0; got -0.1"),
        (dict(stop_confidence="zero", remasking="left_to_right"), "stop_confidence must be 'mod"),
        (dict(stop_confidence="no"), "stop_confidence must be one of .*zero.*; got 'no'"),
        (dict(stop_confidence="zero", remasking="random"), "stop_confidence must be 'model'"),
        (dict(stop_confidence="zero", stop_tokens=()), "stop_confidence must be 'model'"),
        (dict(mask_token=9), r"mask_token must be none of stop_tokens=\(2, 9\)"),
        (dict(mask_token=0), "mask_token must be other than pad_token=0"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        config_of(**fields)


@pytest.mark.parametrize(
    "model, fields, message",
    [
        (dict(), {}, "causal=True: .*causal=False"),
        (dict(causal=False, head="value"), {}, "head='value' .*language_model"),
        (dict(causal=False), dict(mask_token=13), r"mask_token must be in 0\.\.12 .*; got 13"),
        (dict(causal=False), dict(pad_token=-1), r"pad_token must be in 0\.\.12 .*; got -1"),
        (dict(causal=False), dict(stop_tokens=(99,)), r"stop_tokens must be all in 0\.\.12"),
        (dict(causal=False), dict(stop_tokens=tuple(range(12))), "stop_tokens must be fewer"),
        (dict(causal=False), dict(textless=((0, 2), (3, 9), (10, 12))), "no other token is left"),
    ],
)
def test_networks_that_cannot_be_decoded_are_refused(tiny_network, model, fields, message):
    with pytest.raises(ValueError, match=message):
        make_diffusion_sampler(tiny_network(**model), config_of(**fields))
