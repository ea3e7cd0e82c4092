"""Several runs side by side: one compiled program for a chunk of steps and an evaluation."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rljax.models.network import Params
from rljax.training.collect.rounds import most_rounds
from rljax.training.device_loop.data import prompt_order
from rljax.training.device_loop.program import DeviceProgram
from rljax.training.device_loop.step import Plan, Run, evaluate, first_state, train_step
from rljax.training.learner.batches import step_order
from rljax.training.update.metrics import step_numbers
from rljax.training.update.state import TrainState

RUNS = "runs"  # the mesh axis that runs are spread over


class Chunk(NamedTuple):
    """What a chunk of steps gives, on the host; S runs, K steps."""

    train: dict[str, np.ndarray]  # name -> [S, K]
    heldout: dict[str, np.ndarray]  # name -> [S], after the last step


class SideBySide:
    """S runs of one program that differ in seed and numbers.

    runs = SideBySide(program, params, [0, 1], {"objective.clip_high": [0.2, 0.28]})
    states = runs.start()
    states, chunk = runs.advance(states, first=1, last=10)
    """

    def __init__(
        self,
        program: DeviceProgram,
        params: Params,
        seeds: Sequence[int],
        values: Mapping[str, Sequence[float]] | None = None,
        devices: Sequence[Any] | None = None,
    ) -> None:
        """Prepares the runs; nothing is compiled yet.

        Args:
            program: what all of them run.
            params: that all of them start from, and stay near where their objective says so.
            seeds: [S], of each run.
            values: "objective.FIELD" or "optimizer.FIELD" -> [S] numbers.
            devices: to spread the runs over, all by default; as many as divide S are used.
        """
        self.program, self.seeds = program, list(seeds)
        stage, count = program.stage, len(self.seeds)
        length = stage.steps * most_rounds(stage) * stage.batch.prompts_per_step
        if length >= 2**31:
            raise ValueError(
                f"{length} prompts in a run are more than 32 bits count: take fewer steps or "
                f"rounds (config.{stage.name}.steps, config.{stage.name}.objective.filter_rounds)."
            )
        orders = [prompt_order(len(program.train.prompts), seed, length) for seed in self.seeds]
        numbers = _as_arrays(values or {})
        devices = list(devices or jax.devices())
        used = max(n for n in range(1, len(devices) + 1) if count % n == 0)
        self.sharding = NamedSharding(Mesh(np.array(devices[:used]), (RUNS,)), PartitionSpec(RUNS))
        run = Run(np.asarray(self.seeds, np.uint32), np.stack(orders), numbers)
        self.run: Run = jax.device_put(run, self.sharding)
        self.params = jax.device_put(params, NamedSharding(self.sharding.mesh, PartitionSpec()))
        self._advance = jax.jit(
            jax.vmap(functools.partial(_advance, program), in_axes=(None, 0, 0, 0)),
            donate_argnums=2,
            out_shardings=self.sharding,
        )
        self._evaluate = jax.jit(jax.vmap(functools.partial(evaluate, program)))
        self._copied = jax.jit(copied, out_shardings=self.sharding)

    def start(self) -> TrainState:
        """The first state of all runs [S, ...], each with a copy of the parameters."""
        create = jax.vmap(functools.partial(first_state, self.program), in_axes=(0, None))
        return jax.jit(create, out_shardings=self.sharding)(self.run, self.params)

    def advance(self, states: TrainState, first: int, last: int) -> tuple[TrainState, Chunk]:
        """Runs the steps first .. last of every run, and evaluates. `states` are donated."""
        steps = np.arange(first, last + 1, dtype=np.int32)
        orders = [
            [step_order(self.program.stage.batch, seed=(seed, int(step))) for step in steps]
            for seed in self.seeds
        ]
        plan = Plan(np.broadcast_to(steps, (len(self.seeds), len(steps))), np.array(orders))
        plan = jax.device_put(plan, self.sharding)
        reference = self.params if self.program.stage.needs_reference else None
        states, train, heldout = self._advance(reference, self.run, states, plan)
        return states, Chunk(*jax.device_get((train, heldout)))

    def change(self, values: Mapping[str, Sequence[float]]) -> None:
        """Gives the runs other numbers for the same fields, from the next step on.

        They are an argument of the program, so nothing is compiled again.
        """
        if set(values) != set(self.run.values):
            raise ValueError(f"The runs differ in {sorted(self.run.values)}, got {sorted(values)}.")
        numbers = jax.device_put(_as_arrays(values), self.sharding)
        self.run = self.run._replace(values=numbers)

    def copied(self, states: TrainState, sources: Sequence[int]) -> TrainState:
        """The states with a copy of that of run sources[i] in place i, optimizer and all."""
        return self._copied(states, np.asarray(sources, np.int32))

    def evaluate(self, states: TrainState) -> dict[str, np.ndarray]:
        """Held-out metrics of every run, [S]."""
        measured = self._evaluate(states.params)
        return jax.device_get(jax.vmap(step_numbers)(measured))


def copied(states: TrainState, sources: Array) -> TrainState:
    """States [S, ...] with a copy of that of run sources[i], [S] i32, in place i."""
    return jax.tree.map(lambda leaf: leaf[sources], states)


def _as_arrays(values: Mapping[str, Sequence[float]]) -> dict[str, np.ndarray]:
    return {name: np.asarray(given, np.float32) for name, given in values.items()}


def _advance(
    program: DeviceProgram, reference: Params | None, run: Run, state: TrainState, plan: Plan
) -> tuple[TrainState, dict[str, Array], dict[str, Array]]:
    """Some steps of one run, and an evaluation."""
    state, metrics = jax.lax.scan(
        functools.partial(train_step, program, reference, run), state, plan
    )
    return state, jax.vmap(step_numbers)(metrics), step_numbers(evaluate(program, state.params))
