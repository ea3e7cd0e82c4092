"""Sampling on the device, then text and scores on the host."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from rljax.data.encode import pad_prompts
from rljax.environments.record import ENDS
from rljax.models.network import Params
from rljax.parallel.host import to_host
from rljax.rewards.pool import Scores
from rljax.sampling.engine import Engine
from rljax.sampling.keys import call_offsets
from rljax.sampling.request import Requests, Rollouts, for_each_prompt
from rljax.training.collect.repetition import degenerate_share
from rljax.training.run.context import Context, Record
from rljax.training.run.phases import phase

# The version of weights that are no policy of the stage.
NO_VERSION = -1


class Samples(NamedTuple):
    """G samples of each of B prompts, on the host; N = B * G."""

    records: Sequence[Record]  # B
    prompt_texts: list[str]  # B
    prompts: np.ndarray  # [B, P] i32
    prompt_mask: np.ndarray  # [B, P] bool
    rollouts: Rollouts  # numpy, [B, G, T]
    versions: np.ndarray  # [B, G, T] i32, of the weights that drew each token (`Policy.version`)
    texts: list[str]  # N
    seconds: float  # of sampling
    episodes: list[dict[str, Any]] | None = None  # N (environments/record.py)

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
    """Some of the prompts, with all their samples."""
    texts, group = samples.texts, samples.samples_per_prompt
    return Samples(
        records=[samples.records[i] for i in index],
        prompt_texts=[samples.prompt_texts[i] for i in index],
        prompts=samples.prompts[index],
        prompt_mask=samples.prompt_mask[index],
        rollouts=jax.tree.map(lambda x: x[np.asarray(index, int)], samples.rollouts),
        versions=samples.versions[np.asarray(index, int)],
        texts=[text for i in index for text in texts[i * group : (i + 1) * group]],
        seconds=samples.seconds,
        episodes=None
        if samples.episodes is None
        else [each for i in index for each in samples.episodes[i * group : (i + 1) * group]],
    )


def join_samples(parts: Sequence[Samples]) -> Samples:
    """The samples of several calls, one behind the other."""

    def joined(*arrays: np.ndarray) -> np.ndarray:
        return np.concatenate(arrays)

    return Samples(
        records=[record for part in parts for record in part.records],
        prompt_texts=[text for part in parts for text in part.prompt_texts],
        prompts=np.concatenate([part.prompts for part in parts]),
        prompt_mask=np.concatenate([part.prompt_mask for part in parts]),
        rollouts=jax.tree.map(joined, *(part.rollouts for part in parts)),
        versions=np.concatenate([part.versions for part in parts]),
        texts=[text for part in parts for text in part.texts],
        seconds=sum(part.seconds for part in parts),
        episodes=None
        if parts[0].episodes is None
        else [episode for part in parts for episode in part.episodes],
    )


def take_scores(scores: Scores, index: np.ndarray) -> Scores:
    """The scores of some samples."""
    return map_scores(lambda values: values[index], scores)


def join_scores(parts: Sequence[Scores]) -> Scores:
    """The scores of several calls, one behind the other."""
    return map_scores(lambda *values: np.concatenate(values), *parts)


def map_scores(make: Callable[..., np.ndarray], *scores: Scores) -> Scores:
    """Scores whose arrays are made of those of others, and whose first error is the first one."""
    columns = [one._asdict() for one in scores]
    arrays = {
        name: make(*(column[name] for column in columns))
        for name in set(Scores._fields) - {"parts", "first_error"}
        if all(column[name] is not None for column in columns)
    }
    labels = scores[0].parts  # not jax.tree.map, which would sort them
    parts = {label: make(*(one.parts[label] for one in scores)) for label in labels}
    first_error = next((one.first_error for one in scores if one.first_error), None)
    return Scores(**arrays, parts=parts, first_error=first_error)


@phase("sampling")
def sample_texts(
    context: Context,
    engine: Engine,
    weights: Params,
    records: Sequence[Record],
    *,
    key: Array,
    step: int,
    version: int = 0,
    call: int = 0,
    most_prompts: int | None = None,
    behind: tuple[np.ndarray, np.ndarray] | None = None,
    temperature_slopes: Array | None = None,
    max_new_tokens: np.ndarray | None = None,
    noise_ids: Sequence[int] | None = None,
) -> Samples:
    """Samples completions for the prompts of `records`.

    Args:
        context: of the run.
        engine: `Context.make_engine`.
        weights: of the policy, `engine.load`.
        records: B problems with a stable "id".
        key: of a random stream (sampling/keys.py).
        step: counted over the run.
        version: of the weights.
        call: counts the calls of a step, so that a prompt that comes again gets other noise.
        most_prompts: of any call of the step; by default all have as many as this one.
        behind: other prompts that are sampled from, tokens [B, P'] and mask: the samples count as
            those of the problems' own prompts all the same.
        temperature_slopes: [4] f32 (`sloped_temperature`); None: the temperature is constant.
        max_new_tokens: [B, G] i32, of each sample; None: the engine's.
        noise_ids: see `noise_addresses`.
    """
    started = time.perf_counter()
    texts, prompts, prompt_mask = padded_prompts(context, records)
    addresses = noise_addresses(
        context, records, call=call, most_prompts=most_prompts, noise_ids=noise_ids
    )
    slopes = for_each_prompt(to_host(temperature_slopes), len(records))
    read = (prompts, prompt_mask) if behind is None else behind
    requests = Requests(*read, addresses, temperature_slopes=slopes, max_new_tokens=max_new_tokens)
    rollouts = engine.sample(weights, requests, key=key, step=step)
    tokens = rollouts.tokens.reshape(-1, rollouts.tokens.shape[-1])
    mask = rollouts.mask.reshape(tokens.shape)
    completions = [
        context.text_format.text(row[kept]) for row, kept in zip(tokens, mask, strict=True)
    ]
    versions = np.full(rollouts.mask.shape, version, np.int32)
    seconds = time.perf_counter() - started
    return Samples(records, texts, prompts, prompt_mask, rollouts, versions, completions, seconds)


def noise_addresses(
    context: Context,
    records: Sequence[Record],
    *,
    call: int = 0,
    most_prompts: int | None = None,
    noise_ids: Sequence[int] | None = None,
) -> np.ndarray:
    """[B] i32, where the noise of each prompt of a step is; of each call it is another place.

    Args:
        context: of the run.
        records: B problems.
        call: counts the calls of the step.
        most_prompts: of any call of the step; B by default.
        noise_ids: `distinct_ids` of the records, where these are only a part of the step's.
    """
    problems = len(context.train_problems)
    ids = distinct_ids([r["id"] for r in records], problems) if noise_ids is None else noise_ids
    offset = call_offsets(problems, most_prompts or len(ids), call + 1)[call]
    return np.asarray(ids, np.int32) + offset


def padded_prompts(
    context: Context, records: Sequence[Record]
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The prompts of problems: B texts, tokens [B, P] i32 padded on the left, mask [B, P] bool."""
    read = context.prompts(records)
    tokens, mask = pad_prompts(
        [prompt.tokens for prompt in read],
        context.tokenizer.pad_id,
        max_prompt_tokens=context.config.data.max_prompt_tokens,
    )
    return [prompt.text for prompt in read], tokens, mask


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


def require_rewards(scores: Scores, method: str) -> None:
    """Raises ValueError where a sample is left out, for methods that compare fixed sets."""
    if scores.left_out.any():
        raise ValueError(
            f"{int(scores.left_out.sum())} of {len(scores.total)} samples have no reward: none "
            f"applies to them, or it failed. {method} needs one for each; return a number instead "
            "of None (config.scoring.rewards, config.scoring.failed_samples)."
        )


@phase("scoring")
def score_texts(context: Context, samples: Samples) -> Scores:
    """What the run's rewards of text say of the N samples; one without a token is not asked, and 0.

    A tree leaves such rows where a node ends early. An episode without one has failed.
    """
    lengths = samples.flat("mask").sum(axis=1)
    present = (lengths > 0) | (samples.episodes is not None)
    rows = np.flatnonzero(present)
    prompts = rows // samples.samples_per_prompt
    references = context.references(samples.records)
    found = context.scorer.score(
        [samples.prompt_texts[prompt] for prompt in prompts],
        [samples.texts[row] for row in rows],
        [references[prompt] for prompt in prompts],
        lengths[rows].tolist(),
        None if samples.episodes is None else [samples.episodes[row] for row in rows],
    )
    return spread_scores(found, present, missing=0.0)


def spread_scores(scores: Scores, present: np.ndarray, *, missing: float) -> Scores:
    """Scores of some samples -> of all of them; of the others nothing is said, nor left out.

    Args:
        scores: of the samples that are present.
        present: [N] bool.
        missing: the number that the others get.
    """
    if present.all():
        return scores

    def spread(values: np.ndarray) -> np.ndarray:
        nothing = {"b": False, "O": ""}.get(values.dtype.kind, missing)  # "O": feedback
        whole = np.full(present.shape + values.shape[1:], nothing, values.dtype)
        whole[present] = values
        return whole

    return map_scores(spread, scores)


def rollout_metrics(samples: Samples, scores: Scores | None) -> dict[str, float]:
    """What a step's samples look like: lengths, truncation, rewards.

    Rows without a token are left out: a tree has some where a node ends early, and a player of
    several may never have been asked. An episode that has failed counts all the same.
    """
    episodes = episode_metrics(samples) if samples.episodes is not None else {}
    counts = samples.flat("mask").any(axis=1)
    if samples.episodes is not None:
        counts = counts | [each["end"] == "failed" for each in samples.episodes]
    written = np.flatnonzero(counts if scores is None else counts | scores.failed)
    if len(written) < len(samples.texts):
        names = ("mask", "stop_reason", "tokens")
        one = {name: samples.flat(name)[written, None] for name in names}
        samples = samples._replace(rollouts=samples.rollouts._replace(**one))
        scores = None if scores is None else take_scores(scores, written)
    mask = samples.flat("mask")
    metrics = {
        "completion_tokens": float(mask.sum(axis=1).mean()),
        "truncated_share": float(1.0 - samples.flat("finished").mean()),
        "degenerate_share": degenerate_share(
            [row[kept] for row, kept in zip(samples.flat("tokens"), mask, strict=True)]
        ),
    }
    metrics |= episodes
    if scores is None:
        return metrics
    metrics |= reward_metrics(scores)
    metrics["scoring_failures"] = float(scores.failed.sum())
    if left_out := int(scores.left_out.sum()):
        metrics["left_out_samples"] = float(left_out)
    return metrics


def episode_metrics(samples: Samples) -> dict[str, float]:
    """Turns of an episode, tokens that were inserted into it, and how episodes end."""
    ends = [episode["end"] for episode in samples.episodes]
    return measures_of(samples.episodes) | {
        "episode_turns": float(np.mean([len(each["turns"]) for each in samples.episodes])),
        "inserted_tokens": float(samples.flat("inserted").sum(axis=1).mean()),
        **{f"episodes_{end}": ends.count(end) / len(ends) for end in ENDS},
    }


def measures_of(episodes: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Means of what an environment has measured, each over the episodes that say something."""
    found: dict[str, list[float]] = {}
    for episode in episodes:
        for name, value in episode["measures"].items():
            found.setdefault(f"episode/{name}", []).append(value)
    return {name: float(np.mean(values)) for name, values in sorted(found.items())}


def reward_metrics(scores: Scores) -> dict[str, float]:
    """Means over the samples that have a reward, a verdict, a part; where none has, no number."""
    measured = {
        "reward": scores.total[~scores.left_out],
        "accuracy": scores.correct[scores.judged],
    }
    if scores.satisfied is not None:
        measured["constraints_satisfied"] = scores.satisfied
    if len(scores.parts) > 1:
        parts = scores.parts.items()
        measured |= {f"reward/{name}": part[~np.isnan(part)] for name, part in parts}
    return {name: float(values.mean()) for name, values in measured.items() if len(values)}
