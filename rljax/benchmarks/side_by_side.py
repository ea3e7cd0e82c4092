"""What runs side by side cost, against one run alone."""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rljax.parallel.mesh import make_mesh
from rljax.training.device_loop.program import DeviceProgram
from rljax.training.device_loop.runs import SideBySide

STEPS = 5  # of a timed call


def time_side_by_side(
    config: ConfigDict, counts: Sequence[int], *, rounds: int = 5
) -> list[dict[str, Any]]:
    """Times chunks of steps of so many seeds, in alternation; medians over the rounds.

    Random parameters are used: what a step costs does not depend on them.

    Args:
        config: of one stage that the device loop runs.
        counts: numbers of seeds; the first is what the others are compared with.
        rounds: timed calls of each.

    Returns:
        For each count: "seeds", "compile_seconds" (the first call), "seconds_per_step", and
        "ratio", the median over rounds of its time by that of the first count.
    """
    mesh = make_mesh(config.mesh.to_dict(), devices=jax.devices()[:1])
    program = DeviceProgram.create(config, mesh)
    params = program.network.init(jax.random.key(0), mesh)
    runs = [SideBySide(program, params, range(count)) for count in counts]
    states, compiled = [], []
    for each in runs:
        began = time.perf_counter()
        states.append(each.advance(each.start(), 1, STEPS)[0])
        compiled.append(time.perf_counter() - began)
    seconds = np.zeros((rounds, len(counts)))
    for number in range(rounds):
        for place, each in enumerate(runs):
            began = time.perf_counter()
            states[place] = each.advance(states[place], 1, STEPS)[0]
            seconds[number, place] = (time.perf_counter() - began) / STEPS
    ratios = np.median(seconds / seconds[:, :1], axis=0)
    return [
        {
            "seeds": count,
            "compile_seconds": compiled[place],
            "seconds_per_step": float(np.median(seconds[:, place])),
            "ratio": float(ratios[place]),
        }
        for place, count in enumerate(counts)
    ]


def print_side_by_side(report: Sequence[dict[str, Any]]) -> None:
    """One line for each number of seeds."""
    first = report[0]["seeds"]
    for row in report:
        print(
            f"{row['seeds']:>4} seeds: {1e3 * row['seconds_per_step']:8.1f} ms a step, "
            f"{row['ratio']:5.2f} x that of {first} (first call {row['compile_seconds']:.0f} s)"
        )
