"""All cells of a sweep as one compiled program, where they differ in numbers of the last stage.

It is a campaign (`comparison/campaign.py`), as a method of a comparison is: the stages before the
last one run once, and every condition starts from them with every seed.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from rljax.comparison.campaign import Campaign, run_campaign
from rljax.comparison.compare import alone, check_device, check_points
from rljax.comparison.runs import save
from rljax.comparison.sweeps.cells import Cell
from rljax.comparison.sweeps.explore import Numbers
from rljax.comparison.sweeps.folder import DONE, FOUND, End, Plan, states, write_end
from rljax.comparison.sweeps.population import Population
from rljax.config.identity import config_hash
from rljax.config.model import resolve_model
from rljax.config.validate import plain, validate
from rljax.models.network import Network, Params
from rljax.parallel.mesh import make_mesh
from rljax.tasks.symbols.alphabet import VOCAB_SIZE
from rljax.training.loop import run
from rljax.training.run.checkpoints import restore_params

WARMUP, CAMPAIGNS = "warmup", "campaigns"


class Points(NamedTuple):
    """What runs side by side: every point with every seed."""

    seeds: tuple[int, ...]
    conditions: tuple[str, ...]
    values: tuple[Mapping[str, float], ...]


def points_of(cells: tuple[Cell, ...], config: ConfigDict) -> Points:
    """The cells as points of one program.

    Args:
        cells: of the sweep.
        config: that they have in common.

    Raises:
        ValueError: for cells that one program cannot run, naming the field.
    """
    stage = config.stages[-1]
    if len(config.stages) < 2:
        raise ValueError(
            f"--vmapped starts all cells from the end of the stage before the last one, and there "
            f"is {stage} alone: leave it out, or add a warm-up (config.stages, --vmapped)."
        )
    seeds: dict[str, list[int]] = {}
    points: dict[str, dict[str, float]] = {}
    for cell in cells:
        seeds.setdefault(cell.condition, []).append(cell.seed)
        points[cell.condition] = {
            _field(name, stage): _number(name, value) for name, value in cell.values.items()
        }
    first = next(iter(seeds))
    for condition, given in seeds.items():
        if sorted(given) != sorted(seeds[first]):
            raise ValueError(
                f"{condition!r} has the seeds {sorted(given)} and {first!r} {sorted(seeds[first])}:"
                " in one program all cells have the same (--vmapped)."
            )
    last = alone(config)
    check_device(last, "--vmapped")
    check_points(last, list(points.values()), stage)
    return Points(tuple(sorted(seeds[first])), tuple(points), tuple(points.values()))


def run_vmapped(folder: Path, plan: Plan, config: ConfigDict, say: Callable[[str], None]) -> None:
    """Runs the cells that are not done, and saves what they have found.

    Args:
        folder: of the sweep.
        plan: of it.
        config: that its cells have in common.
        say: takes lines of progress.
    """
    ends = states(folder, plan.cells)
    missing = tuple(cell for cell in plan.cells if ends[cell.name].state != DONE)
    if not missing:
        return
    points = points_of(missing, config)
    mesh = make_mesh(config.mesh.to_dict(), devices=jax.devices()[:1])
    params = _started(folder / WARMUP, config, mesh)
    population = _population(folder, plan, points, alone(config))
    campaign = Campaign(
        plan.stage, alone(config), points.seeds, points.values, population=population
    )
    same = {"seeds": points.seeds, "points": points.values}
    if population is not None:
        same |= population.identity()
    identity = config_hash(plain(same))
    found = run_campaign(campaign, folder / CAMPAIGNS / identity, params, mesh, say)
    for condition, runs in zip(points.conditions, found, strict=True):
        save(dataclasses.replace(runs, method=condition, point={}), folder / FOUND)
    for cell in missing:
        write_end(folder, cell, End(DONE))


def _population(folder: Path, plan: Plan, points: Points, config: ConfigDict) -> Population | None:
    """All points as members of a population, where the sweep has a rule for one."""
    if plan.population is None:
        return None

    def allowed(numbers: Numbers) -> bool:
        try:
            check_points(config, [numbers], plan.stage)
        except ValueError:
            return False
        return True

    return Population(
        plan.population,
        points.conditions,
        points.seeds,
        points.values,
        plan.metric,
        allowed,
        folder,
    )


def _started(folder: Path, config: ConfigDict, mesh: jax.sharding.Mesh) -> Params:
    """The parameters after all stages but the last one, which run once."""
    earlier = ConfigDict(config.to_dict())
    *stages, last = config.stages
    del earlier[last]
    earlier.stages = tuple(stages)
    run(earlier, folder)
    stage = validate(earlier)[-1]
    network = Network.create(resolve_model(config.model, VOCAB_SIZE))
    return restore_params(folder / "checkpoints" / stage.name / str(stage.steps), network, mesh)


def _field(name: str, stage: str) -> str:
    if not name.startswith(f"{stage}."):
        raise ValueError(
            f"{name}: cells of one program differ in numbers of {stage}.objective and "
            f"{stage}.optimizer alone; leave out --vmapped (--vmapped)."
        )
    return name.removeprefix(f"{stage}.")


def _number(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(
            f"{name}={value!r}: cells of one program differ in numbers; leave out --vmapped "
            "(--vmapped)."
        )
    return float(value)
