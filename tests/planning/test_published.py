"""Published runs as configs: their figures agree among themselves."""

import pytest

from rljax.config.load import load_config
from rljax.models.config import ModelConfig
from rljax.models.presets import preset
from rljax.planning import published
from rljax.planning.decode_bound import cache_bytes, decode_bytes, read_weights
from rljax.planning.published import Case, cases, decode_cases, flops_as_counted, get_config

CASES = list(cases().values())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rows_seconds_tokens_and_tflops_of_a_case_are_one_run(case):
    """A wrong shape, number of rows or way of counting would break one of these."""
    assert case.slice.count % case.tensor == 0
    if case.step_seconds:
        tokens = case.tokens_per_second_per_chip * case.step_seconds
        assert tokens == pytest.approx(case.tokens_per_chip, rel=1e-3)
    if case.step_seconds and case.tflops_per_chip:
        flops = case.tokens_per_chip * flops_as_counted(case)
        assert flops / case.step_seconds / 1e12 == pytest.approx(case.tflops_per_chip, rel=1e-3)


def test_the_dense_models_have_the_size_of_their_name():
    sizes = {name: read_weights(cases()[name].model) for name in ("dense_16b_v5e_256",)}
    # 32 layers of 4 x 4096 x 8192 and 3 x 4096 x 28672, and 32000 x 4096.
    assert sizes["dense_16b_v5e_256"] == 32 * (134_217_728 + 352_321_536) + 131_072_000
    assert read_weights(cases()["dense_32b_v5e_256"].model) == pytest.approx(32e9, rel=0.03)


def test_seconds_follow_from_what_is_published():
    case = Case("a", "v5e:2x2", 100, 2, "full", "full", "", preset="llama3_8b")
    told = {"tokens_per_second_per_chip": 50.0}
    assert Case(**vars(case) | told).seconds == 4.0
    assert Case(**vars(case) | told | {"step_seconds": 3.9}).seconds == 3.9
    counted = {"tflops_per_chip": 200 * flops_as_counted(CASES[0]) / 1e12, "counted": "full"}
    assert Case(**vars(case) | counted | {"sequence": 8192}).seconds == pytest.approx(81.92)
    with pytest.raises(ValueError, match="counts attention 'half'"):
        flops_as_counted(Case(**vars(case) | {"counted": "half"}))


@pytest.mark.parametrize("name", ["llama3_1_8b_v6e_8", "dense_32b_v5p_64"])
def test_a_case_is_a_valid_config(name):
    config = load_config(f"{published.__file__}:{name}", ())
    case = cases()[name]
    assert config.mesh.tensor == case.tensor and config.model.remat == case.remat
    assert config.sft.batch.sequences_per_update == case.rows_per_chip * case.slice.count
    assert config.sft.data.row_tokens == case.sequence


def test_an_unknown_case_is_an_error():
    with pytest.raises(ValueError, match="Unknown published run 'llama9'"):
        get_config("llama9")


def test_decoding_reads_weights_once_and_each_cache():
    model = ModelConfig(**preset("llama3_8b"))
    # 8 heads of 128 for keys and for values, 32 layers, 2 bytes.
    assert cache_bytes(model, 10) == 2 * 8 * 128 * 32 * 2 * 10
    # A layer: 4096 x (2 x 4096 + 2 x 1024) and 3 x 4096 x 14336.
    weights = 32 * 218_103_808 + 4096 * 128_256
    assert read_weights(model) == weights
    assert decode_bytes(model, 3, 10) == 2 * weights + 3 * cache_bytes(model, 10)
    with pytest.raises(ValueError, match="128 experts"):
        decode_bytes(ModelConfig(**preset("qwen3_30b_a3b")), 1, 1)


def test_a_window_holds_no_more_than_it_sees():
    model = ModelConfig(**preset("gemma2_2b"))  # every other layer sees 4,096 tokens
    whole, more = cache_bytes(model, 4096), cache_bytes(model, 8192)
    assert more == 1.5 * whole


def test_the_bound_of_a_published_decoding():
    case = next(each for each in decode_cases() if each.name == "llama3_8b_v5e_8")
    read = 2 * 7_504_658_432 + 128 * 2048 * 131_072
    assert case.bound == pytest.approx(128 * 8 * 8.1e11 / read)
    assert all(each.bound > each.tokens_per_second for each in decode_cases())
