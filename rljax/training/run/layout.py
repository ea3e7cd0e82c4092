"""Which layout the rows of a stage have, once model and mesh are known."""

import dataclasses
from collections.abc import Sequence

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rljax.config.stage import Stage
from rljax.models.attention import check_group, platform, resolve_kernel
from rljax.models.config import ModelConfig
from rljax.parallel.rules import rows_divisor


def choose_layouts(
    config: ConfigDict, stages: Sequence[Stage], model: ModelConfig, mesh: Mesh
) -> tuple[Stage, ...]:
    """Decides `batch.share_prompts` where the config leaves it open.

    Prompts are shared where the groups of a micro-batch divide over the shards of rows, and where
    attention would hold its scores anyway: a fused kernel serves separate rows only, and long
    completions gain more from it than from computing the prompt once. A network that sees both ways
    has separate rows: in a group its completions would see each other. The loss, its gradient and
    the samples of each update are the same in both layouts (but see training/update/balancing.py).

    Raises:
        ValueError: for prompts that are to be shared under a kernel that cannot, or a kernel that
            cannot be used here.
    """
    with jax.set_mesh(mesh):
        fused = resolve_kernel(model, platform(), slots=2) != "dense"  # 2: some even number
    chosen = []
    for stage in stages:
        batch = stage.batch
        if batch.share_prompts and config[stage.name].batch.share_prompts:
            check_group(model)
        elif batch.share_prompts:
            groups = batch.sequences_per_micro_batch // stage.sequences_together(shared=True)
            fits = groups % rows_divisor(mesh) == 0 and not fused and model.causal
            batch = dataclasses.replace(batch, share_prompts=fits)
        chosen.append(dataclasses.replace(stage, batch=batch))
    return tuple(chosen)
