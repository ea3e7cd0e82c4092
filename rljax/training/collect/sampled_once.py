"""Samples of the policy that a stage starts from, taken once, before its first step.

They are written to a file of the workdir and read from there: so a run that was interrupted goes on
with the same ones, whatever its policy has become.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rljax.config.stage import Stage
from rljax.data.batches import equal_batches
from rljax.models.network import Params
from rljax.parallel.rules import rows_divisor
from rljax.rewards.pool import Scores
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.collect.rollouts import Samples, sample_texts, score_texts
from rljax.training.run.context import Context

# Prompts sampled at once.
PROMPTS_PER_BATCH = 64


class Sampled(NamedTuple):
    """Some of the prompts, with their samples."""

    samples: Samples
    scores: Scores
    prompts: int  # the first so many; others fill the batch up


def sample_once(context: Context, stage: Stage, params: Params, count: int) -> Iterator[Sampled]:
    """Samples and scores the first training problems, a batch after the other.

    Args:
        context: of the run.
        stage: whose sampling settings are taken.
        params: all parameters of the policy.
        count: problems.
    """
    shards = rows_divisor(context.mesh)
    batch = shards * max(1, min(PROMPTS_PER_BATCH, count) // shards)
    engine = context.make_engine(
        samples_per_prompt=stage.batch.samples_per_prompt,
        max_new_tokens=stage.max_new_tokens,
        token_filter=stage.token_filter,
        stop_strings=stage.stop_strings,
    )
    weights = engine.load(params)
    key = purpose_key(context.config.seed, Purpose.PAIRS)
    for indices in equal_batches(count, batch):
        records = [{**context.train_problems[index], "id": index} for index in indices]
        samples = sample_texts(context, engine, weights, records, key=key, step=0)
        yield Sampled(samples, score_texts(context, samples), min(batch, count - indices[0]))


def written_once(
    context: Context, path: Path, make: Callable[[], Sequence[Mapping[str, Any]]]
) -> Path:
    """Writes rows as JSONL unless the file is there; it appears only when it is complete."""
    # Process 0 looks for all: they must agree, and a shared disk would remember the answer "no".
    there = context.processes.is_first and path.exists()
    if context.processes.gather_json(f"{path.name} is there", there)[0]:
        return path
    rows = make()
    if context.processes.is_first:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        os.replace(part, path)
    context.processes.barrier(f"{path.name} written")
    return path


def check_there(path: Path, step: int, stage: Stage) -> None:
    """Raises ValueError where the samples were lost, and the policy that drew them with them."""
    if step > 1 and not path.exists():
        raise ValueError(
            f"{path} is gone, and the policy that sampled it has moved on to step {step}: put "
            f"the file back, or start in a new workdir (config.{stage.name}.data.source)."
        )
