"""A program of a step as a plan sees it: how it is lowered, and what it finds on a chip."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.sharding import Mesh

from rljax.parallel.rules import batch_sharding
from rljax.training.update.rows import Rows

# Phases that sample: with the policy, what the first samples ask for, again behind hints, greedily,
# and with a teacher.
SAMPLING, FURTHER_SAMPLING, GUIDED_SAMPLING = "sampling", "further_sampling", "guided_sampling"
GREEDY_SAMPLING, TEACHER_SAMPLING = "greedy_sampling", "teacher_sampling"
SAMPLERS = (SAMPLING, FURTHER_SAMPLING, GUIDED_SAMPLING, GREEDY_SAMPLING, TEACHER_SAMPLING)
# The critic's values of prompts that may be sampled; gradient norms of samples that are right.
PROMPT_VALUES, GRADIENT_NORMS = "prompt_values", "gradient_norms"


@dataclasses.dataclass(frozen=True)
class Program:
    """A program of a step.

    Attributes:
        lower: gives its `jax.stages.Lowered`; called with its mesh set.
        times: how often a step runs it, in mean over the steps.
        held: which of `Run.resident` are among its arguments.
        assumed: how often loops run whose end depends on data (costs.py).
        mesh: that it runs on, over the same devices; None: the trainer's.
        side: "trainer", or "sampler" where chips of their own sample.
        waiting: bytes on a chip of the sampler's next weights, beside those in use.
        taken_in: bytes of weights that a chip of the sampler's own takes in.
    """

    lower: Callable[[], Any]
    times: float
    held: tuple[str, ...]
    assumed: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    mesh: Mesh | None = None
    side: str = "trainer"
    waiting: int = 0
    taken_in: int = 0


def lowered(program: Any, *given: Any) -> Any:
    """A jitted function lowered; one that chooses between several is jitted around them."""
    return (program if hasattr(program, "lower") else jax.jit(program)).lower(*given)


def described(mesh: Mesh, arrays: Rows) -> Any:
    """Descriptions of rows over a mesh."""
    rows = batch_sharding(mesh)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows), arrays)


def chip_bytes(tree: Any) -> int:
    """Bytes that one chip holds of arrays, or of descriptions of some with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
