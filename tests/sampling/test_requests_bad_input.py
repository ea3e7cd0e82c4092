"""What a sampler refuses: each message names the field, the value and what is allowed."""

import jax
import numpy as np
import pytest

from rljax.sampling.checks import check_guide_prompts, check_memory, check_requests, needed_bytes
from rljax.sampling.choose import Penalties
from rljax.sampling.config import SamplingConfig
from rljax.sampling.distribution import EntropyTemperature, TokenFilter
from rljax.sampling.engine import Engine
from rljax.sampling.guides import DiscriminatorGuided, RewardGuided
from rljax.sampling.sampler import GuideModel, make_sampler
from rljax.sampling.weights import sampling_network
from tests.sampling.tiny import (
    KEY,
    config_of,
    network_of,
    one_device,
    params_of,
    requests_of,
    sample,
)

GROUP = 3  # of config_of; four prompts of 1, 6, 3 and 4 tokens


def full(value, dtype=np.int32):
    return np.full((4, GROUP), value, dtype)


def one(value, other=0, dtype=np.int32, place=(1, 2)):
    """[4, G], `value` for sample 2 of prompt 1."""
    array = full(other, dtype)
    array[place] = value
    return array


def changed(requests, **fields):
    return requests._replace(**fields)


# --- arrays --------------------------------------------------------------------------------------


def without_row(mask, row):
    mask = mask.copy()
    mask[row] = False
    return mask


def with_hole(mask):
    mask = mask.copy()
    mask[1, 3] = False
    return mask


def with_token(prompts, token):
    prompts = prompts.copy()
    prompts[2, -1] = token
    return prompts


BASE = requests_of()
ARRAYS = {
    "empty prompt": (
        dict(prompt_mask=without_row(BASE.prompt_mask, 2)),
        r"Prompt 2 is empty: at least one token is needed \(prompts\)",
    ),
    "no prompts": (
        dict(prompts=BASE.prompts[:0], prompt_mask=BASE.prompt_mask[:0]),
        r"\[B, P\] with B >= 1, got \(0, 6\) and \(0, 6\) \(prompts\)",
    ),
    "other mask": (
        dict(prompt_mask=BASE.prompt_mask[:, 1:]),
        r"\[B, P\] .*got \(4, 6\) and \(4, 5\) \(prompts\)",
    ),
    "hole": (
        dict(prompt_mask=with_hole(BASE.prompt_mask)),
        r"on the left, without holes; prompt 1 has the mask \[1, 1, 1, 0, 1, 1\] \(prompts\)",
    ),
    "right padding": (
        dict(prompt_mask=BASE.prompt_mask[:, ::-1]),
        r"on the left, without holes; prompt 0 has the mask \[1, 0, 0, 0, 0, 0\] \(prompts\)",
    ),
    "large id": (
        dict(prompts=with_token(BASE.prompts, 13)),
        r"Prompt 2 holds the token id 13, .*vocabulary \[0, 13\) \(prompts\)",
    ),
    "negative id": (
        dict(prompts=with_token(BASE.prompts, -1)),
        r"Prompt 2 holds the token id -1, .*vocabulary \[0, 13\) \(prompts\)",
    ),
    "ids": (
        dict(prompt_ids=np.arange(3, dtype=np.int32)),
        r"prompt_ids must have shape \(4,\), got \(3,\) \(prompt_ids\)",
    ),
    "continued shape": (
        dict(continued=full(0)),
        r"continued must have shape \(4,\), got \(4, 3\) \(continued\)",
    ),
    "negative continued": (
        dict(continued=np.int32([0, 0, -2, 0])),
        r"continued must be >= 0, got -2 \(continued\)",
    ),
    "all continued": (
        dict(continued=np.int32([0, 0, 3, 0])),
        r"Prompt 2 has 3 tokens, of which 3 are said to be completion: .*\(continued\)",
    ),
    "no limit": (
        dict(max_new_tokens=one(0, 5)),
        r"max_new_tokens=0 of sample 2 of prompt 1 is no more than the 0 tokens .*\(max_new_tokens",
    ),
    "limit reached": (
        dict(max_new_tokens=full(4), continued=np.int32([0, 4, 0, 0])),
        r"max_new_tokens=4 of sample 0 of prompt 1 is no more than the 4 tokens",
    ),
    "least negative": (
        dict(min_new_tokens=one(-1)),
        r"min_new_tokens=-1 of sample 2 of prompt 1 must be in 0\.\.7, .*\(min_new_tokens\)",
    ),
    "least above most": (
        dict(min_new_tokens=one(5, 4), max_new_tokens=full(4)),
        r"min_new_tokens=5 of sample 2 of prompt 1 must be in 0\.\.4, its max_new_tokens",
    ),
    "least above the room": (
        dict(min_new_tokens=one(10), continued=np.int32([0, 2, 0, 0])),
        r"min_new_tokens=10 of sample 2 of prompt 1 must be in 0\.\.9, its max_new_tokens",
    ),
    "negative temperature": (
        dict(temperature=one(-0.5, 1, np.float32)),
        r"temperature must be finite and >= 0 \(0 is greedy\), got -0\.5 \(temperature\)",
    ),
    "nan temperature": (
        dict(temperature=one(np.nan, 1, np.float32)),
        r"temperature must be finite and >= 0 .*got nan",
    ),
}
ARRAYS |= {
    f"{name} shape": (
        {name: full(1)[:, :2]},
        rf"{name} must have shape \(4, 3\), got \(4, 2\) \({name}\)",
    )
    for name in ("sample_ids", "temperature", "min_new_tokens", "max_new_tokens")
}


@pytest.mark.parametrize("fields, message", ARRAYS.values(), ids=ARRAYS)
def test_requests_that_cannot_be_answered(fields, message):
    with pytest.raises(ValueError, match=message):
        check_requests(changed(BASE, **fields), config_of(), 13)


def test_requests_at_the_edge_are_answered():
    check_requests(BASE, config_of(), 13)
    edge = dict(
        continued=np.int32([0, 5, 2, 3]),
        min_new_tokens=full(7),
        max_new_tokens=full(7),
        temperature=full(0, np.float32),
        sample_ids=full(9),
    )
    check_requests(changed(BASE, **edge), config_of(), 13)
    check_requests(changed(BASE, prompts=with_token(BASE.prompts, 12)), config_of(), 13)
    outside = np.where(BASE.prompt_mask, BASE.prompts, -7)  # padding may hold anything
    check_requests(changed(BASE, prompts=outside), config_of(), 13)


@pytest.mark.parametrize("fields", [dict(top_k=3), dict(top_p=0.5), dict(min_p=0.2)])
def test_greedy_rows_of_a_truncated_filter(fields):
    ((name, value),) = fields.items()
    greedy = changed(BASE, temperature=one(0, 1, np.float32))
    with pytest.raises(ValueError, match=rf"temperature=0 in a row .*reset .*{name}={value}"):
        check_requests(greedy, config_of(**fields), 13)


def test_a_row_has_one_rule_for_its_temperature():
    config = config_of(entropy_temperature=EntropyTemperature(theta=1.0))
    with pytest.raises(ValueError, match="exclude each other .*entropy_temperature"):
        check_requests(changed(BASE, temperature=full(1, np.float32)), config, 13)


SLOPES = np.tile(np.float32([0.0, 0.1, 0.1, 0.05]), (4, 1))


@pytest.mark.parametrize(
    ("slopes", "fields", "own", "message"),
    [
        (SLOPES[:3], {}, None, r"must be \(4, 4\) numbers.*got \(3, 4\)"),
        (SLOPES + 1, {}, None, r"a limit, in \[0, 1\).*first row \[1.0"),
        (SLOPES, {}, full(1, np.float32), r"exclude temperature \("),
        (SLOPES, dict(temperature=0.0), None, r"exclude token_filter.temperature=0"),
        (
            SLOPES,
            dict(entropy_temperature=EntropyTemperature(theta=1.0)),
            None,
            r"exclude token_filter.entropy_temperature",
        ),
    ],
)
def test_slopes_of_a_temperature(slopes, fields, own, message):
    check_requests(changed(BASE, temperature_slopes=SLOPES), config_of(), 13)
    asked = changed(BASE, temperature_slopes=slopes, temperature=own)
    with pytest.raises(ValueError, match=message):
        check_requests(asked, config_of(**fields), 13)


def test_prompts_of_a_guides_model():
    with pytest.raises(ValueError, match=r"each of the 5 prompts, got 4 .*guide_models\[1\].prom"):
        check_guide_prompts(BASE.prompts, BASE.prompt_mask, 5, 13, 1)
    with pytest.raises(ValueError, match=r"Prompt 2 holds .* 99, .*guide_models\[0\].prompts"):
        check_guide_prompts(with_token(BASE.prompts, 99), BASE.prompt_mask, 4, 13, 0)


# --- settings ------------------------------------------------------------------------------------

SETTINGS = {
    "samples": (dict(samples_per_prompt=0), r"samples_per_prompt must be >= 1, got 0 \(config"),
    "room": (dict(max_new_tokens=0), r"max_new_tokens must be >= 1, got 0 \(config"),
    "slots": (dict(slots=-1), r"slots must be >= 0, got -1 \(config\.sampler\.slots\)"),
    "refill": (dict(refill_every=0), r"refill_every must be >= 1, got 0 \(config\.sampler\.ref"),
    "prefill": (dict(prefill_tokens=0), r"prefill_tokens must be >= 1, got 0 \(config\.sampler"),
    "top": (dict(top_logprobs=-1), r"top_logprobs must be >= 0, got -1"),
    "stop": (dict(stop_tokens=()), r"At least one stop token"),
    "cache": (dict(cache_dtype="int4"), r"Unknown cache_dtype 'int4'; known: .*'int8'.*config\.s"),
    "shrink": (dict(shrink=(4, 2)), r"shrink must be ascending divisors >= 2.*\(4, 2\)"),
    "shrink by one": (dict(shrink=(1,)), r"shrink must be ascending divisors >= 2.*\(1,\)"),
}


@pytest.mark.parametrize("fields, message", SETTINGS.values(), ids=SETTINGS)
def test_settings_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        config_of(**fields)


@pytest.mark.parametrize("top_p", [0.0, -0.1, 1.5, float("nan")])
def test_top_p_outside_its_range(top_p):
    with pytest.raises(ValueError, match=rf"top_p must be in \(0, 1\], got {top_p} \(config\."):
        TokenFilter(top_p=top_p)


def test_more_likely_tokens_than_there_are():
    with pytest.raises(ValueError, match="top_logprobs=14 is more than the vocabulary of 13"):
        make_sampler(network_of(), config_of(top_logprobs=14))


def test_weights_of_unknown_precision():
    message = r"Unknown precision 'fp8' .*known: .*'bfloat16', 'int8' \(config\.sampler\.weights\)"
    with pytest.raises(ValueError, match=message):
        sampling_network(network_of(), "fp8")


def test_networks_that_do_not_write_and_guides_without_models():
    with pytest.raises(ValueError, match="causal=False"):
        make_sampler(network_of(causal=False), config_of())
    with pytest.raises(ValueError, match=r"combines 2 models, but 1 networks .*guide_networks"):
        make_sampler(network_of(), config_of(), guide=RewardGuided())
    with pytest.raises(ValueError, match="never read without a guide"):
        make_sampler(network_of(), config_of(), guide_networks=(network_of(),))


def test_guides_whose_models_or_states_are_missing():
    network, config = network_of(), config_of()
    params, networks = params_of(network), (network,)
    with pytest.raises(ValueError, match=r"1 guide_networks, .*parameters of 0 .*guide_models"):
        sample(network, params, config, BASE, guide=RewardGuided(), guide_networks=networks)
    continued = changed(BASE, continued=np.int32([0, 1, 1, 1]))
    with pytest.raises(ValueError, match=r"DiscriminatorGuided carries a state .*continued"):
        sample(
            network,
            params,
            config,
            continued,
            guide=DiscriminatorGuided(),
            guide_networks=networks * 2,
            guide_models=(GuideModel(params),) * 2,
        )


# --- memory --------------------------------------------------------------------------------------


def memory(config: SamplingConfig, limit: int, shards: int = 1) -> None:
    check_memory([network_of().config], config, 8, 32, one_device(), shards, limit)


def test_needed_bytes_by_hand():
    """One layer of two key-value heads of 8 numbers in float32; 16 rows of the vocabulary."""
    model, token = network_of().config, 2 * 2 * 8 * 4
    config = config_of(samples_per_prompt=4, max_new_tokens=10, slots=6, refill_every=3)
    assert needed_bytes([model], config, 8, 32, shards=1) == {
        "cache of the prompts": 8 * 32 * token,
        "cache of the samples": 6 * 13 * token,
        "logits": 3 * 4 * 6 * 16,
    }
    int8 = config_of(
        samples_per_prompt=4,
        max_new_tokens=10,
        cache_dtype="int8",
        penalties=Penalties(presence=1.0),
    )
    token = 2 * 2 * (8 + 4)
    assert needed_bytes([model] * 2, int8, 8, 32, shards=2) == {
        "cache of the prompts": 2 * 8 * 32 * token,
        "cache of the samples": 2 * 32 * 10 * token,
        "logits": (2 * 3 * 4 + 5) * 32 * 16,
    }


def test_a_cache_larger_than_memory():
    config = config_of(samples_per_prompt=4, max_new_tokens=10)
    needed = sum(needed_bytes([network_of().config], config, 8, 32, 1).values())
    memory(config, needed)
    with pytest.raises(ValueError) as error:
        memory(config, needed - 1)
    message = str(error.value)
    for part in (
        "Sampling 8 prompts x 4 needs 0.00 GiB on each device, which has 0.00 GiB",
        "cache of the prompts 0.00 GiB",
        "config.sampler.slots",
        "config.sampler.cache='int8'",
        "max_new_tokens",
    ):
        assert part in message
    with pytest.raises(ValueError) as error:
        memory(config_of(max_new_tokens=10**9, cache_dtype="int8"), 16 * 2**30)
    assert "which has 16.00 GiB" in str(error.value) and "'int8'" not in str(error.value)
    memory(config, needed // 2, shards=2)  # half for each


# --- the engine says it before it compiles -------------------------------------------------------


def test_the_engine_checks_first(compilations):
    engine = Engine(network_of(), config_of(), one_device())
    weights = engine.load(params_of(network_of()))
    bad = changed(BASE, prompts=with_token(BASE.prompts, 13))
    with compilations() as programs:
        with pytest.raises(ValueError, match="Prompt 2 holds the token id 13"):
            engine.sample(weights, bad, key=KEY, step=0)
        engine = Engine(network_of(), config_of(max_new_tokens=10**9), one_device())
        with pytest.raises(ValueError, match="needs .* GiB on each device"):
            engine.sample(weights, BASE, key=KEY, step=0)
    assert "jit(sample)" not in programs
    with pytest.raises(ValueError, match="Unknown precision 'half'"):
        Engine(network_of(), config_of(), one_device(), weights="half")
    assert jax.tree.leaves(weights)
