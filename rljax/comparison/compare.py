"""Many methods on one task and one budget: a warm-up, a campaign for each method, the page."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict
from rich.console import Console

from rljax.comparison.budget import Budget, parse_budget, spent_by_all
from rljax.comparison.claims import CLAIMS
from rljax.comparison.results import claims_about
from rljax.comparison.runner import Runner, Tuning, rate_points
from rljax.comparison.runs import MethodRuns, label_of
from rljax.comparison.sweeps.cells import read_sweep
from rljax.comparison.write import write_comparison
from rljax.config.load import load_config, shorten
from rljax.config.model import resolve_model
from rljax.config.schema_stage import OPTIMIZER
from rljax.config.stage import Stage
from rljax.config.validate import validate
from rljax.errors import unknown_name
from rljax.models.network import Network, Params
from rljax.objectives.curricula import CURRICULA
from rljax.objectives.parts import fields_of
from rljax.parallel.mesh import make_mesh
from rljax.registry import METHODS, objective_fields
from rljax.tasks.symbols.alphabet import VOCAB_SIZE
from rljax.training.device_loop.program import check_device_loop
from rljax.training.loop import run
from rljax.training.run.checkpoints import restore_params
from rljax.training.run.lock import locked
from rljax.training.run.workdir import make_folder

SWEPT = ("objective", "optimizer")  # sections whose numbers can differ side by side


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What the command was asked for; see `launch/compare.py`."""

    task: str
    methods: tuple[str, ...]
    seeds: int
    workdir: Path
    config: str
    overrides: tuple[str, ...] = ()
    sweep: str = ""
    baseline: str = ""
    threshold: float = 0.8
    budget: str = "updates"
    also: str = ""
    rates: tuple[float, ...] = ()
    tuning_seeds: int = 4
    smoke: bool = False

    @property
    def first(self) -> str:
        """The method of the baseline, whose own steps are the budget."""
        return self.baseline.partition(" ")[0] or self.methods[0]

    def load(self, method: str) -> ConfigDict:
        """The config of a method; "" is the warm-up alone."""
        overrides = [
            word for word in self.overrides if method or not word.startswith("--config.rl.")
        ]
        config = load_config(f"{self.config}:{self.task}/{method}", overrides)
        if self.smoke:
            shorten(config)
        return config


def compare(asked: Comparison, console: Console | None = None) -> dict[str, Any]:
    """Runs what is not there yet, and writes the comparison of all methods that were asked for.

    Returns:
        What `write_comparison` returns.

    Raises:
        ValueError: for an unknown method, task or field, before anything runs.
    """
    console = console or Console()
    seeds = tuple(range(2 if asked.smoke else asked.seeds))
    check(asked, len(seeds))
    configs = {method: alone(asked.load(method)) for method in asked.methods}
    points = sweep_points(asked.sweep, configs[asked.methods[0]].stages[-1])
    check_baseline(asked, points)
    mesh = make_mesh(configs[asked.methods[0]].mesh.to_dict(), devices=jax.devices()[:1])
    for method, config in configs.items():
        check_device(config, method)
        check_points(config, [*points, *rate_points(asked.rates)], method)
        check_schedule(config, asked.budget, method)
    runner = Runner(
        asked.workdir, configs, asked.first, asked.budget, tuning(asked), mesh, console.print
    )
    make_folder(asked.workdir)
    with locked(asked.workdir):
        params = warmed_up(asked, mesh, console)[1]
        found = {method: runner.run(method, params, seeds, points) for method in runner.order}
    runs = [run for method in asked.methods for run in found[method]]

    def write(folder: Path, budget: Budget) -> dict[str, Any]:
        return write_comparison(
            folder,
            runs,
            asked.baseline or runs[0].label,
            asked.threshold,
            [] if asked.sweep else claims_about(CLAIMS, runs),
            budget=budget,
            remarks=[rates_remark(asked, runs)],
            title=f"{asked.task}: {len(runs)} methods, {len(seeds)} seeds each",
        )

    written = write(asked.workdir, runner.budget)
    if asked.also:
        write(asked.workdir / asked.also, spent_by_all(runs, asked.also))
    console.print(f"table: {asked.workdir / 'table.md'}", soft_wrap=True)
    return written


def tuning(asked: Comparison) -> Tuning | None:
    """How rates are tuned, where that was asked for."""
    count = 2 if asked.smoke else asked.tuning_seeds
    return Tuning(asked.rates, count) if asked.rates else None


def rates_remark(asked: Comparison, runs: Sequence[MethodRuns]) -> str:
    """How learning rates were chosen."""
    if not asked.rates:
        used = ", ".join(f"{rate:g}" for rate in sorted({run.learning_rate for run in runs}))
        return f"Learning rates are not tuned: {used}."
    tried = ", ".join(f"{rate:g}" for rate in asked.rates)
    ends = {min(asked.rates), max(asked.rates)}
    at_ends = [run.label for run in runs if run.learning_rate in ends]
    more = f" At an end of these: {', '.join(at_ends)}." if at_ends else ""
    return (
        f"The learning rate of each method is the best of {tried} on {asked.tuning_seeds} seeds "
        f"that are not reported.{more}"
    )


def check_baseline(asked: Comparison, points: Sequence[Mapping[str, float]]) -> None:
    """Raises ValueError for a baseline that will not be among the runs."""
    if asked.baseline:
        labels = [label_of(method, point) for method in asked.methods for point in points]
        only = [] if len(points) > 1 else list(asked.methods)
        if asked.baseline not in (*labels, *only):
            raise unknown_name("method", asked.baseline, labels, "--baseline")


def check_schedule(config: ConfigDict, budget: str, method: str) -> None:
    """Raises ValueError for a schedule over steps whose number a budget does not say."""
    axis, _ = parse_budget(budget)
    (stage,) = validate(config)
    schedule = stage.optimizer["schedule"]
    if axis != "updates" and schedule != "constant":
        raise ValueError(
            f"schedule={schedule!r} of {method} needs the number of steps, which a budget of "
            f"{axis} leaves open: take 'constant', or --budget=updates "
            f"(config.{stage.name}.optimizer.schedule, --budget)."
        )


def check(asked: Comparison, seeds: int) -> None:
    """Raises ValueError for unknown names and impossible numbers."""
    known = [name for name, row in METHODS.items() if row.family == "policy_gradient"]
    for method in asked.methods:
        name = method.partition("+")[0]  # METHOD+CURRICULUM (configs/compare.py)
        if name not in known:
            raise unknown_name("method to compare", name, known, "--methods")
    if len(set(asked.methods)) < len(asked.methods):
        raise ValueError(f"Methods must differ, got {', '.join(asked.methods)} (--methods).")
    if seeds < 2:
        raise ValueError(f"Intervals need at least 2 seeds, got {seeds} (--seeds).")
    if not 0 < asked.threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {asked.threshold} (--threshold).")
    parse_budget(asked.budget)
    if asked.rates and asked.sweep:
        raise ValueError("A sweep has numbers of its own: leave out --tune, or --sweep (--tune).")
    if len(set(asked.rates)) < len(asked.rates) or not all(rate > 0 for rate in asked.rates):
        raise ValueError(f"Rates must differ and be above 0, got {asked.rates} (--tune).")
    if asked.rates and asked.tuning_seeds < 1:
        raise ValueError(f"Tuning needs a seed, got {asked.tuning_seeds} (--tune-seeds).")


def check_device(config: ConfigDict, method: str) -> None:
    """Raises ValueError for a method that cannot run on the device alone, before any is trained."""
    try:
        check_device_loop(config, validate(config))
    except ValueError as error:
        raise ValueError(f"{method}: {error}") from error


def alone(config: ConfigDict) -> ConfigDict:
    """The last stage of a config by itself."""
    config = ConfigDict(config.to_dict())
    *earlier, last = config.stages
    for stage in earlier:
        del config[stage]
    config.stages = (last,)
    return config


def warmed_up(asked: Comparison, mesh: Any, console: Console) -> tuple[Network, Params]:
    """The policy that all methods start from: trained once, then read."""
    config, folder = asked.load(""), asked.workdir / "warmup"
    run(config, folder, console)
    (stage,) = validate(config)
    network = Network.create(resolve_model(config.model, VOCAB_SIZE))
    step = folder / "checkpoints" / stage.name / str(stage.steps)
    return network, restore_params(step, network, mesh)


def sweep_points(path: str, stage: str) -> tuple[Mapping[str, float], ...]:
    """The cells of a sweep file as points of one program; ({},) without one.

    Args:
        path: of the sweep file, the same as launch/sweep.py takes.
        stage: of the config; its name stands before the fields of the file, not of the points.

    Raises:
        ValueError: for a file without sweep(), fields of something else than the stage, values
            that are no numbers, two equal points, or points that set different fields.
    """
    if not path:
        return ({},)
    points = []
    for _, values in read_sweep(path):
        for name, value in values.items():
            if not name.startswith(f"{stage}."):
                raise ValueError(
                    f"{name}: cells of one program differ in fields of {stage}. alone, in "
                    f"{stage}.objective.* and {stage}.optimizer.*; launch/sweep.py runs any "
                    "(--sweep)."
                )
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(
                    f"{name}={value!r}: a sweep side by side is over numbers; compare methods, "
                    "give --config.* overrides for choices, or take launch/sweep.py (--sweep)."
                )
        points.append({name.removeprefix(f"{stage}."): float(v) for name, v in values.items()})
    if any(point.keys() != points[0].keys() for point in points):
        raise ValueError(
            f"The cells of {path} set different fields; in one program all set the same (--sweep)."
        )
    if len({tuple(point.items()) for point in points}) < len(points):
        raise ValueError(f"Two cells of {path} are the same point (--sweep).")
    return tuple(points)


def check_points(config: ConfigDict, points: Sequence[Mapping[str, float]], method: str) -> None:
    """Raises ValueError for a swept field that a method never reads, or that is out of range."""
    (stage,) = validate(config)
    name, kinds = stage.name, _field_kinds()
    for point in points:
        changed = ConfigDict(config.to_dict())
        for field, value in point.items():
            section, _, leaf = field.partition(".")
            if section not in SWEPT or leaf not in changed[name].get(section, {}):
                known = [f"{part}.{one}" for part in SWEPT for one in changed[name][part]]
                raise unknown_name("swept field", field, known, "--sweep")
            if kinds[field] is not float or leaf in DECIDING:
                raise ValueError(
                    f"{field}, a {kinds[field].__name__}, may decide over shapes: a sweep side by "
                    "side is over numbers that no shape or structure depends on (--sweep)."
                )
            changed[name][section][leaf] = value
        try:
            (swept,) = validate(changed)
        except ValueError as error:
            raise ValueError(f"{method} with {dict(point)}: {error}") from error
        if _terms(swept) != _terms(stage):
            raise ValueError(
                f"{method} with {dict(point)} switches a term of the loss on or off, which is "
                "another program: sweep between values that are not 0, from a config whose own "
                "value is not 0 (--sweep)."
            )


def _terms(stage: Stage) -> dict[str, bool]:
    """Which terms there are at all: a weight of 0 leaves one out."""
    weights = ("kl_weight", "entropy_weight", "likelihood_weight")
    return {name: bool(stage.objective.values.get(name)) for name in weights}


# Fields of what decides which problems are sampled.
DECIDING = frozenset(name for made in CURRICULA.values() for name in fields_of(made))


def _field_kinds() -> dict[str, type]:
    """Types of the fields that may be swept."""
    kinds = {f"optimizer.{name}": field.kind for name, field in OPTIMIZER.items()}
    fields = objective_fields("policy_gradient")
    return kinds | {f"objective.{name}": field.type for name, field in fields.items()}
