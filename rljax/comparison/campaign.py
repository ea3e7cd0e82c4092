"""One method with many seeds, in a folder: checkpoints after every chunk, curves, resuming.

FOLDER/config.json      the resolved config, seeds and swept numbers
FOLDER/checkpoints/     the states of all runs, one step at a time
FOLDER/curves.npz       what has been measured so far
"""

import dataclasses
import io
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rljax.comparison.budget import Budget, is_spent
from rljax.comparison.runs import MethodRuns
from rljax.comparison.sweeps.lineage import Generation, generation
from rljax.comparison.sweeps.population import Population
from rljax.config.validate import resolved_dict
from rljax.models.network import Params
from rljax.reporting.files import write_bytes_atomic
from rljax.training.device_loop.program import DeviceProgram
from rljax.training.device_loop.runs import SideBySide
from rljax.training.run.checkpoints import Checkpoints
from rljax.training.run.workdir import claim_workdir
from rljax.training.update.state import TrainState

Curves = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Campaign:
    """What is run: a config, once for every seed and every point of a sweep.

    Attributes:
        method: its name in the comparison.
        config: complete; one stage of policy gradients on a symbol task.
        seeds: of the runs of each point.
        points: swept numbers, "objective.FIELD" or "optimizer.FIELD" -> value; ({},) for none.
        budget: ends the runs at the first evaluation after all of them have spent it, before the
            steps of the config are done; None: these are the budget.
        population: lets points copy each other on the way; None: each stays by itself.
    """

    method: str
    config: ConfigDict
    seeds: tuple[int, ...]
    points: tuple[Mapping[str, float], ...] = ({},)
    budget: Budget | None = None
    population: Population | None = None

    def resolved(self, program: DeviceProgram) -> dict[str, Any]:
        """The campaign as saved beside its results."""
        own = {"seeds": list(self.seeds), "points": [dict(point) for point in self.points]}
        if self.budget is not None:
            own["budget"] = dataclasses.asdict(self.budget)
        if self.population is not None:
            own["population"] = self.population.identity()
        return resolved_dict(self.config, (program.stage,)) | own

    def side_by_side(self, program: DeviceProgram, params: Params) -> SideBySide:
        """The runs of all points, one point after the other, each with all seeds."""
        names = self.points[0].keys()
        values = {
            name: [point[name] for point in self.points for _ in self.seeds] for name in names
        }
        return SideBySide(program, params, self.seeds * len(self.points), values)


def run_campaign(
    campaign: Campaign,
    folder: Path,
    params: Params,
    mesh: Mesh,
    report: Callable[[str], None] = print,
) -> list[MethodRuns]:
    """Runs a campaign, or goes on with it, or reads what it has found.

    Args:
        campaign: what is run.
        folder: new, or of the same campaign.
        params: all runs start from these.
        mesh: of `params`, one device.
        report: takes lines of progress.

    Returns:
        The curves of each point.

    Raises:
        ValueError: for a config that the device loop cannot run, or a folder of another campaign.
    """
    program = DeviceProgram.create(campaign.config, mesh)
    claim_workdir(folder, campaign.resolved(program))
    steps, every = program.stage.steps, campaign.config.evaluation.every_steps
    runs = campaign.side_by_side(program, params)
    checkpoints = Checkpoints(folder / "checkpoints", keep=1)
    try:
        done = checkpoints.latest() or 0
        curves = _first_rows(_read(folder), done)
        lineage = _lineage(checkpoints, done)
        if done < steps and not (done and _is_over(campaign, program, curves)):
            states = _states(checkpoints, runs, done)
            if lineage:
                runs.change(lineage[-1].values)
            if not done:
                curves = _at_start(runs.evaluate(states))
            while done < steps and not _is_over(campaign, program, curves):
                began = time.perf_counter()
                last = min(done + (every or steps), steps)
                states, chunk = runs.advance(states, done + 1, last)
                seconds = time.perf_counter() - began
                curves = _extended(curves, chunk.train, chunk.heldout, done + 1, last, seconds)
                _write(folder, curves)
                if campaign.population is not None and campaign.population.is_ready(last, steps):
                    lineage = (*lineage, campaign.population.decide(last, curves, lineage))
                    states = _next_generation(campaign.population, runs, states, lineage)
                checkpoints.save(last, states, _note(last, lineage), None)
                done = last
                accuracy = chunk.heldout["accuracy_greedy"].mean()
                report(
                    f"{campaign.method}: step {last} of {steps}, held-out accuracy "
                    f"{accuracy:.3f}, {seconds:.1f} s"
                )
            checkpoints.wait()
    finally:
        checkpoints.close()
    if campaign.population is not None:
        campaign.population.keep(lineage)
    return _all_runs(campaign, program, curves)


def _next_generation(
    population: Population,
    runs: SideBySide,
    states: TrainState,
    lineage: Sequence[Generation],
) -> TrainState:
    """The states after the last decision; the runs have its numbers from then on."""
    population.keep(lineage)
    runs.change(lineage[-1].values)
    return runs.copied(states, lineage[-1].sources)


def _all_runs(campaign: Campaign, program: DeviceProgram, curves: Curves) -> list[MethodRuns]:
    return [_method_runs(campaign, program, curves, index) for index in range(len(campaign.points))]


def _is_over(campaign: Campaign, program: DeviceProgram, curves: Curves) -> bool:
    """Whether every run has spent its budget; the first chunk says nothing of seconds."""
    if campaign.budget is None or len(curves["steps"]) < 3:
        return False
    return all(is_spent(runs, campaign.budget) for runs in _all_runs(campaign, program, curves))


def _states(checkpoints: Checkpoints, runs: SideBySide, done: int) -> TrainState:
    if not done:
        return runs.start()
    abstract = jax.eval_shape(runs.start)

    def place(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=runs.sharding)

    return checkpoints.restore(done, jax.tree.map(place, abstract))[0]


def _note(step: int, lineage: Sequence[Generation]) -> dict[str, Any]:
    """What is kept beside the states: of a population also how it has come so far."""
    return {"step": step} | ({"lineage": [each.as_json() for each in lineage]} if lineage else {})


def _lineage(checkpoints: Checkpoints, done: int) -> tuple[Generation, ...]:
    stored = checkpoints.note(done).get("lineage", ()) if done else ()
    return tuple(generation(each) for each in stored)


def _at_start(heldout: Curves) -> Curves:
    """The curves before the first step."""
    return {
        "steps": np.zeros(1, np.int64),
        "seconds": np.zeros(1),
        **{f"heldout/{name}": values[:, None] for name, values in heldout.items()},
    }


def _extended(
    curves: Curves, train: Curves, heldout: Curves, first: int, last: int, seconds: float
) -> Curves:
    """The curves with one chunk of steps more."""
    more = {
        "steps": np.array([last]),
        "seconds": np.array([seconds]),
        "train_steps": np.arange(first, last + 1),
        **{f"train/{name}": values for name, values in train.items()},
        **{f"heldout/{name}": values[:, None] for name, values in heldout.items()},
    }
    return {
        name: np.concatenate([curves[name], values], axis=-1) if name in curves else values
        for name, values in more.items()
    }


def _first_rows(curves: Curves, done: int) -> Curves:
    """What was measured up to a step: a killed run may have written more than it saved."""
    if not curves:
        return {}
    kept, trained = curves["steps"] <= done, curves["train_steps"] <= done
    return {
        name: values[..., trained if name.startswith("train") else kept]
        for name, values in curves.items()
    }


def _write(folder: Path, curves: Curves) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **curves)
    write_bytes_atomic(folder / "curves.npz", buffer.getvalue())


def _read(folder: Path) -> Curves:
    path = folder / "curves.npz"
    return dict(np.load(path)) if path.exists() else {}


def _method_runs(
    campaign: Campaign, program: DeviceProgram, curves: Curves, index: int
) -> MethodRuns:
    """The curves of one point."""
    count, batch = len(campaign.seeds), program.stage.batch
    mine = slice(index * count, (index + 1) * count)
    train = {
        name.removeprefix("train/"): values[mine].astype(np.float64)
        for name, values in curves.items()
        if name.startswith("train/")
    }
    # What was sampled, whether it was trained on or not.
    per_step = batch.prompts_per_step * batch.samples_per_prompt
    tokens = train.get("sampled_tokens", train["completion_tokens"] * per_step)
    steps, logged = curves["steps"], curves["train_steps"]
    total = np.concatenate([np.zeros((count, 1)), np.cumsum(tokens, axis=1)], axis=1)
    seconds = float(curves["seconds"].sum()) / count / len(campaign.points)
    # The first chunk waits for the compiler.
    later = curves["seconds"][2:] if len(steps) > 2 else curves["seconds"][1:]
    timed = (steps[-1] - steps[1]) if len(steps) > 2 else steps[-1]
    return MethodRuns(
        method=campaign.method,
        seeds=np.asarray(campaign.seeds),
        steps=steps,
        accuracy=np.clip(curves["heldout/accuracy_greedy"][mine], 0.0, 1.0),
        tokens=total[:, np.searchsorted(logged, steps, side="right")],
        updates=steps * batch.updates_per_step,
        metric_steps=logged,
        reward=train.pop("reward"),
        seconds=seconds,
        seconds_per_step=float(later.sum()) / int(timed) / count / len(campaign.points),
        point=campaign.points[index],
        metrics=train,
        learning_rate=campaign.points[index].get(
            "optimizer.learning_rate", program.stage.optimizer["learning_rate"]
        ),
    )
