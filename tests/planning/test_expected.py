"""The terms of an update, counted by hand for small round numbers."""

import pytest

from rljax.planning.analytic import Layout
from rljax.planning.chips import read_topology
from rljax.planning.expected import (
    SAMPLING,
    TRAINING,
    between_bytes,
    expected_step,
    forward_attention,
    update_seconds,
    update_terms,
)
from tests.planning.test_analytic import WORK

ONE = read_topology("v5e:1x1")
ROWS = WORK | {
    "layers": 3,
    "width": 10,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 8,
    "hidden": 7,
    "vocabulary": 50,
    "experts_per_token": 0,
    "activation_bytes": 2,
    "sequences_per_update": 6,
    "samples": 3,
    "prompt": 2,
    "completion": 4,
    "shared": False,
    "updates": 1,
    "update_flops": 3e6,
}


def test_attention_sees_what_is_before_it():
    # Six rows of six tokens: 21 pairs each; two products over 4 heads of 8 in 3 layers.
    assert forward_attention(ROWS) == 4 * 3 * 4 * 8 * 6 * 21
    # A prompt of two tokens that three rows share has its 3 pairs once.
    assert forward_attention(ROWS | {"shared": True}) == 4 * 3 * 4 * 8 * (2 * 3 + 6 * (8 + 10))


def test_masked_diffusion_sees_both_ways_in_each_draw():
    both = ROWS | {"both_ways": True, "draws": 5}
    assert forward_attention(both) == 5 * 4 * 3 * 4 * 8 * 6 * 6 * 6
    assert between_bytes(both, forwards=2) == 5 * between_bytes(ROWS, forwards=2)


def test_bytes_between_products():
    layer = (10 * 10 + 2 * (4 + 2) * 8 + 3 * 7) * 2
    # 36 tokens, 3 layers, forward twice and backward as two; 24 learned tokens have logits.
    assert between_bytes(ROWS, forwards=2) == 36 * 3 * layer * 4 + 24 * 50 * 16


@pytest.mark.parametrize(("remat", "forwards", "executed"), [("dots", 1, 3.5), ("full", 2, 4.5)])
def test_terms_of_an_update(remat, forwards, executed):
    terms = update_terms(ROWS, Layout(mesh={}, remat=remat, micro=6), ONE)
    attention = forward_attention(ROWS)
    assert terms["products"] == pytest.approx((1e6 - attention) * (forwards + 2) / 1.97e14)
    # Heads of 8 leave 120 of 128 columns idle.
    assert terms["attention"] == pytest.approx(attention * executed * 16 / 1.97e14)
    assert terms["between"] == pytest.approx(between_bytes(ROWS, forwards) / 8.1e11)
    assert terms["links"] == 0


def test_heads_fill_half_of_the_arrays_of_v6e():
    layout = Layout(mesh={}, remat="full", micro=6)
    wide = ROWS | {"head_dim": 128}
    v5e, v6e = (update_terms(wide, layout, read_topology(f"{chip}:1x1")) for chip in ("v5e", "v6e"))
    assert v6e["attention"] / v5e["attention"] == pytest.approx(2 * 1.97e14 / 9.18e14)


def test_links_hide_behind_the_rest():
    terms = {"products": 2.0, "attention": 0.5, "between": 0.5, "links": 2.5}
    assert update_seconds(terms) == 3.0
    assert update_seconds(terms | {"links": 4.0}) == 4.0


def test_a_step_is_expected_by_the_efficiency_of_each_phase():
    work = ROWS | {"remat": "full", "sequences_per_micro_batch": 6, "sampler_devices": 0}
    phases = {name: {"seconds": 1.0} for name in ("sampling", "scores")}
    phases["update"] = {"seconds": 1e-9}
    plan = {"workload": work, "mesh": {}, "phases": phases, "split": None}
    found = expected_step(plan, ONE)
    terms = update_terms(work, Layout(mesh={}, remat="full", micro=6), ONE)
    expected = {
        "sampling": 1 / SAMPLING,
        "scores": 1 / TRAINING,
        "update": update_seconds(terms) / TRAINING,
    }
    assert found["expected_seconds"] == pytest.approx(expected)
    assert found["expected_step_seconds"] == pytest.approx(sum(expected.values()))
    # What was compiled may take longer than its terms, such as where a critic is updated too.
    phases["update"] = {"seconds": 1.0}
    assert expected_step(plan, ONE)["expected_seconds"]["update"] == 1.0


def test_a_split_is_expected_to_take_as_long_as_its_longer_side():
    work = ROWS | {"remat": "full", "sequences_per_micro_batch": 6, "sampler_devices": 2}
    phases = {
        "load": {"seconds": 1.0, "side": "trainer"},
        "sampling": {"seconds": 2.0, "side": "sampler"},
        "update": {"seconds": 1.0, "side": "trainer"},
    }
    split = {"bytes": 4e10, "links": 2}
    plan = {"workload": work, "mesh": {"data": 2}, "phases": phases, "split": split}
    four = read_topology("v5e:2x2")
    assert expected_step(plan, four)["expected_step_seconds"] == 2.0 / SAMPLING
    phases["sampling"]["seconds"] = 0.5
    assert expected_step(plan, four)["expected_step_seconds"] == 1.0 / TRAINING + 1.0
