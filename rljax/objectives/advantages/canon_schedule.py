"""The weights of the two comparisons, within a half and between halves, over training."""

import jax
import jax.numpy as jnp
from jax import Array

from rljax.objectives.parts import check_field

SCHEDULES = ("constant", "accuracy", "inaccuracy", "intra_first", "inter_first")


def intra_weight(
    step: Array,
    accuracy: Array,
    *,
    inter_schedule: str = "constant",
    inter_weight: float = 1.0,
    inter_steps: int = 150,
    inter_warmup: int = 30,
    inter_cycles: int = 3,
    intra_high: float = 0.6,
    intra_low: float = 0.0,
) -> Array:
    """Weight 1 - w of the comparison within a half (CANON, arXiv:2509.23962).

        constant      1 - inter_weight
        accuracy      1 - accuracy: between halves once the task is solved
        inaccuracy    accuracy
        intra_first   warm-up from 0 to `intra_high`, then cosine cycles from there to `intra_low`
        inter_first   warm-up from 1 to `intra_low`, then cosine cycles from there to `intra_high`

    Within the warm-up the weight is linear in step + 1; a cycle has (steps - warm-up) / cycles
    steps, rounded down, and restarts. The authors' runs have 150 steps, 30 of warm-up, 3 cycles.

    Args:
        step: [] i32, steps done.
        accuracy: [] f32, mean score of the batch / score of a right sample; clipped to [0, 1].
        inter_schedule: one of `SCHEDULES`.
        inter_weight: w of the constant schedule, in [0, 1].
        inter_steps: all steps of a schedule in time.
        inter_warmup: steps of its warm-up, >= 1.
        inter_cycles: its cycles, >= 1.
        intra_high: upper end of the weight in a cycle, in [0, 1].
        intra_low: lower end of the weight in a cycle, in [0, 1].

    Returns:
        [] f32 in [0, 1].

    Raises:
        ValueError: for a field outside its range, or cycles shorter than a step.
    """
    known = f"one of {', '.join(SCHEDULES)}"
    check_field("inter_schedule", inter_schedule, lambda x: x in SCHEDULES, known)
    shares = {"inter_weight": inter_weight, "intra_high": intra_high, "intra_low": intra_low}
    for name, value in shares.items():
        check_field(name, value, lambda x: 0 <= x <= 1, "in [0, 1]")
    check_field("inter_warmup", inter_warmup, lambda x: x >= 1, ">= 1")
    check_field("inter_cycles", inter_cycles, lambda x: x >= 1, ">= 1")
    least = inter_warmup + inter_cycles
    if not isinstance(least, jax.core.Tracer):
        enough = f">= inter_warmup + inter_cycles, {least}"
        check_field("inter_steps", inter_steps, lambda x: x >= least, enough)
    cycle = (inter_steps - inter_warmup) // inter_cycles
    if inter_schedule == "constant":
        return jnp.asarray(1.0 - inter_weight)
    if inter_schedule in ("accuracy", "inaccuracy"):
        share = jnp.clip(accuracy, 0.0, 1.0)
        return 1.0 - share if inter_schedule == "accuracy" else share
    warm = jnp.minimum((step + 1) / inter_warmup, 1.0)
    phase = jnp.pi * ((step - inter_warmup) % cycle) / cycle
    falling = 0.5 * (1.0 + jnp.cos(phase))  # 1 at the start of a cycle
    if inter_schedule == "intra_first":
        started, share = intra_high * warm, falling
    else:
        started, share = 1.0 - (1.0 - intra_low) * warm, 1.0 - falling
    cycled = intra_low + (intra_high - intra_low) * share
    return jnp.where(step < inter_warmup, started, cycled)
