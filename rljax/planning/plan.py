"""A plan: memory and time of every program of a step on a slice, put together.

The JSON of a plan has these keys among others: `fits`, `bytes_per_chip`, `capacity_bytes`,
`step_seconds`, `mfu`, `phases`. Sizes are bytes of one chip, times seconds.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from rljax.planning.ahead import split_times
from rljax.planning.chips import read_topology
from rljax.planning.compiling import Compiler
from rljax.planning.costs import Collective
from rljax.planning.roofline import exchanges, times_of

# The parts of a program's memory, in the order in which they are shown.
KINDS = ("arguments", "outputs", "temporaries", "code")
# What a plan says of its run as it is.
KEPT = ("stage", "stages", "method", "mesh", "parameters", "resident", "workload", "split")


def make_plan(
    compiler: Compiler,
    *,
    price: float | None = None,
    told: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Compiles everything and adds it up.

    Args:
        compiler: of the run on its slice.
        price: of a chip for an hour; None: no cost is told.
        told: is called with a line as each program is done.

    Raises:
        ValueError: for what cannot be planned.
    """
    run = compiler.describe()
    phases = {}
    for name, program in run["programs"].items():
        costs = compiler.compile(name)
        phases[name] = _phase(run, name, program, costs)
        seconds = costs.get("compile_seconds", 0.0)
        told(f"{name}: compiled {'before' if costs['cached'] else f'in {seconds:.0f} s'}")
    return _whole(compiler, run, phases, price)


def _phase(
    run: dict[str, Any],
    name: str,
    program: dict[str, Any],
    costs: dict[str, Any],
) -> dict[str, Any]:
    """One program: its memory beside what else is held, and its times."""
    topology, chips = read_topology(program["topology"]), math.prod(program["mesh"].values())
    beside = held_beside(run["resident"], program)
    phase: dict[str, Any] = {
        "times": program["times"],
        "side": program["side"],
        "bytes": costs["bytes"],
        "beside": beside,
        "bytes_per_chip": costs["bytes"] + sum(beside.values()),
        "compile_seconds": costs.get("compile_seconds", 0.0),
        "cached": costs["cached"],
        "compiles": not costs["too_large"],
    }
    if costs["too_large"]:
        return phase
    found = [
        Collective(each["kind"], _groups(each["groups"]), each["bytes"], each["count"])
        for each in costs["collectives"]
    ]
    where = program["places"], program["mesh"], program["slices"]
    exchanged = exchanges(found, topology, *where)
    times = times_of(topology, costs["flops"], costs["hbm_bytes"], exchanged)
    useful = run["useful"].get(name)
    phase |= {kind: costs[kind] for kind in KINDS}
    phase |= {
        "flops": costs["flops"],
        "useful_flops": None if useful is None else useful / chips,
        "hbm_bytes": costs["hbm_bytes"],
        "cycles": costs["cycles"],
        "collectives": [dataclasses.asdict(each) for each in exchanged],
        "compute_seconds": times.compute,
        "memory_seconds": times.memory,
        "links_seconds": times.links,
        "network_seconds": times.network,
        "dominating": times.dominating,
        "seconds": times.seconds * program["times"],
        "kernels": costs["kernels"],
        "endless": costs["endless"],
    }
    if useful and times.seconds:
        phase["mfu"] = useful / chips / topology.chip.flops / times.seconds
    return phase


def held_beside(resident: Mapping[str, int], program: Mapping[str, Any]) -> dict[str, int]:
    """Bytes on a chip of what is held while a program runs, and is no argument of it."""
    if program["side"] == "sampler":
        return {"next weights": program["waiting"]}
    return {kind: size for kind, size in resident.items() if size and kind not in program["held"]}


def _whole(
    compiler: Compiler,
    run: dict[str, Any],
    phases: dict[str, dict[str, Any]],
    price: float | None,
) -> dict[str, Any]:
    """The plan of a step, given its phases."""
    topology = compiler.topology
    most = max(phase["bytes_per_chip"] for phase in phases.values())
    compiles = all(phase["compiles"] for phase in phases.values())
    capacity = topology.chip.hbm_bytes
    plan: dict[str, Any] = {
        "config": compiler.config,
        "overrides": list(compiler.overrides),
        "topology": str(topology),
        "chips": topology.count,
        **{name: run[name] for name in KEPT},
        "fits": compiles and most <= capacity,
        "bytes_per_chip": most,
        "capacity_bytes": capacity,
        "largest_phase": max(phases, key=lambda name: phases[name]["bytes_per_chip"]),
        "tokens_per_step": run["tokens"],
        "step_seconds": None,
        "step_seconds_ahead": None,
        "mfu": None,
        "phases": phases,
    }
    if not compiles:
        return plan
    in_turn = sum(phase["seconds"] for phase in phases.values())
    found = split_times(phases, run["split"], topology)
    step = in_turn if found is None else found["step_seconds"]
    useful = sum(run["useful"].get(name, 0.0) * phase["times"] for name, phase in phases.items())
    useful /= topology.count
    plan |= {
        "step_seconds": step,
        "step_seconds_ahead": None if found is None else step,
        "sides": found,
        "mfu": useful / topology.chip.flops / step,
        "tokens_per_second": run["tokens"] / step,
        "tokens_per_second_per_chip": run["tokens"] / step / topology.count,
    }
    if price is not None:
        plan["cost_per_1000_steps"] = 1000 * step / 3600 * topology.count * price
    return plan


def _groups(groups: list[list[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, groups))
