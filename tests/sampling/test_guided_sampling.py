"""Guided decoding through the sampler, against the rules applied to whole forward passes."""

import jax
import numpy as np
import pytest

from rljax.parallel.mesh import make_mesh
from rljax.sampling.engine import Engine
from rljax.sampling.guides import DiscriminatorGuided, RewardGuided, ValueAugmented
from rljax.sampling.sampler import GuideModel
from tests.sampling import reference
from tests.sampling.tiny import (
    KEY,
    config_of,
    network_of,
    params_of,
    requests_of,
    sample,
)

LENGTHS = (2, 6, 3, 4)
# The guides' models differ from the policy in everything but the vocabulary.
ARM = network_of(width=8, heads=2, kv_heads=1)
VALUE = network_of(width=8, heads=2, kv_heads=1, sliding_window=3, head="value", head_bias=True)
CONFIG = config_of(top_k=9, temperature=0.9, slots=5, refill_every=2)


def sampled(guide, networks, models, requests):
    network = network_of()
    return sample(
        network,
        params_of(network),
        CONFIG,
        requests,
        guide=guide,
        guide_networks=networks,
        guide_models=models,
    )


def check(guide, networks, models, combine, requests=None):
    """Compares guided samples with the reference, in which `combine` plays the guide."""
    requests = requests_of(LENGTHS) if requests is None else requests
    rollouts = sampled(guide, networks, models, requests)
    logits = reference.next_logits(network_of(), params_of(network_of()))
    rows = reference.sample_all(logits, CONFIG, requests, KEY, 4, combine=combine)
    assert reference.compare(rollouts, rows, CONFIG) == 0
    base = sampled(None, (), (), requests)
    assert (base.tokens != rollouts.tokens).any()
    return rollouts


@pytest.mark.parametrize("window", [0, 3])
def test_reward_models_are_summed(window):
    """With the window, sums of logits are rounded differently where truncation looks at them."""
    network = network_of(width=8, heads=2, kv_heads=1, sliding_window=window)
    params = params_of(network)
    arm = reference.next_logits(network, params)

    def combine(prompt, completion, raw):
        return raw + 1.4 * reference.log_softmax(arm([*prompt, *completion]))

    check(RewardGuided(alphas=(0.7,), beta=0.5), (network,), (GuideModel(params),), combine)


def test_values_of_the_likeliest_tokens_are_looked_ahead():
    params = params_of(VALUE)
    params = {**params, "head_bias": params["head_bias"] + 0.5}
    value = reference.next_logits(VALUE, params)  # scores [1]

    def combine(prompt, completion, raw):
        candidates = np.argsort(-raw)[:4]
        ahead = np.array([value([*prompt, *completion, int(c)])[0] for c in candidates])
        raw = raw.copy()
        raw[candidates] += 5 * (ahead - ahead.mean())
        return raw

    guide = ValueAugmented(beta=5.0, top_k=4)
    check(guide, (VALUE,), (GuideModel(params),), combine)


def class_prompts(requests):
    """Prompts of two classes: the code 11 or 12 before the policy's; one has another end."""
    models = []
    for code in (11, 12):
        prompts = np.concatenate([np.full((4, 1), code), requests.prompts], axis=1)
        mask = np.concatenate([np.zeros((4, 1), bool), requests.prompt_mask], axis=1)
        first = mask.argmax(axis=1) - 1
        prompts[np.arange(4), first] = code
        mask[np.arange(4), first] = True
        prompts[3, -1] = code  # differs at the end, too
        models.append((prompts.astype(np.int32), mask))
    return models


GEDI = DiscriminatorGuided(
    strength=2.0, filter_p=0.4, target_p=0.55, scale=1.5, biases=(0.2, -0.1), class_bias=0.3
)


def gedi(prompts, models, arm):
    """GeDi by its definition; `models` are the prompts of both classes."""
    texts = [[row[own].tolist() for row, own in zip(*model, strict=True)] for model in models]
    places = {tuple(prompt): b for b, prompt in enumerate(prompts)}

    def combine(prompt, completion, raw):
        b, count = places[tuple(prompt)], len(completion) + 1
        scores = []
        for of_class, bias in zip(texts, (0.2 + 0.3, -0.1), strict=True):
            steps = [arm([*of_class[b], *completion[:t]]) for t in range(count)]
            log_p = [reference.log_softmax(step) for step in steps]
            before = sum(log_p[t][token] for t, token in enumerate(completion))
            scores.append(1.5 * (before + log_p[-1]) / count + bias)
        desired = -np.log1p(np.exp(scores[1] - scores[0]))
        guided = reference.log_softmax(raw) + 2.0 * desired
        odds = 0.55 * np.exp(0.3)
        order = np.argsort(desired)
        mass = np.cumsum(np.exp(reference.log_softmax(guided))[order])
        light = order[(mass < 0.4) & (desired[order] < np.log(odds / (odds + 0.45)))]
        guided[light] -= 10_000
        return guided

    return combine


def test_a_discriminator_reads_each_class_under_its_own_prompt():
    requests, params = requests_of(LENGTHS), params_of(ARM)
    models = class_prompts(requests)
    prompts = [row[own].tolist() for row, own in zip(*requests[:2], strict=True)]
    combine = gedi(prompts, models, reference.next_logits(ARM, params))
    guide_models = tuple(GuideModel(params, *model) for model in models)
    check(GEDI, (ARM, ARM), guide_models, combine, requests)


@pytest.mark.parametrize(
    "guide, networks",
    [
        pytest.param(RewardGuided(alphas=(0.0,)), (ARM,), id="reward"),
        pytest.param(
            ValueAugmented(beta=0.0, top_k=4), (VALUE,), id="value", marks=pytest.mark.slow
        ),
        pytest.param(
            DiscriminatorGuided(strength=0.0, filter_p=0.0),
            (ARM, ARM),
            id="discriminator",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_without_strength_the_policy_samples_as_without_a_guide(guide, networks):
    requests = requests_of(LENGTHS)
    models = tuple(GuideModel(params_of(network)) for network in networks)
    guided = sampled(guide, networks, models, requests)
    base = sampled(None, (), (), requests)
    np.testing.assert_array_equal(guided.tokens, base.tokens)
    np.testing.assert_array_equal(guided.stop_reason, base.stop_reason)
    for name in reference.STATISTICS:
        np.testing.assert_allclose(getattr(guided, name), getattr(base, name), rtol=0, atol=2e-6)


def test_the_engine_fills_up_the_prompts_of_a_guides_models():
    """Three prompts on eight devices, and prompts of the classes in a bucket of their own."""
    every, params = requests_of(LENGTHS), params_of(ARM)
    network = network_of()
    models = tuple(GuideModel(params, *model) for model in class_prompts(every))
    expected = sampled(GEDI, (ARM, ARM), models, every)
    three = every._replace(**{name: getattr(every, name)[:3] for name in every._fields[:3]})

    def wide(x):
        return np.pad(x[:3], ((0, 0), (20, 0)))

    mesh = make_mesh({"data": 8})
    engine = Engine(network, CONFIG, mesh, guide=GEDI, guide_networks=(ARM, ARM))
    weights = engine.load(params_of(network))
    placed = jax.device_put(params, ARM.shardings(mesh))
    padded = tuple(GuideModel(placed, wide(m.prompts), wide(m.prompt_mask)) for m in models)
    found = engine.sample(weights, three, key=KEY, step=4, guide_models=padded)
    np.testing.assert_array_equal(found.tokens, expected.tokens[:3])
    np.testing.assert_allclose(found.logprobs, expected.logprobs[:3], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="each of the 4 prompts, got 3"):
        engine.sample(weights, every, key=KEY, step=4, guide_models=padded)
