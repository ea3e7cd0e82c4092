"""The process that compiles: `python -m rljax.planning.worker '{"config": ...}'` prints JSON.

It is one for each program, so that the memory of one compilation never adds to that of the next.
"""

import argparse
import hashlib
import json
import re
import resource
import sys
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rljax.commands.parser import Parser, named
from rljax.commands.run import run

# Changes when what is kept of a compiled program does.
FORMAT = 5
# What the compiler says of a program that is too large for the chip: of all of it, or of its
# temporaries alone.
TOO_LARGE = re.compile(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm")
TEMPORARIES = re.compile(r"for HLO temporaries \(([\d.]+)([KMGT]?)\) exceeds")
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def work(options: argparse.Namespace) -> None:
    """Describes a run, or compiles one of its programs."""
    request = json.loads(options.request)
    if limit := request["memory_gb"]:
        resource.setrlimit(resource.RLIMIT_DATA, (limit * 2**30, limit * 2**30))
    # Imported late, so that the limit holds for all of it.
    from rljax.planning.chips import read_topology
    from rljax.planning.programs import open_run

    topology = read_topology(request["topology"])
    overrides = tuple(request["overrides"])
    opened = open_run(request["config"], overrides, topology, request["stage"])
    name = request["program"]
    answer = described(opened) if name is None else compiled(opened, name, request)
    print(json.dumps(answer))


def described(opened: Any) -> dict[str, Any]:
    """What a plan needs to know of a run besides its programs."""
    from rljax.planning.useful import useful_flops
    from rljax.planning.workload import workload_of

    stage, context = opened.stage, opened.context
    return {
        "stage": stage.name,
        "stages": [each.name for each in context.stages],
        "method": stage.objective.method.name,
        "mesh": dict(opened.mesh.shape),
        "parameters": context.network.parameter_count,
        "resident": dict(opened.resident),
        "split": split_of(opened),
        "programs": {
            name: {
                "times": each.times,
                "held": list(each.held),
                "side": each.side,
                "waiting": each.waiting,
                "mesh": dict(opened.mesh_of(name).shape),
                "places": [list(device.coords) for device in opened.mesh_of(name).devices.flat],
                "slices": [slice_of(device) for device in opened.mesh_of(name).devices.flat],
                "topology": str(opened.topology_of(name)),
            }
            for name, each in opened.programs.items()
        },
        "workload": workload_of(context, stage),
        **useful_flops(context, stage),
    }


def slice_of(device: Any) -> int:
    """The slice of a chip; where there is one slice, its chips do not say so."""
    return getattr(device, "slice_index", 0)


def split_of(opened: Any) -> dict[str, Any] | None:
    """The chips that only sample, and what their weights have to pass; None where there are none.

    `links` are those between the two parts, `bytes` what all chips of the sampler take in.
    """
    from rljax.planning.parts import cut_links, devices_of
    from rljax.training.run.meshes import split_devices

    if opened.split is None:
        return None
    trains, samples = opened.split
    count, topology = len(samples.devices), opened.topology
    parts = split_devices(devices_of(topology), count)
    places = [[device.coords for device in part] for part in parts]
    return {
        "trainer_devices": len(trains.devices),
        "sampler_devices": count,
        "trainer": trains.how,
        "sampler": samples.how,
        "bytes": count * opened.programs["sampling"].taken_in,
        "links": cut_links(topology, *places),
    }


def compiled(opened: Any, name: str, request: dict[str, Any]) -> dict[str, Any]:
    """Memory and costs of a program, from the cache where it was compiled before."""
    import jax

    topology = str(opened.topology_of(name))
    begin = time.monotonic()
    with jax.set_mesh(opened.mesh_of(name)):
        lowered = opened.programs[name].lower()
    lowering = time.monotonic() - begin
    assumed = opened.programs[name].assumed
    file = Path(request["cache"]) / f"{program_hash(lowered.as_text(), topology, assumed)}.json"
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8")) | {"cached": True}
    begin = time.monotonic()
    try:
        program = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        held = sum(opened.resident[kind] for kind in opened.programs[name].held)
        used = refused_bytes(str(error), held)
        if used is None:
            raise
        answer: dict[str, Any] = {"bytes": used, "too_large": True}
    else:
        answer = measured(program, opened.mesh_of(name), assumed)
    answer |= {"lower_seconds": lowering, "compile_seconds": time.monotonic() - begin}
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{time.monotonic_ns()}")
    part.write_text(json.dumps(answer), encoding="utf-8")
    part.replace(file)
    return answer | {"cached": False}


def refused_bytes(said: str, arguments: int) -> float | None:
    """How large a program is that the compiler refuses; None: that is not what it says.

    Args:
        said: by the compiler.
        arguments: bytes of what the program is given, which it may leave out.
    """
    if found := TOO_LARGE.search(said):
        return float(found[1]) * UNITS[found[2]]
    if found := TEMPORARIES.search(said):
        return float(found[1]) * UNITS[found[2]] + arguments
    return None


def measured(
    program: Any, mesh: Any, assumed: Mapping[str, tuple[float, ...]] | None = None
) -> dict[str, Any]:
    """What a compiled program takes, on one chip of its mesh; `assumed` as in `costs_of`."""
    from rljax.planning.costs import costs_of
    from rljax.planning.hlo import Program

    memory = program.memory_analysis()
    numbers = {device.id: number for number, device in enumerate(mesh.devices.flat)}
    costs = costs_of(Program.of(program), mesh.size, assumed, numbers)
    sizes = {
        "arguments": memory.argument_size_in_bytes,
        "outputs": memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
        "code": memory.generated_code_size_in_bytes,
    }
    return {
        **sizes,
        "bytes": sum(sizes.values()),
        "too_large": False,
        "flops": costs.flops,
        "hbm_bytes": costs.hbm_bytes,
        "cycles": costs.cycles,
        "collectives": [
            {"kind": c.kind, "groups": c.groups, "bytes": c.bytes, "count": c.count}
            for c in costs.collectives
        ],
        "kernels": dict(costs.kernels),
        "endless": costs.endless,
    }


def program_hash(text: str, topology: str, assumed: Mapping[str, tuple[float, ...]]) -> str:
    """The name of a compiled program: what it does, for which slice, by which compiler.

    Args:
        text: of the lowered program, which says on how many chips it runs.
        topology: of the slice.
        assumed: how often its loops run (programs.py).
    """
    versions = [str(FORMAT), topology, *(version(each) for each in ("jax", "jaxlib", "libtpu"))]
    loops = json.dumps({name: list(given) for name, given in sorted(assumed.items())})
    return hashlib.sha256("\n".join([*versions, loops, text]).encode()).hexdigest()[:32]


def parser() -> Parser:
    """The one word."""
    made = Parser(__doc__)
    made.add_argument("request", type=named, metavar="JSON")
    return made


if __name__ == "__main__":
    sys.exit(run(parser(), work))
