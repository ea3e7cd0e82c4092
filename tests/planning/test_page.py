"""The page of a plan, and its bars, against hand counts."""

import re

import pytest

from rljax.planning.bars import LEFT, RIGHT, Bar, bars
from rljax.planning.page import memory_parts, plan_page

GIB = 2**30
PHASE = {
    "times": 2,
    "bytes": 6 * GIB,
    "arguments": 4 * GIB,
    "outputs": 0,
    "temporaries": 2 * GIB,
    "code": 0,
    "beside": {"optimizer": 8 * GIB},
    "bytes_per_chip": 14 * GIB,
    "compiles": True,
    "flops": 1e12,
    "hbm_bytes": 1e9,
    "collectives": [],
    "compute_seconds": 0.5,
    "memory_seconds": 0.25,
    "links_seconds": 0.0,
    "network_seconds": 0.0,
    "dominating": "compute",
}
PLAN = {
    "config": "a.py",
    "overrides": ["--config.seed=1"],
    "topology": "v5e:2x2",
    "chips": 4,
    "method": "<grpo>",
    "stage": "grpo",
    "stages": ["grpo"],
    "split": None,
    "mesh": {"data": 1, "fsdp": 4},
    "parameters": 10**9,
    "resident": {"optimizer": 8 * GIB},
    "fits": True,
    "bytes_per_chip": 14 * GIB,
    "capacity_bytes": 16 * GIB,
    "largest_phase": "update",
    "step_seconds": 1.0,
    "mfu": 0.5,
    "tokens_per_second": 1000.0,
    "phases": {"update": PHASE},
}


def widths(drawing):
    return [float(found) for found in re.findall(r'<rect [^>]*width="([\d.]+)"', drawing)]


def test_pieces_lie_end_to_end_and_the_limit_is_on_the_same_scale():
    drawing = bars([Bar("a", [("x", 6.0, 0), ("y", 2.0, 1)], "8")], "", "GiB", limit=10.0)
    unit = (RIGHT - LEFT) / (1.06 * 10)
    assert widths(drawing) == pytest.approx([6 * unit, 2 * unit], abs=0.06)
    starts = [float(found) for found in re.findall(r'<rect [^>]*?x="([\d.]+)"', drawing)]
    assert starts == pytest.approx([LEFT, LEFT + 6 * unit], abs=0.06)
    (limit,) = re.findall(r'class="limit" d="M([\d.]+) ', drawing)
    assert float(limit) == pytest.approx(LEFT + 10 * unit, abs=0.06)


def test_bars_of_nothing_have_an_axis():
    assert widths(bars([Bar("a", [("x", 0.0, 0)], "0")], "", "s")) == [0.0]


def test_memory_of_a_phase_counts_every_byte_once():
    resident = {"parameters": 3 * GIB, "optimizer": 8 * GIB, "reference": 0}
    parts = dict(memory_parts(PHASE, resident))
    assert parts == {
        "parameters": 3 * GIB,
        "optimizer": 8 * GIB,
        "other arguments": GIB,
        "temporaries": 2 * GIB,
    }
    assert sum(parts.values()) == PHASE["bytes_per_chip"]
    refused = PHASE | {"compiles": False, "bytes": 20 * GIB}
    parts = {"optimizer": 8 * GIB, "refused by the compiler": 20 * GIB}
    assert dict(memory_parts(refused, resident)) == parts


def test_the_page_loads_nothing_and_shows_the_times_of_all_runs():
    page = plan_page(PLAN)
    assert "://" not in page and "&lt;grpo&gt; on v5e:2x2" in page
    # Two runs of half a second.
    assert "1 s, bounds it" in page and "0.5 s<" in page
    assert "a.py --config.seed=1" in page


def test_a_plan_that_does_not_compile_has_a_page_without_times():
    plan = PLAN | {"phases": {"update": PHASE | {"compiles": False}}, "fits": False}
    page = plan_page(plan | {"step_seconds": None, "mfu": None})
    assert "Does not fit" in page and 'id="times"' not in page
