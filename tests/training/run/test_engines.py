"""The sampler's configuration follows from the network's kind."""

import pytest

from rljax.config.load import complete
from rljax.sampling.config import SamplingConfig
from rljax.sampling.diffusion_config import DiffusionConfig
from rljax.sampling.distribution import EntropyTemperature, TokenFilter
from rljax.training.run.engines import check_sampler, sampling_config

PLAIN = TokenFilter()
SIZES = dict(samples_per_prompt=4, max_new_tokens=8, stop_tokens=(2, 3), pad_token=0)


def settings(**sampler):
    return complete({"stages": ("s",), "s": {"method": "sft"}, "sampler": sampler}).sampler


@pytest.fixture
def made(tiny_network):
    """made(causal, token_filter, stop_strings, model, **config.sampler)

    The mask token of a network that sees both ways is 9, unless `model` says otherwise.
    """

    def make(causal, token_filter=PLAIN, stop_strings=(), model=None, **sampler):
        shape = {} if causal else {"mask_token": 9} | (model or {})
        model = tiny_network(causal=causal, **shape).config
        return sampling_config(
            model,
            settings(**sampler),
            **SIZES,
            token_filter=token_filter,
            stop_strings=stop_strings,
        )

    return make


def test_causal_networks_are_decoded_token_by_token(made):
    token_filter = TokenFilter(temperature=0.7, top_k=5)
    found = made(True, token_filter, ("end",), slots=16, shrink=(4,), cache="int8")
    assert found == SamplingConfig(
        **SIZES, token_filter=token_filter, slots=16, shrink=(4,), cache_dtype="int8"
    )


def test_networks_that_see_both_ways_fill_masked_positions(made):
    sizes = dict(SIZES, mask_token=9)
    found = made(False, TokenFilter(temperature=0.5))
    assert found == DiffusionConfig(**sizes, block_tokens=8, steps=8, temperature=0.5)
    fields = dict(block_tokens=4, steps=2, stop_confidence="zero", cfg_scale=1.5)
    fields |= dict(forbid_mask_token=False)
    found = made(False, model={"shift_logits": True}, diffusion=fields)
    expected = DiffusionConfig(**sizes, temperature=1.0, shift_logits=True, **fields)
    assert found == expected


@pytest.mark.parametrize(
    "causal, sampler, message",
    [
        (True, {"diffusion": {"steps": 4}}, r"config.sampler.diffusion.steps=4 is never read: a"),
        (True, {"diffusion": {"cfg_scale": 0.0}}, "cfg_scale=0.0 is never .*causal=True"),
        (False, {"slots": 4}, r"config.sampler.slots=4 is never read: .*by masked diffusion"),
        (False, {"shrink": ()}, r"config.sampler.shrink=\(\) is never read"),
        (False, {"cache": "int8"}, "config.sampler.cache='int8' is never read"),
        (False, {"model": {"mask_token": -1}}, r"mask token \(config.model.mask_token\)"),
        (
            False,
            {"diffusion": {"block_tokens": 3}},
            r"block_tokens must be a divisor of max_new_tokens=8; got 3 \(config.sampler.diffusion",
        ),
    ],
)
def test_settings_that_are_never_read_or_cannot_be_are_refused(made, causal, sampler, message):
    with pytest.raises(ValueError, match=message):
        made(causal, **sampler)


@pytest.mark.parametrize(
    "filtered, name",
    [
        (dict(top_k=5), "top_k=5"),
        (dict(top_p=0.9), "top_p=0.9"),
        (dict(min_p=0.1), "min_p=0.1"),
        (dict(forbidden_tokens=(3,)), r"forbidden_tokens=\(3,\)"),
        (dict(logit_bias=((3, 1.0),)), r"logit_bias=\(\(3, 1.0\),\)"),
        (dict(entropy_temperature=EntropyTemperature(theta=0.5)), "entropy_theta=0.5"),
    ],
)
def test_filters_that_diffusion_never_reads_are_refused(made, filtered, name):
    with pytest.raises(ValueError, match=rf"config.<stage>.sampling.{name} is never read: .*False"):
        made(False, TokenFilter(**filtered))
    with pytest.raises(ValueError, match=r"stop_strings=\('end',\) is never read"):
        made(False, stop_strings=("end",))


def test_what_both_read_is_free(tiny_network):
    both = settings(weights="bfloat16", gather_weights=False, mesh={"data": 1})
    for causal in (True, False):
        check_sampler(tiny_network(causal=causal).config, both)


def test_a_run_refuses_settings_of_another_kind_before_anything_compiles(pieces):
    with pytest.raises(ValueError, match="config.sampler.diffusion.steps=4 is never read"):
        pieces("reinforce", "--config.sampler.diffusion.steps=4")
