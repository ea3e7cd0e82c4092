"""Sampling on the device, then text and scores on the host."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from rljax.data.encode import encode_prompts
from rljax.models.network import Params
from rljax.rewards.pool import Scores
from rljax.sampling.engine import Engine
from rljax.sampling.request import Requests, Rollouts, for_each_prompt
from rljax.training.run.context import Context, Record


class Samples(NamedTuple):
    """G samples of each of B prompts, on the host; N = B * G."""

    records: Sequence[Record]  # B
    prompt_texts: list[str]  # B
    prompts: np.ndarray  # [B, P] i32
    prompt_mask: np.ndarray  # [B, P] bool
    rollouts: Rollouts  # numpy, [B, G, T]
    texts: list[str]  # N
    seconds: float  # of sampling

    @property
    def samples_per_prompt(self) -> int:
        """G."""
        return self.rollouts.tokens.shape[1]

    def flat(self, name: str) -> np.ndarray:
        """A field of the rollouts as [N, ...]."""
        array = getattr(self.rollouts, name)
        return array.reshape(-1, *array.shape[2:])

    def repeated(self, values: Sequence[Any]) -> list[Any]:
        """B values -> N values, one per sample."""
        return [value for value in values for _ in range(self.samples_per_prompt)]


def take_prompts(samples: Samples, index: Sequence[int]) -> Samples:
    """Those of some prompts, with all their samples."""
    texts, group = samples.texts, samples.samples_per_prompt
    return Samples(
        records=[samples.records[i] for i in index],
        prompt_texts=[samples.prompt_texts[i] for i in index],
        prompts=samples.prompts[index],
        prompt_mask=samples.prompt_mask[index],
        rollouts=jax.tree.map(lambda x: x[np.asarray(index, int)], samples.rollouts),
        texts=[text for i in index for text in texts[i * group : (i + 1) * group]],
        seconds=samples.seconds,
    )


def join_samples(parts: Sequence[Samples]) -> Samples:
    """Those of the prompts of several calls, one behind the other."""
    concatenate = lambda *arrays: np.concatenate(arrays)  # noqa: E731
    return Samples(
        records=[record for part in parts for record in part.records],
        prompt_texts=[text for part in parts for text in part.prompt_texts],
        prompts=np.concatenate([part.prompts for part in parts]),
        prompt_mask=np.concatenate([part.prompt_mask for part in parts]),
        rollouts=jax.tree.map(concatenate, *(part.rollouts for part in parts)),
        texts=[text for part in parts for text in part.texts],
        seconds=sum(part.seconds for part in parts),
    )


def take_scores(scores: Scores, index: np.ndarray) -> Scores:
    """Those of some samples."""
    parts = {name: values[index] for name, values in scores.parts.items()}
    return Scores(scores.total[index], parts, scores.failed[index], scores.first_error)


def join_scores(parts: Sequence[Scores]) -> Scores:
    """Those of several calls, one behind the other."""
    errors = [part.first_error for part in parts if part.first_error]
    return Scores(
        np.concatenate([part.total for part in parts]),
        {name: np.concatenate([part.parts[name] for part in parts]) for name in parts[0].parts},
        np.concatenate([part.failed for part in parts]),
        errors[0] if errors else None,
    )


def sample_texts(
    context: Context,
    engine: Engine,
    weights: Params,
    records: Sequence[Record],
    *,
    key: Array,
    step: int,
    epoch: int = 0,
    temperature_slopes: Array | None = None,
) -> Samples:
    """Samples completions for the prompts of `records`.

    Args:
        context: of the run.
        engine: `Context.make_engine`.
        weights: of the policy, `engine.load`.
        records: B problems with a stable "id".
        key: of a random stream (sampling/keys.py).
        step: counted over the run.
        epoch: counts the calls of a step, so that a prompt that comes again gets other noise.
        temperature_slopes: [4] f32 (`sloped_temperature`); None: the temperature is constant.
    """
    started = time.perf_counter()
    texts = context.prompt_texts(records)
    ids = [record["id"] for record in records]
    prompts, prompt_mask = encode_prompts(
        texts,
        context.tokenizer,
        max_prompt_tokens=context.config.data.max_prompt_tokens,
        ids=ids,
        add_bos=context.config.tokenizer.add_bos,
    )
    problems = len(context.train_problems)
    noise_ids = np.asarray(distinct_ids(ids, problems), np.int32) + epoch * problems * len(ids)
    slopes = for_each_prompt(jax.device_get(temperature_slopes), len(ids))
    requests = Requests(prompts, prompt_mask, noise_ids, temperature_slopes=slopes)
    rollouts = engine.sample(weights, requests, key=key, step=step)
    tokens = rollouts.tokens.reshape(-1, rollouts.tokens.shape[-1])
    mask = rollouts.mask.reshape(tokens.shape)
    completions = [
        context.tokenizer.decode(row[kept]) for row, kept in zip(tokens, mask, strict=True)
    ]
    seconds = time.perf_counter() - started
    return Samples(records, texts, prompts, prompt_mask, rollouts, completions, seconds)


def distinct_ids(ids: Sequence[int], count: int) -> list[int]:
    """Ids for the sampler's noise: the n-th repetition of an id in a step counts as id + n * count.

    Where a step reaches over the end of an epoch a prompt can be in it twice, and its samples
    should not be the same ones. Example: ids 3 7 3 of 10 prompts become 3 7 13.
    """
    seen: Counter[int] = Counter()
    distinct = []
    for prompt_id in ids:
        distinct.append(prompt_id + seen[prompt_id] * count)
        seen[prompt_id] += 1
    return distinct


def score_samples(context: Context, samples: Samples) -> tuple[Scores, float]:
    """Scores all samples; returns the scores [N] and the seconds it took."""
    started = time.perf_counter()
    scores = context.scorer.score(
        samples.repeated(samples.prompt_texts),
        samples.texts,
        samples.repeated(context.references(samples.records)),
        samples.flat("mask").sum(axis=1).tolist(),
    )
    return scores, time.perf_counter() - started


def rollout_metrics(samples: Samples, scores: Scores | None) -> dict[str, float]:
    """What a step's samples look like: lengths, truncation, rewards."""
    metrics = {
        "completion_tokens": float(samples.flat("mask").sum(axis=1).mean()),
        "truncated_share": float(1.0 - samples.flat("finished").mean()),
    }
    if scores is None:
        return metrics
    metrics["reward"] = float(scores.total.mean())
    metrics["accuracy"] = float(scores.correct.mean())
    metrics["scoring_failures"] = float(scores.failed.sum())
    if len(scores.parts) > 1:
        metrics |= {f"reward/{name}": float(part.mean()) for name, part in scores.parts.items()}
    return metrics
