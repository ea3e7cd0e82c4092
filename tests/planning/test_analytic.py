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
    "samples": 4,
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
    assert "optimizer" in together.sampling
