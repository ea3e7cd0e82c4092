"""The checkpoints of a warm-up: trained parameters, Adam's moments, and learning rates."""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as ocp

from rljax.config.runs import find_run, recorded_network
from rljax.data.text_format import TextFormat
from rljax.models.network import Network, Params
from rljax.training.data_selection.passes import flat
from rljax.training.run.loaded import load_published
from rljax.training.run.start import Source, load_start
from rljax.training.run.text_format import make_text_format


class Checkpoint(NamedTuple):
    """One step of a run."""

    where: Path
    network: Network
    trained: Params
    frozen: Params
    moments: tuple[Array, Array] | None  # [D] f32 each, as `flat` orders the trained parameters
    rate: float  # mean learning rate since the checkpoint before it
    text_format: TextFormat


def load_checkpoints(
    folders: Sequence[Path], mesh: Mesh, flag: str, *, moments: bool
) -> list[Checkpoint]:
    """Checkpoints of one stage of a run, in the order of their steps.

    Args:
        folders: WORKDIR[/checkpoints/STAGE[/STEP]].
        mesh: to place the parameters on.
        flag: that names the folders.
        moments: whether moments and learning rates are read.

    Raises:
        ValueError: for folders that are no checkpoints, of different stages, or the same twice; for
            an optimizer without Adam's moments.
    """
    found = [find_run(folder, flag) for folder in folders]
    steps = [step for step, _ in found]
    if len({step.parent for step in steps}) > 1 or len(set(steps)) < len(steps):
        raise ValueError(
            f"checkpoints are different steps of one stage, got {', '.join(map(str, steps))} "
            f"({flag})."
        )
    found.sort(key=lambda each: int(each[0].name))
    rates = mean_rates([step for step, _ in found]) if moments else [0.0] * len(found)
    return [
        _loaded(step, config, rate, mesh, flag if moments else "")
        for (step, config), rate in zip(found, rates, strict=True)
    ]


def load_model(folder: Path, mesh: Mesh, flag: str) -> Checkpoint:
    """A published model, of which nothing is trained yet; see `load_published`."""
    model = load_published(folder, "", "float32", None, mesh, {}, flag)
    _check_head(folder, model.network, flag)
    return Checkpoint(folder, model.network, model.params, {}, None, 0.0, model.text_format)


def _check_head(folder: Path, network: Network, flag: str) -> None:
    if network.config.head != "language_model":
        raise ValueError(
            f"{folder} is a model with a {network.config.head} head: prompts and demonstrations "
            f"are those of language models ({flag})."
        )


def _loaded(
    step: Path, config: Mapping[str, Any], rate: float, mesh: Mesh, flag: str
) -> Checkpoint:
    network = Network.create(recorded_network(config, step))
    _check_head(step, network, "--checkpoints")
    with jax.set_mesh(mesh):
        trained, frozen = load_start(Source(str(step), config["seed"]), network, mesh)
    text_format = make_text_format(config)
    if not flag:
        return Checkpoint(step, network, trained, frozen, None, rate, text_format)
    moments = read_moments(step, mesh, flag)
    if flat(trained).shape != moments[0].shape:
        raise ValueError(
            f"{step} has {flat(trained).size} trained numbers and moments of {moments[0].size}: "
            f"the stage trains more than its policy ({flag})."
        )
    return Checkpoint(step, network, trained, frozen, moments, rate, text_format)


def read_moments(step: Path, mesh: Mesh, flag: str) -> tuple[Array, Array]:
    """Adam's first and second moments, [D] f32 each.

    Args:
        step: the folder of a checkpoint.
        mesh: to read them onto, whole on every device.
        flag: that names it.

    Raises:
        ValueError: where the optimizer has none.
    """
    described = ocp.metadata(step, checkpointable_name="state").metadata
    if _moments(described["optimizer_state"]) is None:
        raise ValueError(
            f"The optimizer of {step} keeps no two moments of each gradient: train the warm-up "
            f"with optimizer.name='adamw' ({flag})."
        )
    whole = NamedSharding(mesh, PartitionSpec())
    wanted = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), described
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = ocp.load(step, wanted, checkpointable_name="state")
    first, second = _moments(state["optimizer_state"])
    return flat(first), flat(second)


def _moments(state: Any) -> tuple[Any, Any] | None:
    """The entries `mu` and `nu` of the first state that has both."""
    if isinstance(state, Mapping):
        if {"mu", "nu"} <= set(state):
            return state["mu"], state["nu"]
        state = list(state.values())
    if isinstance(state, list | tuple):
        return next((found for each in state if (found := _moments(each))), None)
    return None


def mean_rates(steps: Sequence[Path]) -> list[float]:
    """The mean learning rate of the updates up to each checkpoint, since the one before it.

    Args:
        steps: folders of checkpoints of one stage, the earliest first.

    Raises:
        ValueError: where the run's metrics do not have them.
    """
    path, stage = steps[0].parents[2] / "metrics.jsonl", steps[0].parent.name
    rates: dict[int, float] = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row.get("stage") == stage and "learning_rate" in row:
                rates[int(row["step"])] = float(row["learning_rate"])
    means, before = [], 0
    for step in steps:
        own = [rates[number] for number in range(before + 1, int(step.name) + 1) if number in rates]
        if not own:
            raise ValueError(
                f"{path} has no learning rate of stage {stage!r} in steps {before + 1} to "
                f"{step.name}: keep it beside the checkpoints (--checkpoints)."
            )
        means.append(float(np.mean(own)))
        before = int(step.name)
    return means
