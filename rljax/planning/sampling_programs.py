"""The programs that sample a step's completions, and those that make their weights."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rljax.config.stage import Stage
from rljax.models.network import Params
from rljax.parallel.rules import batch_sharding, replicated, rows_divisor
from rljax.planning.further_calls import Call, further_calls
from rljax.planning.program import (
    GREEDY_SAMPLING,
    SAMPLING,
    TEACHER_SAMPLING,
    Program,
    chip_bytes,
)
from rljax.planning.sampler_loops import sampler_loops
from rljax.planning.useful import sampler_calls
from rljax.sampling.engine import Engine, bucket
from rljax.sampling.request import Requests
from rljax.training.collect.greedy import GreedyScores
from rljax.training.collect.mixed import MixedExperience, TeacherExperience
from rljax.training.collect.sampled import WholeRollouts
from rljax.training.collect.sources import stage_engine
from rljax.training.families import Family
from rljax.training.run.context import Context
from rljax.training.update.state import placed


def sampling_programs(
    context: Context, stage: Stage, family: Family, params: Params
) -> tuple[dict[str, Program], dict[str, int]]:
    """What a step samples with the policy, and with a teacher that writes for it.

    Args:
        context: of the stage.
        stage: that samples.
        family: of the stage.
        params: of the policy, described.

    Returns:
        The programs; and bytes on a chip of weights that the sampler keeps all step long.

    Raises:
        ValueError: for rollouts that are no whole completions.
    """
    programs: dict[str, Program] = {}
    kept = {}
    for rollouts, share, teacher in _sources(family.source):
        engine = rollouts.sampler if isinstance(rollouts, WholeRollouts) else None
        if not isinstance(engine, Engine):
            chosen = stage.objective.choices["rollouts"]
            raise ValueError(
                f"The rollouts of stage {stage.name} are {chosen!r}: only whole completions can be "
                f"planned (config.{stage.name}.objective.rollouts)."
            )
        if teacher is None:
            programs |= _of_policy(context, stage, rollouts, params, share)
            programs |= _again(context, stage, family.source, params)
        else:
            # It is loaded once in a run, and stays.
            program, weights = _sample(context, stage, rollouts, teacher, share, TEACHER_SAMPLING)
            programs[TEACHER_SAMPLING] = program
            kept[TEACHER_SAMPLING] = chip_bytes(weights)
    return programs, kept


def waiting_copies(given: ConfigDict) -> int:
    """Copies of weights that wait on chips of the sampler's own, beside those in use.

    Those that pass through host memory or files wait there (training/ahead/transfer.py).

    Args:
        given: config.asynchronous.
    """
    if given.transfer != "direct":
        return 0
    return max(given.max_staleness, 1) if given.schedule == "fixed" else 1


def _sources(source: Any) -> Iterator[tuple[Any, float, Params | None]]:
    """Rollouts, the share of the steps that ask them, and the parameters of a teacher's."""
    if not isinstance(source, MixedExperience):
        yield getattr(source, "rollouts", None), 1.0, None
        return
    share = source.mixture.share if source.other is not None else 1.0
    if share > 0:
        yield source.own.rollouts, share, None
    if share < 1 and isinstance(source.other, TeacherExperience):
        yield source.other.sampled.rollouts, 1 - share, source.other.teacher.params


def _of_policy(
    context: Context, stage: Stage, rollouts: WholeRollouts, params: Params, share: float
) -> dict[str, Program]:
    """The sampler's program, and that which makes its weights."""
    engine, own = rollouts.sampler, context.own_sampler_mesh is not None
    places = engine.shardings(params)

    def load() -> Any:  # what goes to chips of its own leaves them from where it is (transfer.py)
        outs = None if own else places
        return jax.jit(engine.prepared, out_shardings=outs).lower(params)

    program, _ = _sample(context, stage, rollouts, params, share * sampler_calls(stage))
    return {"load": Program(load, share, held=("parameters",)), SAMPLING: program}


def _again(context: Context, stage: Stage, source: Any, params: Params) -> dict[str, Program]:
    """What a step samples besides; see `further_calls`."""
    found = {}
    for name, call in further_calls(stage).items():
        if name == GREEDY_SAMPLING:
            greedy = (each for each in source.annotators if isinstance(each, GreedyScores))
            rollouts = next(greedy).rollouts
        else:
            engine = stage_engine(context, stage, samples=call.samples)
            rollouts = WholeRollouts(context, engine, key=source.rollouts.key, first_step=0)
        found[name], _ = _sample(context, stage, rollouts, params, call.times, call=call)
    return found


def _sample(
    context: Context,
    stage: Stage,
    rollouts: WholeRollouts,
    params: Params,
    share: float,
    held: str = "",
    call: Call | None = None,
) -> tuple[Program, Params]:
    """The program of a sampler, of all prompts of a step or of a call; its weights described."""
    engine, own = rollouts.sampler, context.own_sampler_mesh is not None
    mesh, key = engine.mesh, rollouts.key
    shards = rows_divisor(mesh)
    asked = stage.batch.prompts_per_step if call is None else call.prompts
    count = math.ceil(asked / shards) * shards
    slots = bucket(context.config.data.max_prompt_tokens + (0 if call is None else call.hint))
    rows, whole = batch_sharding(mesh), replicated(mesh)
    shapes = jax.eval_shape(engine.prepared, params)
    weights = jax.tree.map(placed, shapes, engine.shardings(params))
    requests = Requests(
        jax.ShapeDtypeStruct((count, slots), jnp.int32, sharding=rows),
        jax.ShapeDtypeStruct((count, slots), jnp.bool_, sharding=rows),
        jax.ShapeDtypeStruct((count,), jnp.int32, sharding=rows),
    )
    number = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
    seed = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=whole)

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
    program = Program(
        sample,
        share,
        held=(held,) if held else (),
        assumed=loops,
        mesh=mesh,
        side="sampler" if own else "trainer",
        waiting=waiting_copies(context.config.asynchronous) * chip_bytes(weights) if own else 0,
        taken_in=chip_bytes(weights) if own else 0,
    )
    return program, weights
