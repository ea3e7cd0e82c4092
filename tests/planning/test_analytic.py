"""The analytic model, counted by hand for one layer of small round numbers."""

import pytest

from rljax.planning.analytic import (
    Layout,
    bandwidth,
    estimate,
    kept_numbers,
    sampling_memory,
    sampling_seconds,
    tokens_of,
    training_links,
    training_memory,
    training_seconds,
)
from rljax.planning.chips import read_topology

V5E = read_topology("v5e:2x4")
WORK = {
    "stage": "grpo",
    "parameters": 8000,
    "parameter_bytes": 4,
    "activation_bytes": 2,
    "optimizer_bytes": 8.0,
    "reference": True,
    "critic": False,
    "layers": 2,
    "width": 10,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 5,
    "hidden": 30,
    "vocabulary": 100,
    "experts": 0,
    "experts_per_token": 0,
    "remat": "full",
    "adapters": False,
    "prompts_per_step": 8,
    "sequences_per_step": 32,
    "sequences_per_update": 16,
    "sequences_per_micro_batch": 8,
    "updates": 2,
    "together": 1,
    "shared": False,
    "evaluation_prompts": 8,
    "forward_flops": 1e6,
    "update_flops": 3e6,
    "ahead": True,
    "stale": False,
    "passes": 1,
    "both_ways": False,
    "draws": 1,
    "drawn_again": False,
    "sampling_flops": 0.0,
    "denoising": None,
    "frozen_parameters": 0,
    "frozen_flops": 0.0,
    "waiting_copies": 1,
    "samples": 4,
    "call_samples": 4,
    "calls": 1,
    "prompt": 6,
    "completion": 10,
    "sampled": 10,
    "prompt_slots": 16,
    "sampler": {"slots": 0, "weights": "bfloat16", "cache": "", "mesh": {}},
    "mesh": {"data": 1, "fsdp": -1},
    "sampler_devices": 0,
}
FSDP = Layout({"data": 2, "fsdp": 4}, "full", 8)


def test_what_a_layer_keeps_of_a_token():
    assert kept_numbers(WORK, "full", 1) == 10
    assert kept_numbers(WORK, "offload", 1) == 0  # on the chip
    # Three of the width, (2 x 4 + 2 x 2) heads of 5, and gate and up of 30.
    assert kept_numbers(WORK, "dots", 1) == 30 + 60 + 60
    assert kept_numbers(WORK, "dots", 2) == 30 + 60
    # Seven of the width, and three times 6 heads of 5 and the hidden units.
    assert kept_numbers(WORK, "none", 1) == 150 + 70 + 90 + 90


def test_tokens_of_shared_and_separate_rows():
    assert tokens_of(WORK, 8) == 8 * 16
    assert tokens_of(WORK | {"shared": True}, 8) == 2 * 6 + 8 * 10


def test_memory_of_a_chip_that_trains():
    found = training_memory(WORK, FSDP)
    assert found["parameters"] == found["reference"] == 8000 * 4 / 4
    assert found["optimizer"] == 8000 * 8 / 4
    assert found["gradients"] == 8000 * 4 / 4
    assert found["critic"] == 0
    # 8 rows of 16 tokens over 8 shards: 16 tokens; 2 layers keep 10 numbers, one needs 400.
    assert found["activations"] == 16 * (2 * 10 + 400) * 2
    # Two of two layers, whole over fsdp, in two bytes.
    assert found["gathered"] == 2 * 4000 * 2
    replicated = training_memory(WORK, Layout({"data": 8}, "full", 8))
    assert replicated["parameters"] == 8000 * 4 and replicated["gathered"] == 0


def test_memory_of_a_chip_that_samples():
    found = sampling_memory(WORK, tensor=2, chips=8)
    assert found["weights"] == 8000 * 2 / 2
    # A token of a row is 2 x 2 layers x 2 heads x 5 numbers of 2 bytes, on two chips. Four shards
    # of rows have 2 prompts of 16 slots and 8 completions of 10 tokens each.
    assert found["cache"] == (2 * 16 + 8 * 10) * 80 / 2
    half = sampling_memory(WORK | {"sampler": WORK["sampler"] | {"cache": "int8"}}, 2, 8)
    assert half["cache"] == found["cache"] / 2


def test_links_between_neighbours():
    assert bandwidth(V5E, 2) == bandwidth(V5E, 4) == 5e10
    assert bandwidth(V5E, 8) == 1e11  # both directions
    assert bandwidth(read_topology("v5e:16x16"), 16) == 1e11  # a ring, both ways
    assert bandwidth(read_topology("v5p:4x4x8"), 32) == 4e11  # two rings


def test_exchanges_of_fsdp_and_data():
    # An update has 2 micro-batches, two updates: 4 passes. Weights are gathered three times for
    # each (forward, again, backward) and once for each of 4 scored micro-batches.
    gathered = (4 * 3 + 4) * 8000 * 2
    scattered = 4 * 8000 * 4
    fsdp = (gathered + scattered) * 3 / 4 / 5e10
    data = 2 * (4 * 8000 / 4 * 4) * 1 / 2 / 5e10
    assert training_links(WORK, FSDP, V5E, 2, 4) == pytest.approx(fsdp + data)


def test_exchanges_of_tensor():
    layout = Layout({"data": 4, "tensor": 2}, "none", 8)
    # Two updates of 16 rows and one pass over 32, of 16 tokens, on four shards of rows.
    tokens = 2 * 16 * 16 / 4 * 2 + 32 * 16 / 4
    tensor = 2 * (tokens * 2 * 2 * 10 * 2) * 1 / 2 / 5e10
    data = 2 * (4 * 4000 * 4) * 3 / 4 / 5e10
    assert training_links(WORK, layout, V5E, 2, 4) == pytest.approx(tensor + data)


def test_the_longest_term_is_the_time_of_training():
    work = WORK | {"update_flops": 3e15, "forward_flops": 1e15}
    # Two updates with a second forward pass, and one scoring pass.
    assert training_seconds(work, FSDP, V5E) == pytest.approx((2 * 4e15 + 1e15) / 8 / 197e12)
    kept = Layout(FSDP.mesh, "dots", 8)
    assert training_seconds(work, kept, V5E) == pytest.approx((2 * 3e15 + 1e15) / 8 / 197e12)


def test_decoding_reads_weights_and_cache_for_every_token():
    # Eight chips, each with 4 rows: 80 bytes of a token, 11 tokens of a row on average.
    cache = 4 * 11 * 80
    prefill = 2 * 8000 * 8 * 6 / 8 / 197e12
    token = (8000 * 2 + cache) / 8.1e11
    assert sampling_seconds(WORK, 1, 8, V5E) == pytest.approx(prefill + 10 * token)
    assert sampling_seconds(WORK | {"calls": 3}, 1, 8, V5E) == pytest.approx(
        3 * (prefill + 10 * token)
    )
    queued = WORK | {"sampler": WORK["sampler"] | {"slots": 8}}
    token = (8000 * 2 + cache / 4) / 8.1e11
    assert sampling_seconds(queued, 1, 8, V5E) == pytest.approx(prefill + 4 * 10 * token)


def test_a_split_takes_as_long_as_its_longer_side():
    together, split = (
        estimate(WORK, Layout({"fsdp": n}, "full", 8, m), V5E) for n, m in ((8, 0), (4, 4))
    )
    assert together.step_seconds == sum(together.seconds.values())
    assert split.step_seconds == max(split.seconds.values())
    # A chip that only samples has two copies of the weights, and nothing of the trainer's.
    assert split.sampling.keys() == {"weights", "cache", "next weights"}
    assert split.sampling["next weights"] == split.sampling["weights"]
    through_files = estimate(WORK | {"waiting_copies": 0}, Layout({"fsdp": 4}, "full", 8, 4), V5E)
    assert through_files.sampling["next weights"] == 0
    assert "optimizer" in together.sampling


def test_frozen_models_are_held_and_asked():
    work = WORK | {"frozen_parameters": 400, "frozen_flops": 5e15, "update_flops": 3.0}
    assert training_memory(work, FSDP)["others"] == 400 * 4 / 4
    seconds = training_seconds(work | {"forward_flops": 0.0}, FSDP, V5E)
    assert seconds == pytest.approx(5e15 / 8 / 197e12)


def test_masked_diffusion_runs_each_draw_and_reads_weights_for_each_step():
    work = WORK | {"both_ways": True, "draws": 3, "drawn_again": True, "update_flops": 3e15}
    # Forward, once more under remat, once more for each draw, and backward as two.
    kept = FSDP.mesh, "full", 8
    assert training_seconds(work | {"forward_flops": 0.0}, Layout(*kept), V5E) == pytest.approx(
        2 * 5e15 / 8 / 197e12
    )
    # Each of three draws gathers weights in each of its four passes, and of 4 scored parts.
    once, thrice = (training_links(WORK | {"draws": n}, FSDP, V5E, 2, 4) for n in (1, 3))
    assert thrice - once == pytest.approx(2 * 4 * 3 * 8000 * 2 * 3 / 4 / 5e10)
    denoising = {"denoising": {"passes": 5, "block": 2}, "sampling_flops": 1e3}
    found = sampling_memory(work | denoising, tensor=2, chips=8)
    assert found["weights"] == 8000 * 2 / 2
    # 8 rows of 16 + 10 slots; a layer's numbers in two bytes; logits of two positions, twice.
    assert found["rows"] == 8 * 26 * kept_numbers(WORK, "none", 2) * 2
    assert found["logits"] == 2 * 8 * 2 * 100 * 4 / 2
    seconds = sampling_seconds(work | denoising, 1, 8, V5E)
    assert seconds == pytest.approx(5 * 8000 * 2 / 8.1e11)
    full = sampling_seconds(work | denoising | {"sampling_flops": 8e15}, 1, 8, V5E)
    assert full == pytest.approx(1e15 / 197e12)
