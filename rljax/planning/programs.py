"""The programs of a run, each lowered for a slice with descriptions of arrays only.

    run = open_run("configs/pods/qwen3_8b_grpo_v5e.py", (), read_topology("v5e:8x8"))
    run.programs["update"].lower()

A program is lowered as training jits it, with the same shardings; nothing is allocated.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from rljax.config.load import load_config
from rljax.config.stage import Stage
from rljax.config.validate import validate
from rljax.data.rows import SIDES
from rljax.models.frozen_base import parameter_shardings
from rljax.models.lora import split_frozen
from rljax.parallel.mesh import make_mesh
from rljax.parallel.rules import batch_sharding, replicated, rows_divisor
from rljax.planning.chips import Topology
from rljax.planning.sampler_loops import sampler_loops
from rljax.sampling.engine import Engine, bucket
from rljax.sampling.keys import Purpose, purpose_key
from rljax.sampling.request import Requests
from rljax.training.families.policy_gradient import PolicyGradient
from rljax.training.families.preference import Preference
from rljax.training.families.table import family_class
from rljax.training.learner.group import Group, step_arrays
from rljax.training.learner.needs import needs_scores, running_statistics
from rljax.training.run.context import Context, build_context
from rljax.training.update.logprobs import model_rows
from rljax.training.update.optimizers import build_optimizer
from rljax.training.update.rows import Rows, lead_with_prompts, rollout_rows
from rljax.training.update.state import TrainState, abstract_state, placed, state_shardings

# Families whose programs are known here.
PLANNED = ("policy_gradient", "preference")


@dataclasses.dataclass(frozen=True)
class Program:
    """A program of a step.

    Attributes:
        lower: gives its `jax.stages.Lowered`; called with its mesh set.
        times: how often a step runs it.
        held: which of `Run.resident` are among its arguments.
        assumed: how often loops run whose end depends on data (costs.py).
        mesh: that it runs on, over the same devices; None: the trainer's.
    """

    lower: Callable[[], Any]
    times: int
    held: tuple[str, ...]
    assumed: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    mesh: Mesh | None = None


@dataclasses.dataclass(frozen=True)
class Run:
    """A stage of a run on a slice that is not there.

    Attributes:
        context: of the stage.
        stage: that is planned.
        programs: by name: update, sampling, load, scores, reference, values.
        resident: bytes on a chip, all step long, of what the run holds.
    """

    context: Context
    stage: Stage
    programs: Mapping[str, Program]
    resident: Mapping[str, int]

    @property
    def mesh(self) -> Mesh:
        """The trainer's mesh."""
        return self.context.mesh

    def mesh_of(self, program: str) -> Mesh:
        """The mesh of a program; that of the sampler may be another one of the same devices."""
        return self.programs[program].mesh or self.mesh


def devices_of(topology: Topology) -> list[jax.Device]:
    """Devices for which can be compiled, not computed."""
    described = topologies.get_topology_desc(platform="tpu", topology_name=str(topology))
    return list(described.devices)


def open_run(config_file: str, overrides: tuple[str, ...], topology: Topology) -> Run:
    """The first stage of a config that is of one of `PLANNED`, for a slice.

    Raises:
        ValueError: for what training refuses, a mesh that does not divide the slice, and for what
            cannot be planned.
    """
    config = load_config(config_file, overrides)
    stages = validate(config)
    planned = [stage for stage in stages if stage.objective.family in PLANNED]
    if not planned:
        families = sorted({stage.objective.family for stage in stages})
        raise ValueError(
            f"{config_file} has no stage that can be planned: its families are "
            f"{', '.join(families)}, planned are {', '.join(PLANNED)} (config.stages)."
        )
    if config.asynchronous.sampler_devices:
        raise ValueError(
            f"sampler_devices={config.asynchronous.sampler_devices}: only a sampler on the "
            "trainer's devices can be planned, 0 (config.asynchronous.sampler_devices)."
        )
    with config.unlocked():  # no answer is scored while planning
        config.scoring.workers, config.scoring.try_first = 0, False
    devices = devices_of(topology)
    make = functools.partial(make_mesh, devices=devices)
    context = build_context(config, stages, Path("plan"), make=make)
    try:
        name = planned[0].name
        (stage,) = [each for each in context.stages if each.name == name]
        return _programs(context.of(name), stage)
    finally:
        context.scorer.close()


def _programs(context: Context, stage: Stage) -> Run:
    """Programs of a stage. Small constants are computed here, before the mesh is set."""
    family = family_class(stage)(context, stage, None, 0)
    optimizer = build_optimizer(stage)
    carried = family.carried(context, stage)
    shardings = state_shardings(context.network, optimizer, context.mesh, carried)
    state = abstract_state(context.network, optimizer, shardings, carried)
    params = jax.tree.map(
        placed, context.network.shapes, parameter_shardings(context.network, context.mesh)
    )
    _, frozen = split_frozen(params)
    rounding = purpose_key(context.config.seed, Purpose.ROUNDING)
    update = family.make_update(optimizer, rounding)
    resident = {
        "parameters": chip_bytes(state.params) + chip_bytes(frozen),
        "optimizer": chip_bytes(state.optimizer_state),
        "carried": chip_bytes(state.carried),
        "reference": chip_bytes(params) if stage.needs_reference else 0,
    }
    if isinstance(family, Preference):
        rows, batch = _pair_rows(context, stage)
        programs = {}
    else:
        rows, batch = _sample_rows(context, stage, family, state, params)
        programs = _sampling(context, stage, family, params)
        programs |= _scoring(context, stage, family, params, state, rows)
    if stage.needs_reference:
        score = family.score if isinstance(family, Preference) else family.learner.logprobs
        scored = _described(context, model_rows(rows))
        programs["reference"] = Program(lambda: score.lower(params, scored), 1, held=("reference",))
    described = _described(context, batch)
    programs["update"] = Program(
        lambda: update.lower(state, frozen, described),
        stage.batch.updates_per_step,
        held=("parameters", "optimizer", "carried"),
    )
    return Run(context, stage, programs, resident)


def _sampling(
    context: Context, stage: Stage, family: PolicyGradient, params: Any
) -> dict[str, Program]:
    """The sampler's program, and that which makes its weights."""
    rollouts = family.source.rollouts
    engine = getattr(rollouts, "sampler", None)
    if not isinstance(engine, Engine):
        raise ValueError(
            f"The rollouts of stage {stage.name} are {stage.objective.choices['rollouts']!r}: only "
            f"whole completions can be planned (config.{stage.name}.objective.rollouts)."
        )
    mesh, key = engine.mesh, rollouts.key
    shards = rows_divisor(mesh)
    count = math.ceil(stage.batch.prompts_per_step / shards) * shards
    slots = bucket(context.config.data.max_prompt_tokens)
    rows, whole = batch_sharding(mesh), replicated(mesh)
    places = engine.shardings(params)
    weights = jax.tree.map(placed, jax.eval_shape(engine.prepared, params), places)
    requests = Requests(
        jax.ShapeDtypeStruct((count, slots), jnp.int32, sharding=rows),
        jax.ShapeDtypeStruct((count, slots), jnp.bool_, sharding=rows),
        jax.ShapeDtypeStruct((count,), jnp.int32, sharding=rows),
    )
    number = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
    seed = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=whole)

    def load() -> Any:
        return jax.jit(engine.prepared, out_shardings=places).lower(params)

    def sample() -> Any:
        return engine.program.lower(weights, requests, seed, number, **engine.watchers)

    loops = sampler_loops(
        engine.network.config,
        engine.config,
        prompts=count,
        slots=slots,
        shards=shards,
        tensor=mesh.shape["tensor"],
    )
    return {
        "load": Program(load, 1, held=("parameters",)),
        "sampling": Program(sample, 1, held=(), assumed=loops, mesh=mesh),
    }


def _scoring(
    context: Context,
    stage: Stage,
    family: PolicyGradient,
    params: Any,
    state: TrainState,
    rows: Rows,
) -> dict[str, Program]:
    """The passes before the first update, besides the reference's."""
    learner, found = family.learner, {}
    scored = _described(context, model_rows(rows))
    if needs_scores(stage):
        found["scores"] = Program(
            lambda: learner.scores.lower(params, scored), 1, held=("parameters",)
        )
    if learner.critic is not None:
        critic = state.carried["critic"].params
        found["values"] = Program(
            lambda: learner.values.lower(critic, params, scored),
            1,
            held=("parameters", "carried"),
        )
    return found


def _sample_rows(
    context: Context, stage: Stage, family: PolicyGradient, state: TrainState, params: Any
) -> tuple[Rows, Rows]:
    """Shapes of the rows of a step, and of the batch of an update."""
    sizes = stage.batch
    prompts = np.zeros((sizes.prompts_per_step, context.config.data.max_prompt_tokens), np.int32)
    shape = (sizes.prompts_per_step, sizes.rows_per_prompt, stage.max_new_tokens)
    flags, numbers = np.zeros(shape[:2], bool), np.zeros(shape[:2], np.float32)
    tokens, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
    group = Group(tokens, mask, np.zeros(shape, np.float32), flags, numbers, flags)
    if sizes.demonstrations_per_prompt:
        group = group._replace(demonstration=flags)
    rows = rollout_rows(prompts, prompts > 0, tokens, mask, share_prompts=sizes.share_prompts)
    reference = params if stage.needs_reference else None

    def learned(params: Any, carried: Any, reference: Any, rows: Rows, group: Group) -> Rows:
        arrays = step_arrays(group)
        if family.learner.reads_rows(reference, arrays):
            arrays |= family.learner.annotate(params, carried, reference, rows, arrays)
        running = {name: carried[name] for name in running_statistics(stage)}
        compared = family.learner.compare(arrays, running, 0, family.noise_key, 0)
        whole = family.learner.whole_batch(rows, compared.trained)
        return whole | {"row": jnp.zeros(rows["mask"].shape[:-1], jnp.int32)}

    batch = jax.eval_shape(learned, params, state.carried, reference, rows, group)
    part = sizes.sequences_per_step // sizes.sequences_per_update
    return rows, jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((x.shape[0] // part, *x.shape[1:]), x.dtype), batch
    )


def _pair_rows(context: Context, stage: Stage) -> tuple[Rows, Rows]:
    """Shapes of the rows of an update, and of its batch."""
    pairs, sides = stage.batch.sequences_per_update // len(SIDES), len(SIDES)
    prompts = np.zeros((pairs, context.config.data.max_prompt_tokens), np.int32)
    tokens = np.zeros((pairs, sides, stage.data["max_completion_tokens"]), np.int32)
    rows = rollout_rows(
        prompts, prompts > 0, tokens, tokens > 0, share_prompts=stage.batch.share_prompts
    )
    batch = lead_with_prompts(rows, sides) | {"weights": np.zeros(pairs, np.float32)}
    if stage.needs_reference:
        batch["ref_sequence_logprobs"] = np.zeros((pairs, sides), np.float32)
    if "ref_logprobs" in stage.objective.inputs:
        batch["ref_logprobs"] = np.zeros(tokens.shape, np.float32)
    return rows, batch


def _described(context: Context, arrays: Rows) -> Any:
    """Descriptions of rows over the mesh."""
    rows = batch_sharding(context.mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows), arrays)


def chip_bytes(tree: Any) -> int:
    """Bytes that one chip holds of arrays, or of descriptions of some with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
