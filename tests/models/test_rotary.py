"""Rotary positions: frequencies against independent formulas, the rotation against complex ones."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rljax.models.config import ModelConfig, RopeScaling
from rljax.models.rotary import frequencies, rotary, rotate

LLAMA = RopeScaling(kind="llama3", factor=8.0, original_positions=8192)
LLAMA_32 = RopeScaling(kind="llama3", factor=32.0, original_positions=8192)
YARN = RopeScaling(kind="yarn", factor=4.0, original_positions=32768)
SCALINGS = {"llama3": LLAMA, "llama3_32": LLAMA_32, "yarn": YARN}


def config_of(**changes) -> ModelConfig:
    sizes = dict(vocab_size=8, layers=2, width=8, heads=2, kv_heads=1, head_dim=8, mlp_width=8)
    return ModelConfig(**{**sizes, **changes})


# --- frequencies ---------------------------------------------------------------------------------


def plain(base, head_dim):
    return [1.0 / base ** (2 * pair / head_dim) for pair in range(head_dim // 2)]


def llama3(base, head_dim, scaling):
    """By wavelength, as in Meta's code for Llama 3.1."""
    found = []
    longest = scaling.original_positions / scaling.low_frequency_factor
    shortest = scaling.original_positions / scaling.high_frequency_factor
    for frequency in plain(base, head_dim):
        wavelength = 2 * math.pi / frequency
        if wavelength < shortest:
            found.append(frequency)
        elif wavelength > longest:
            found.append(frequency / scaling.factor)
        else:
            low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
            smooth = (scaling.original_positions / wavelength - low) / (high - low)
            found.append((1 - smooth) * frequency / scaling.factor + smooth * frequency)
    return found


def yarn(base, head_dim, scaling):
    """Pair by pair: fast ones stay, slow ones are interpolated, a ramp over indices between."""

    def index(rotations):  # of the pair that turns so often in the original context
        # original * base^(-2 d / head_dim) = 2 pi rotations, solved for d
        ratio = scaling.original_positions / (2 * math.pi * rotations)
        return head_dim / 2 * math.log(ratio, base)

    low, high = math.floor(index(scaling.beta_fast)), math.ceil(index(scaling.beta_slow))
    found = []
    for pair, frequency in enumerate(plain(base, head_dim)):
        slowed = min(max((pair - low) / (high - low), 0.0), 1.0)
        found.append(frequency * (1 - slowed) + frequency / scaling.factor * slowed)
    return found


def test_without_scaling_frequencies_fall_geometrically():
    found, factor = frequencies(10_000.0, 8, None)
    np.testing.assert_allclose(found, [1.0, 0.1, 0.01, 0.001], rtol=1e-6)
    assert factor == 1.0 and found.dtype == np.float32


def test_linear_scaling_divides_positions():
    scaling = RopeScaling(kind="linear", factor=8.0)
    found, factor = frequencies(1e6, 64, scaling)
    np.testing.assert_allclose(found, np.array(plain(1e6, 64)) / 8, rtol=1e-6)
    assert factor == 1.0


@pytest.mark.parametrize("scaling", [LLAMA, LLAMA_32])
def test_llama3_scaling_follows_the_wavelengths(scaling):
    found, factor = frequencies(500_000.0, 128, scaling)
    expected = np.array(llama3(500_000.0, 128, scaling))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    unscaled = np.array(plain(500_000.0, 128))
    kept, slowed = np.isclose(expected, unscaled), np.isclose(expected, unscaled / scaling.factor)
    assert kept.any() and slowed.any() and not (kept | slowed).all()  # all three kinds occur
    assert factor == 1.0


@pytest.mark.parametrize("attention_factor", [0.0, 1.25])
def test_yarn_scaling_ramps_over_pairs_and_scales_the_attention(attention_factor):
    scaling = RopeScaling(
        kind="yarn", factor=4.0, original_positions=32768, attention_factor=attention_factor
    )
    found, factor = frequencies(1e6, 128, scaling)
    expected = np.array(yarn(1e6, 128, scaling))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.isclose(expected, plain(1e6, 128)).any()
    assert factor == pytest.approx(attention_factor or 0.1 * math.log(4) + 1)


@pytest.mark.parametrize("name", SCALINGS)
def test_scalings_agree_with_transformers(name):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling, base = SCALINGS[name], 500_000.0
    theirs = {
        "rope_type": scaling.kind,
        "rope_theta": base,
        "factor": scaling.factor,
        "original_max_position_embeddings": scaling.original_positions,
    }
    if scaling.kind == "llama3":
        theirs |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    config = transformers.LlamaConfig(
        hidden_size=256,
        num_attention_heads=4,
        head_dim=64,
        max_position_embeddings=int(scaling.original_positions * scaling.factor),
        rope_parameters=theirs,
    )
    expected, expected_factor = ROPE_INIT_FUNCTIONS[scaling.kind](config, "cpu")
    found, factor = frequencies(base, 64, scaling)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)
    assert factor == pytest.approx(expected_factor)


# --- rotation ------------------------------------------------------------------------------------


def turned(x, positions, frequency, factor=1.0):
    """Pairs (i, i + h/2) as complex numbers, in float64."""
    half = x.shape[-1] // 2
    numbers = np.asarray(x[..., :half], np.float64) + 1j * np.asarray(x[..., half:], np.float64)
    angle = np.asarray(positions)[:, :, None, None] * np.asarray(frequency)
    numbers = numbers * np.exp(1j * angle) * factor
    return np.concatenate([numbers.real, numbers.imag], axis=-1)


def random_heads(shape=(2, 5, 3, 8), seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("scaling", [None, YARN], ids=["plain", "yarn"])
def test_rotate_turns_pairs_as_complex_numbers(scaling):
    config = config_of(rope_base=500.0, rope_scaling=scaling)
    positions = np.array([[0, 1, 2, 3, 4], [7, 3, 100, 0, 900]])
    x = random_heads()
    found = rotate(jnp.asarray(x), rotary(config, jnp.asarray(positions)).global_layers)
    frequency, factor = frequencies(500.0, 8, scaling)
    np.testing.assert_allclose(found, turned(x, positions, frequency, factor), atol=2e-4)
    if scaling is None:
        np.testing.assert_array_equal(found[0, 0], x[0, 0])  # position 0
        lengths = np.linalg.norm(found, axis=-1)
        np.testing.assert_allclose(lengths, np.linalg.norm(x, axis=-1), rtol=1e-5)


def test_scores_depend_on_the_distance_only():
    config = config_of()
    q, k = random_heads((1, 1, 1, 8), 1), random_heads((1, 1, 1, 8), 2)

    def score(at, seen):
        def turn(x, p):
            return rotate(jnp.asarray(x), rotary(config, jnp.array([[p]])).global_layers)

        return float((turn(q, at) * turn(k, seen)).sum())

    assert score(9, 4) == pytest.approx(score(105, 100), abs=1e-4)
    assert abs(score(9, 4) - score(9, 5)) > 1e-2


def test_rotation_is_computed_in_float32_and_keeps_the_dtype():
    config, positions = config_of(), jnp.array([[0, 5, 1000]])
    x = random_heads((1, 3, 2, 8)).astype(jnp.bfloat16)
    angles = rotary(config, positions).global_layers
    assert angles.cos.dtype == angles.sin.dtype == jnp.float32
    found = rotate(jnp.asarray(x), angles)
    assert found.dtype == jnp.bfloat16
    exact = rotate(jnp.asarray(x, jnp.float32), angles)
    np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))


def test_local_layers_have_their_own_base_and_no_scaling():
    scaling = RopeScaling(kind="linear", factor=8.0)
    config = config_of(
        rope_base=1e6, local_rope_base=1e4, rope_scaling=scaling, sliding_window=4, global_every=2
    )
    positions = np.array([[0, 3, 50]])
    both = rotary(config, jnp.asarray(positions))
    for is_global, base, divisor in ((True, 1e6, 8.0), (False, 1e4, 1.0)):
        chosen = jax.jit(both.of)(jnp.array(is_global))
        angle = positions[..., None] * np.array(plain(base, 8)) / divisor
        np.testing.assert_allclose(chosen.cos, np.cos(angle), atol=1e-5)
        np.testing.assert_allclose(chosen.sin, np.sin(angle), atol=1e-5)


def test_without_a_local_base_all_layers_share_one_rotation():
    both = rotary(config_of(sliding_window=4), jnp.array([[0, 3, 50]]))
    assert both.local_layers is None
    assert both.of(jnp.array(False)) is both.global_layers


@pytest.mark.parametrize(
    "fields, named",
    [
        (dict(kind="dynamic", factor=2.0), "rope_scaling.kind"),
        (dict(kind="yarn", factor=0.5), "rope_scaling.factor"),
    ],
)
def test_a_scaling_that_is_not_built_raises(fields, named):
    with pytest.raises(ValueError, match=named):
        RopeScaling(**fields)
