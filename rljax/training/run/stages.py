"""The stages of a run as a graph: how far each one is, and what it starts from."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp

from rljax.config.graph import MODEL
from rljax.models.lora import adapters_are_zero, combine, drop_adapters, flatten, unflatten
from rljax.models.network import Network, Params
from rljax.training.learner.critics import critics_of
from rljax.training.run.checkpoints import Checkpoints, skip_damaged
from rljax.training.run.context import Context
from rljax.training.run.models import Model, load_value, models_of
from rljax.training.run.start import Source, base_note, load_start, load_trained
from rljax.training.run.storage import absolute, checkpoints_folder, damaged_folder
from rljax.training.run.workdir import check_note
from rljax.training.update.state import (
    Carried,
    TrainState,
    abstract_state,
    create_state,
    state_shardings,
)


class Opened(NamedTuple):
    """A stage that can go on."""

    index: int
    context: Context  # of the stage: its network, and its models with their parameters
    state: TrainState
    done: int  # steps

    @property
    def reference(self) -> Params | None:
        """All parameters of the frozen reference, where the stage has one."""
        model = self.context.models.get("reference")
        return None if model is None else model.params


class Stages:
    """The stages of one run, in the order in which they are trained."""

    def __init__(
        self,
        context: Context,
        optimizers: Sequence,
        carried: Sequence[Carried],
        best_metrics: Sequence[str],
    ) -> None:
        """Opens the folders of all checkpoints; damaged ones of the last stage are set aside.

        Args:
            context: of the run.
            optimizers: of each stage.
            carried: what the state of each stage holds besides the policy.
            best_metrics: by which the best checkpoint of each stage is known.
        """
        self.context, self.stages = context, context.stages
        self.optimizers, self.carried = optimizers, carried
        self.source = Source.of(context.config)
        self.first: Params | None = None  # with adapters: those that the run starts from
        self.note: dict[str, Any] = {}  # of every checkpoint
        # By phase, of the processes before this one, up to the checkpoint.
        self.earlier_seconds: dict[str, float] = {}
        root = checkpoints_folder(context.workdir, context.config.checkpoint.folder)
        aside = damaged_folder(context.workdir, context.config.checkpoint.folder)
        folders = [root / stage.name for stage in self.stages]
        self.damaged: list[str] = []  # lines to say
        if context.processes.is_first:
            begun = [folder for folder in folders if folder.exists() and any(folder.iterdir())]
            # What earlier stages hold is checked where it is read.
            self.damaged = skip_damaged(begun[-1], aside) if begun else []
        context.processes.barrier("checkpoints looked at")
        keep = context.config.checkpoint.keep
        self.checkpoints = [
            Checkpoints(folder, keep=keep, best_metric=metric)
            for folder, metric in zip(folders, best_metrics, strict=True)
        ]
        # Processes that go on from different steps would wait for each other for ever.
        context.processes.same_on_all(
            "the checkpoints that they see",
            {found.folder.name: found.steps() for found in self.checkpoints},
        )

    def close(self) -> None:
        """Finishes writing what is being saved."""
        for folder in self.checkpoints:
            folder.close()

    def best(self) -> tuple[Path, float | None]:
        """The best checkpoint, and its held-out metric.

        All stages that are judged as the last one is are compared; of equals the latest counts.
        Where none was evaluated it is the last checkpoint, without a value.
        """
        last = self.checkpoints[-1]
        found = [
            (best.value, index, folder.folder / str(best.step))
            for index, folder in enumerate(self.checkpoints)
            if folder.best_metric == last.best_metric and (best := folder.best()) is not None
        ]
        if not found:
            return last.folder / str(last.latest()), None
        value, _, path = max(found)
        return path, value

    def last_note(self) -> dict[str, Any]:
        """The note of the last stage's last checkpoint."""
        last = self.checkpoints[-1]
        return last.note(last.latest())

    def last_saved(self) -> str:
        """Which checkpoint counts now, as a sentence; it asks the folders alone."""
        for stage, folder in zip(self.stages[::-1], self.checkpoints[::-1], strict=True):
            if steps := folder.complete():
                return f"{stage.name} step {max(steps)} is the last checkpoint"
        return "nothing is saved yet"

    def first_step(self, index: int) -> int:
        """Steps of the stages before this one in the list: noise is drawn by steps of the run."""
        return sum(earlier.steps for earlier in self.stages[:index])

    def check(self, identity: str) -> None:
        """Checks the last checkpoint against the run and the files of the workdir.

        Args:
            identity: of the run (run/workdir.py).

        Raises:
            ValueError: if another run wrote it, or a file is no longer what it was then.
        """
        begun = [folder for folder in self.checkpoints if folder.latest()]
        if begun:
            step = begun[-1].latest()
            where = begun[-1].folder / str(step)
            check_note(self.context.workdir, where, begun[-1].note(step), identity)

    def position(self) -> tuple[int, dict[str, int]]:
        """Where to continue, from the checkpoints alone.

        Returns:
            The first incomplete stage (the number of stages if there is none), and for each stage
            with a checkpoint its last step: later rows of metrics.jsonl will be written again.

        Raises:
            ValueError: if a stage is incomplete and a later one has begun.
        """
        done = [folder.latest() or 0 for folder in self.checkpoints]
        complete = [steps == stage.steps for steps, stage in zip(done, self.stages, strict=True)]
        current = complete.index(False) if False in complete else len(self.stages)
        begun = [index for index, steps in enumerate(done) if steps]
        later = [index for index in begun if index > current]
        if later:
            stage = self.stages[current]
            raise ValueError(
                f"Stage {self.stages[later[0]].name!r} has checkpoints, but stage {stage.name!r} "
                f"before it has done only {done[current]} of {stage.steps} steps: put its last "
                f"checkpoint back, or delete {self.checkpoints[current + 1].folder} and those of "
                "the stages after it to train them again (--workdir)."
            )
        if begun:
            last = begun[-1]
            self.earlier_seconds = self.checkpoints[last].note(done[last]).get("seconds", {})
        return current, {self.stages[index].name: done[index] for index in begun}

    def open(self, index: int) -> Opened:
        """The state of a stage to continue from, and the models that it reads.

        The state is that of the stage's last checkpoint, or else fresh from what it starts from.
        """
        self._make_base()
        context = self.context.of(self.stages[index].name)
        table = models_of(self.context.network, self.stages, index)
        done = self.checkpoints[index].latest()
        if done is None:
            state = self._fresh(index, context, table)
        else:
            state = self._restored(index, context, done)
        context = dataclasses.replace(context, models=self._with_params(table))
        return Opened(index, context, state, done or 0)

    def _make_base(self) -> None:
        """With adapters: makes what is frozen, once in a process, and where they start."""
        network = self.context.network
        if network.config.lora is None or self.first is not None:
            return
        self.first, frozen = load_start(self.source, network, self.context.mesh)
        self.context = dataclasses.replace(self.context, frozen=frozen)
        self.note = base_note(self.source, network)

    def _fresh(self, index: int, context: Context, table: dict[str, Model]) -> TrainState:
        """A stage's first state: fresh optimizers, zero counters."""
        policy, carried = table["policy"], self.carried[index]
        shardings = self._shardings(index, context)
        params = self._trained(policy.origin, policy.network)
        state = create_state(params, self.optimizers[index], shardings, carried)
        value = table.get("value")
        if value is None or not value.origin:
            return state
        # Its first moments are zeros, whatever its parameters are.
        source, critics = self._source(value.origin), {}
        for name in critics_of(self.stages[index]):  # each has arrays of its own
            params = load_value(source, value.network, context.mesh)
            critics[name] = state.carried[name].replace(params=params)
        return state.replace(carried=state.carried | critics)

    def _restored(self, index: int, context: Context, step: int) -> TrainState:
        """A stage's state after a step, from its checkpoint."""
        abstract = abstract_state(
            context.network,
            self.optimizers[index],
            self._shardings(index, context),
            self.carried[index],
        )
        return self.checkpoints[index].restore(step, abstract)[0]

    def _shardings(self, index: int, context: Context) -> TrainState:
        """The sharding of each leaf of a stage's state."""
        return state_shardings(
            context.network, self.optimizers[index], context.mesh, self.carried[index]
        )

    def _with_params(self, table: dict[str, Model]) -> dict[str, Model]:
        """The table with the parameters of frozen models; two of one origin share them.

        With adapters they share the base anyway, and a reference may be without adapters.
        """
        read: dict[tuple, Params] = {}
        filled = dict(table)
        for role, model in table.items():
            if not model.trained:
                key = model.origin, model.network, model.network.config.lora and role
                read[key] = read[key] if key in read else self.frozen(model)
                filled[role] = dataclasses.replace(model, params=read[key])
        return filled

    def frozen(self, model: Model) -> Params:
        """All parameters of a frozen model.

        With adapters on the run's base only theirs are a copy. A reference leaves them out where
        they are zero: it then is the base itself, as for LoRA-SB before its first step.
        """
        if self._is_inside(model.origin):
            trained = self._trained(model.origin, model.network)
            base = self.context.with_network(model.network).frozen
        else:
            source = self._source(model.origin)
            trained, base = load_start(source, model.network, self.context.mesh)
        if model.role == "reference" and adapters_are_zero(trained):
            trained = drop_adapters(trained)
        return combine(trained, base)

    def _trained(self, origin: str, network: Network) -> Params:
        """A fresh copy of the parameters that a state holds, as an origin left them.

        A head that is not there is drawn.
        """
        source, mesh = self._source(origin), self.context.mesh
        if origin != MODEL:
            return load_trained(absolute(source.init_from), source.key, network, mesh)
        if self.first is None:
            return load_start(source, network, mesh)[0]
        wanted = flatten(network.shapes)
        kept = {path: jnp.copy(x) for path, x in flatten(self.first).items() if path in wanted}
        drawn = [path for path in wanted if path[-1] in ("head", "head_bias") and path not in kept]
        return unflatten(kept | network.draw(source.key, mesh, drawn))

    def _source(self, origin: str) -> Source:
        """Where the parameters of an origin lie."""
        if origin == MODEL:
            return self.source
        if not self._is_inside(origin):
            return Source(origin, self.source.seed)
        index = [stage.name for stage in self.stages].index(origin)
        step = self.checkpoints[index].folder / str(self.stages[index].steps)
        return Source(str(step), self.source.seed)

    def _is_inside(self, origin: str) -> bool:
        return origin == MODEL or origin in [stage.name for stage in self.stages]
