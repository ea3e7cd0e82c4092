"""The comparison of decode kernels: what is read from the compiler's notes, and what it shows."""

import jax.numpy as jnp
import numpy as np
import pytest

from rljax.benchmarks.decode_attention import Case, loop_cycles, step_bundles, turns
from rljax.models.attention.ragged import _list, _Shape

OPERATIONS = """
%body.1 (p: s32[]) -> s32[] {
  %a = s32[] add(%p, %p), backend_config={"window_config":{"estimated_cycles":"30"}}
  ROOT %b = s32[] add(%a, %a), backend_config={"window_config":{"estimated_cycles":"4"}}
}

%elsewhere (p: s32[]) -> s32[] {
  %c = s32[] add(%p, %p), backend_config={"window_config":{"estimated_cycles":"200"}}
  ROOT %d = s32[] add(%p, %p), backend_config={"estimated_cycles":"9223372036854775807"}
}

ENTRY %main (p: s32[]) -> s32[] {
  %e = s32[] add(%p, %p), backend_config={"window_config":{"estimated_cycles":"1000"}}
  ROOT %w = s32[] while(%e), condition=%cond.2, body=%body.1
}
"""
SCHEDULE = """
= control target key start
LB: loop body
     0   :  { %s0 = smov }
   0x1a   :  { %1 = sbr.rel (%p) target = $region1 }
   0x20 LB: > { %s1 = sadd }
   0x9f   : > { %2 = sbr.rel (%p) target = $region2 }
  0x120   : > { %3 = sbr.rel (!%p) target = $region3 }
  0x130   :  { %4 = sfence }
"""


def test_cycles_are_those_of_loops_and_of_the_rest_as_far_as_they_are_known():
    assert loop_cycles(OPERATIONS) == (34, 1200)


def test_a_step_reaches_from_the_loops_begin_to_its_last_branch():
    assert step_bundles(SCHEDULE) == 0x100


@pytest.mark.parametrize("shares", [(1.0,), (0.25,), (0.25, 0.5, 0.75, 1.0), (0.0,)])
def test_turns_are_those_that_the_kernels_take(shares):
    case = Case(8, 2048)
    counts = np.maximum(np.resize(shares, 8) * 2048, 1).astype(int)
    shape = _Shape(8, 8, 2, 128, 2048, case.block("ragged"), 2048 // case.block("ragged"))
    todo = _list(shape, jnp.int32(2048 // 2 + 3), jnp.asarray(counts))
    assert turns(case, "ragged", shares) == todo.bounds[-1]
    # Blocks of 64 columns; the current one ends within its block.
    assert turns(case, "dense", shares) == min(max(counts) // 64 + 1, 2048 // 64)


@pytest.mark.slow
def test_the_compiler_expects_the_ragged_kernel_to_be_faster_where_auto_takes_it(
    run_for_tpu,
):
    output = run_for_tpu("-m", "rljax.benchmarks.decode_attention")
    lines = [line.split("│")[1:-1] for line in output.splitlines() if line.startswith("│")]
    rows = [[cell.strip() for cell in line] for line in lines]
    assert {row[0] for row in rows} == {"v5e", "v5p"}
    ratios = [float(row[-1]) for row in rows if int(row[2]) >= 128]
    assert len(ratios) >= 2 * 3 * 6 and min(ratios) > 1.5
