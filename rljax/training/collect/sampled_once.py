"""Samples of the policy as it is at some step, drawn once and written to a file of the workdir.

They are read from there: so a run that was interrupted goes on with the same ones, whatever its
policy has become. A stage draws them before its first step, or again in every round of it.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rljax.config.stage import Stage
from rljax.data.batches import equal_batches
from rljax.data.sample_rules import Candidates
from rljax.models.network import Params
from rljax.parallel.rules import rows_divisor
from rljax.rewards.pool import Scores
from rljax.sampling.keys import Purpose, purpose_key
from rljax.training.collect.experience import Policy
from rljax.training.collect.hinted import hinted_samples
from rljax.training.collect.rewards import Reward, make_reward
from rljax.training.collect.rollouts import Samples, distinct_ids
from rljax.training.collect.samplers import ProblemSampler, drawn_samples, make_sampler
from rljax.training.run.context import Context

# Prompts sampled at once.
PROMPTS_PER_BATCH = 64


class Sampled(NamedTuple):
    """Some of the prompts, with their samples."""

    samples: Samples
    scores: Scores
    prompts: int  # the first so many; others fill the batch up
    hinted: "Sampled | None" = None  # of the same prompts, which showed the answer


class OfPrompt(NamedTuple):
    """The usable samples of one prompt: those that the verifiers did not fail on."""

    rows: list[int]  # of the N samples
    candidates: Candidates


class RoundSampler(NamedTuple):
    """What samples and scores a stage's problems; rounds with the same one compile nothing anew."""

    sampler: ProblemSampler
    reward: Reward


def round_sampler(context: Context, stage: Stage) -> RoundSampler:
    """The sampler and the reward of a stage.

    Args:
        context: of the stage, with the parameters of its models.
        stage: whose sampling settings and reward are taken.
    """
    sampler = make_sampler(
        context,
        samples_per_prompt=stage.batch.samples_per_prompt,
        max_new_tokens=stage.max_new_tokens,
        token_filter=stage.token_filter,
        stop_strings=stage.stop_strings,
    )
    return RoundSampler(sampler, make_reward(context, stage))


def sample_once(
    context: Context,
    stage: Stage,
    params: Params,
    places: Sequence[int],
    number: int = 0,
    hint_pattern: str = "",
    own: RoundSampler | None = None,
) -> Iterator[Sampled]:
    """Samples and scores some training problems, a batch after the other.

    Args:
        context: of the stage, with the parameters of its models.
        stage: whose sampling settings and reward are taken.
        params: all parameters of the policy.
        places: of the problems among those of training.
        number: of the round, from 0; each has noise of its own.
        hint_pattern: where there is one, prompts are sampled a second time behind it.
        own: sampler and reward of the stage, where other rounds have them too.
    """
    shards, count = rows_divisor(context.mesh), len(places)
    batch = shards * max(1, min(PROMPTS_PER_BATCH, count) // shards)
    sampler, reward = own or round_sampler(context, stage)
    weights = sampler.load(params)
    key = purpose_key(context.config.seed, Purpose.PAIRS)
    # Of the whole round: a problem that comes twice in it has other samples then.
    noise_ids = distinct_ids(places, len(context.train_problems))
    for indices in equal_batches(count, batch):
        here = [places[index] for index in indices]
        records = [{**context.train_problems[place], "id": place} for place in here]
        ids = [noise_ids[index] for index in indices]
        samples = drawn_samples(
            context, sampler, weights, records, key=key, step=number, noise_ids=ids
        )
        real, hinted = min(batch, count - indices[0]), None
        if hint_pattern:
            shown = hinted_samples(
                context, stage, sampler, weights, samples, hint_pattern, key=key, step=number
            )
            hinted = Sampled(shown, reward.score(shown), real)
        yield Sampled(samples, reward.score(samples), real, hinted)


def place_in_round(context: Context, number: int, count: int, index: int) -> int:
    """Which training problem is the so-many-th of a round: they come in turn, over all rounds."""
    return (number * count + index) % len(context.train_problems)


def by_prompt(found: Sampled, unfinished: str = "left_out") -> Iterator[OfPrompt]:
    """The usable samples of each of the prompts, in their order.

    Args:
        found: the samples.
        unfinished: what becomes of those that did not end: one of `UNFINISHED`.
    """
    samples, scores = found.samples, found.scores
    group, finished = samples.samples_per_prompt, samples.flat("finished")
    usable = (finished | (unfinished == "worst")) & ~scores.failed & ~scores.left_out
    right = finished & scores.judged & scores.correct
    wrong = scores.judged & ~scores.correct | ~finished
    satisfied = None if scores.satisfied is None else finished & scores.satisfied
    total = np.where(finished, scores.total, -np.inf).astype(np.float32)
    for b in range(found.prompts):
        rows = [n for n in range(b * group, (b + 1) * group) if usable[n]]
        kept = None if satisfied is None else satisfied[rows]
        yield OfPrompt(rows, Candidates(total[rows], right[rows], wrong[rows], kept))


def prompt_columns(samples: Samples, n: int) -> dict[str, Any]:
    """What a file says of the prompt of sample n: its text, its ids and which problem it is."""
    b = n // samples.samples_per_prompt
    return {
        "prompt": samples.prompt_texts[b],
        "prompt_tokens": samples.prompts[b][samples.prompt_mask[b]].tolist(),
        "problem": samples.records[b]["id"],
    }


def answer_columns(samples: Samples, n: int, name: str) -> dict[str, Any]:
    """What a file says of sample n: its text, and the ids that were sampled.

    Of an episode it is the text of the last reply, the ids of replies and answers with a mask that
    is 1 on the former, and the messages of the whole conversation.
    """
    read = read_tokens(samples)[n]
    columns = {name: samples.texts[n], f"{name}_tokens": samples.flat("tokens")[n][read].tolist()}
    if samples.episodes is None:
        return columns
    mask = samples.flat("mask")[n][read].astype(int).tolist()
    return {**columns, f"{name}_mask": mask, "messages": samples.episodes[n]["messages"]}


def read_tokens(samples: Samples) -> np.ndarray:
    """[N, T] bool, the slots of each completion that are read: sampled, or inserted."""
    mask = samples.flat("mask")
    return mask if samples.rollouts.inserted is None else mask | samples.flat("inserted")


class Rounds:
    """The rounds of a stage, each of equally many steps, and the rows that each of them samples.

    The policy samples in the first step of a round, before it learns anything there.
    """

    def __init__(
        self,
        context: Context,
        stage: Stage,
        start: Params | None,
        folder: str,
        make: Callable[[Params, int], Sequence[Mapping[str, Any]]],
    ) -> None:
        """Samples nothing yet.

        Args:
            context: of the stage.
            stage: that samples its own rows.
            start: all parameters that the stage starts from, where they are kept.
            folder: of the workdir, in which the rows are kept.
            make: (parameters, number of the round) to rows.
        """
        self.context, self.stage, self.start, self.make = context, stage, start, make
        self.folder, self.rounds = context.workdir / folder, stage.data.get("rounds", 1)
        self.steps = stage.steps // self.rounds

    def number(self, step: int) -> int:
        """The round of a step (from 1), counted from 0."""
        return (step - 1) // self.steps

    def begins(self, step: int) -> bool:
        """Whether a round begins with this step."""
        return (step - 1) % self.steps == 0

    def path(self, number: int) -> Path:
        """Where the rows of a round lie: STAGE.jsonl, or of several rounds STAGE-ROUND.jsonl."""
        name = self.stage.name if self.rounds == 1 else f"{self.stage.name}-{number + 1}"
        return self.folder / f"{name}.jsonl"

    def file(self, policy: Policy, step: int) -> Path:
        """The rows of the round of a step, sampled unless they are there.

        Raises:
            ValueError: if they were lost, and the policy that drew them with them.
        """
        number = self.number(step)
        path, first = self.path(number), number == 0
        kept = self.start if first else None
        if kept is None and not self.begins(step) and not path.exists():
            raise ValueError(
                f"{path} is gone, and the policy that sampled it has moved on to step {step}: put "
                "the file back, or start in a new workdir "
                f"(config.{self.stage.name}.data.source)."
            )
        params = policy.params if kept is None else kept
        return written_once(self.context, path, lambda: self.make(params, number))


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
